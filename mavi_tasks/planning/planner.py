"""Items x prompts x models -> requests with keys, minus what is already answered, spooled in shards.

One pass over the manifest, in batches, before anything is sent: every problem of the input shows here, and a
million requests take disk (spool.py), not memory. What becomes of each request:

    to send            a line of a shard
    skipped            its row cannot be asked, or its model cannot take the media: a row, unless there is one
    copied             another row sends the very same request: it gets that answer, and nothing is paid;
                       or its own answer is hidden by one to a text that the prompt had meanwhile
    already answered   counted
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mavi_tasks import estimate, manifest
from mavi_tasks.common.money import pico, usd
from mavi_tasks.job import Job
from mavi_tasks.manifest import Item
from mavi_tasks.media import Media, MediaOptions, ProbeCache, Refusal, Unit, identify, known
from mavi_tasks.media.probe_index import ProbeIndex
from mavi_tasks.media.types import Kind
from mavi_tasks.media.urls import shown, stored
from mavi_tasks.planning import kept_columns, other_texts, spool
from mavi_tasks.planning.bad_rows import BadRows
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.other_texts import OtherTexts
from mavi_tasks.planning.request import Request, copy_key
from mavi_tasks.planning.selection import Only, Selection, select
from mavi_tasks.planning.spool import Plan, SpoolWriter
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.prompts.templates import MediaView, Prompts
from mavi_tasks.storage import damage
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, RepeatedKeys, row_fingerprint

READERS: Final = 4  # threads that hash and probe local media
READ_AT_ONCE: Final = (
    16  # files a thread is given: one by one, handing them over costs as much as reading them
)
REFUSALS_SHOWN: Final = 1000
NO_TOKENS: Final = (0, 0)  # of a request that is not sent
NO_VIEW: Final = MediaView(kind="text", name="", uri="", count=0)  # for prompts that do not look at it

# Called for every request that will be sent, and whether it has an answer to another text of the prompt: the
# estimate adds them up.
OnRequest = Callable[[ModelTarget, Request, bool], None]
# Called with the plan as it grows, after every batch of items.
OnProgress = Callable[[Plan], None]


def make_plan(
    context: RunContext,
    *,
    retry_invalid: bool = False,
    pay_again: bool = False,
    only: Only = None,
    probes: ProbeCache | None = None,
    on_request: OnRequest | None = None,
    on_progress: OnProgress | None = None,
) -> Plan:
    """Plan a run. Raises InputError with every problem of the manifest, its prompts and templates at once.

    only: the rows that are asked, or how `--only` names them (selection.py); None = all. Raises StorageError
    when paid answers are lost to damage, unless `pay_again`: then the damaged files are set aside, and what
    they held is asked again. Nothing is sent. The index of media that were read is kept in the dataset, when
    that is there.
    """
    root = context.dataset.root
    kept_columns.check(context.job)
    _look_at_damage(context, pay_again=pay_again)
    selection = select(only, context) if isinstance(only, str) else only
    with ProbeIndex(root / "_library", keep=root.is_dir()) as index:
        plan = Plan.empty(context.plan_folder, context.targets)
        plan.held = spool.hold(plan.folder)
        try:
            planner = _Planner(
                context, plan, probes or ProbeCache(index), retry_invalid, on_request, selection
            )
            planner.fill(on_progress)
            if selection is not None:
                selection.finish()
                plan.only = selection.name
                plan.notes += selection.notes
        except BaseException as error:
            plan.discard()
            if (full := spool.no_room(plan.folder, error)) is not None:
                raise full from error
            raise
    return plan


def _look_at_damage(context: RunContext, *, pay_again: bool) -> None:
    root = context.dataset.root
    if context.scratch is not None:  # only a plan
        damage.report(root)
    elif pay_again:
        damage.settle(root)
    else:
        damage.require_settled(root)


class _Planner:
    """Fills a plan from the manifest, batch by batch."""

    def __init__(
        self,
        context: RunContext,
        plan: Plan,
        probes: ProbeCache,
        retry_invalid: bool,
        on_request: OnRequest | None,
        selection: Selection | None,
    ) -> None:
        self._context, self._plan, self._probes = context, plan, probes
        self._selection = selection
        self._repeats = range(1, context.job.repeat + 1)
        self._problems = manifest.Problems()
        self._bad_rows = BadRows(context.job, self._problems, selected=selection is not None)
        self._prompts = Prompts(context.job.prompts, context.job.columns, self._problems)
        answered = AnsweredIndex.read(context.dataset.root)
        again = {AnswerState.NOTHING, AnswerState.SKIPPED, AnswerState.SKIPPED_FOR_ANOTHER} | (
            {AnswerState.INVALID} if retry_invalid else set()
        )
        others = other_texts.read(context.dataset.root, context.endpoint.identity, context.targets)
        self._models = [
            ModelPlanner(
                plan, target, answered, others[target.model], frozenset(again), context.job, on_request
            )
            for target in context.targets
        ]

    def fill(self, on_progress: OnProgress | None) -> None:
        try:
            with ThreadPoolExecutor(READERS, "media-probe") as pool:
                identifier = _Identifier(self._context.options, self._probes, pool)
                for batch in self._batches():
                    self._take(self._selected(batch), identifier)
                    if on_progress is not None:
                        on_progress(self._plan)
            self._prompts.finish(skip_bad=self._bad_rows.skip)
            self._bad_rows.finish()
            if self._plan.to_restate:
                self._plan.notes.append(
                    f"{self._plan.to_restate:,} answers are to another text of their prompt; the answers to "
                    "this one are there already, and count again: they cost nothing"
                )
        finally:
            for model in self._models:
                model.close()

    def _batches(self) -> Iterator[list[Item]]:
        job = self._context.job
        return manifest.read(
            job.manifest,
            job.columns,
            limit=job.limit,
            problems=self._problems,
            order=job.order,
            since=job.since_at(datetime.now(UTC)),
            variables=None if self._prompts.used is None else {*self._prompts.used, *job.keep_columns},
            skip_bad=self._bad_rows.skip,
        )

    def _selected(self, batch: Sequence[Item]) -> Sequence[Item]:
        """The items that any model is asked about: the media of others are not even looked at."""
        selection = self._selection
        return batch if selection is None else [item for item in batch if selection.has_item(item.item_id)]

    def _take(self, batch: Sequence[Item], identifier: "_Identifier") -> None:
        drafts: list[_Draft] = []
        for item, units in zip(batch, identifier.identify(batch), strict=True):
            why = next((unit for unit in units if isinstance(unit, Refusal)), None)
            if item.refusal is not None:
                drafts += [(item, units, prompt_id, "", 1) for prompt_id in self._prompts.ids(item)]
            else:
                view = NO_VIEW if self._prompts.constant else _view(item, units)
                for prompt_id, text in self._prompts.render(item, view):
                    if isinstance(text, str):
                        drafts += [(item, units, prompt_id, text, again) for again in self._repeats]
                    else:
                        drafts.append((item, (*units, text), prompt_id, "", 1))
                        why = why or (text if self._bad_rows.skip else None)  # else `finish` tells it
            self._bad_rows.add(item, why)
        self._plan.items += len(batch)
        for model in self._models:
            model.take(self._drafts_of(model.target.model, drafts))

    def _drafts_of(self, model: str, drafts: Sequence["_Draft"]) -> Sequence["_Draft"]:
        selection = self._selection
        if selection is None:
            return drafts
        return [draft for draft in drafts if selection.takes(model, (draft[0].item_id, draft[2]))]


class _Identifier:
    """References to media -> their identities; local files are read in threads."""

    def __init__(self, options: MediaOptions, probes: ProbeCache, pool: ThreadPoolExecutor) -> None:
        self._options, self._probes, self._pool = options, probes, pool

    def identify(self, batch: Sequence[Item]) -> list[tuple[Unit, ...]]:
        refs = [(ref, _kind(item)) for item in batch if item.refusal is None for ref in item.media]
        each = iter(self._units(refs))
        return [
            tuple(_with_etag(next(each), item) for _ in item.media)
            if item.refusal is None
            else (item.refusal,)
            for item in batch
        ]

    def _units(self, refs: Sequence[tuple[str, Kind | None]]) -> list[Unit]:
        found = known(refs, self._options, self._probes)
        unread = [ref for ref, unit in zip(refs, found, strict=True) if unit is None]
        chunks = [unread[start : start + READ_AT_ONCE] for start in range(0, len(unread), READ_AT_ONCE)]
        read = iter([unit for units in self._pool.map(self._read, chunks) for unit in units])
        return [next(read) if unit is None else unit for unit in found]

    def _read(self, refs: Sequence[tuple[str, Kind | None]]) -> list[Unit]:
        return [identify(ref, self._options, self._probes, kind) for ref, kind in refs]


def _with_etag(unit: Unit, item: Item) -> Unit:
    """A remote media is another one when its content mark (the media_etag column) is another."""
    etag = item.variables.get("media_etag")
    if not etag or not isinstance(unit, Media) or unit.place not in ("url", "s3"):
        return unit
    return unit._replace(identity=f"{unit.identity}#etag={etag}")


def _kind(item: Item) -> Kind | None:
    kind = item.variables.get("media_kind")
    return kind if kind in ("image", "video") else None


def _view(item: Item, units: Sequence[Unit]) -> MediaView:
    first = units[0] if units else None
    kind = first.kind if isinstance(first, Media) else "media"
    uri = first.uri if isinstance(first, Media) else (stored(item.media[0])[:500] if item.media else "")
    return MediaView(kind=kind if units else "text", name=uri.rsplit("/", 1)[-1], uri=uri, count=len(units))


_Draft = tuple[Item, tuple[Unit, ...], str, str, int]  # the item, its media, prompt_id, text, repeat


class ModelPlanner:
    """Sorts one model's requests: to send, refused, copied, already answered."""

    def __init__(
        self,
        plan: Plan,
        target: ModelTarget,
        answered: AnsweredIndex,
        others: OtherTexts,
        again: frozenset[AnswerState],
        job: Job,
        on_request: OnRequest | None,
    ) -> None:
        self.plan, self.target, self.answered, self.again = plan, target, answered, again
        self.others = others
        self.counters = plan.all_counters[target.model]
        self.on_request = on_request
        self._keep = job.keep_columns
        most = job.max_cost_per_item_usd
        self.most_pico = pico(most) if most is not None else None
        self._repeated = RepeatedKeys()
        self._skips = plan.skips.setdefault(target.model, Counter())
        self._spool = SpoolWriter(plan, target, job.shard_size)
        plan.to_send[target.model] = 0

    def take(self, drafts: Sequence[_Draft]) -> None:
        if not drafts:
            return
        keys = [self._key(units, text, again) for _, units, _, text, again in drafts]
        rows = [row_fingerprint(item.item_id, prompt_id) for item, _, prompt_id, _, _ in drafts]
        states = self.answered.look_up(keys, rows)
        repeated = self._repeated.add(keys)
        self.counters.requests += len(drafts)
        for draft, key, state, again in zip(drafts, keys, states, repeated, strict=True):
            if state is AnswerState.ANSWERED and not self._hidden(draft):
                self.counters.already_answered += 1
            else:
                self._sort(draft, key, state, again)

    def _key(self, units: Sequence[Unit], text: str, again: int) -> str:
        return self.target.key(text, [u if isinstance(u, Media) else _nameless(u) for u in units], again)

    def _hidden(self, draft: _Draft) -> bool:
        item, _, prompt_id, _, _ = draft
        return self.others.hides(item.item_id, prompt_id)

    def _sort(self, draft: _Draft, key: str, state: AnswerState, repeated: bool) -> None:
        item, units, prompt_id, text, again = draft
        route = self.target.route(units)
        media_items = tuple(u for u in units if isinstance(u, Media))
        sendable = state in self.again and not isinstance(route, Refusal)
        tokens = self._tokens(text, media_items) if sendable else NO_TOKENS
        kept = kept_columns.of(item, self._keep)
        request = Request(
            key, item.item_id, prompt_id, text, media_items, item.truth, *tokens, item.cluster, again, kept
        )
        paid = state in (AnswerState.ANSWERED, AnswerState.INVALID)
        if isinstance(route, Refusal) and not paid:
            seen = media_items or tuple(_nameless(route, ref) for ref in item.media[:1])
            self._refuse(replace(request, media_items=seen), route, state, repeated)
        elif state in (AnswerState.ANSWERED, AnswerState.ANSWERED_FOR_ANOTHER):
            self._copy(request)
        elif sendable:
            too_dear = self._too_dear(request)
            if too_dear is not None:
                self._refuse(request, too_dear, state, repeated)
            elif repeated:
                self._copy(request)
            else:
                self._send(request)
        else:
            self.counters.already_answered += 1
            self.counters.invalid_before += state is AnswerState.INVALID

    def _too_dear(self, request: Request) -> Refusal | None:
        cost, most = self.target.max_cost_pico(request.max_input_tokens), self.most_pico
        if most is None or cost is None or cost <= most:
            return None
        return Refusal("too_dear", f"may cost ${usd(cost):f}, over max_cost_per_item_usd (${usd(most):f})")

    def _tokens(self, text: str, media_items: tuple[Media, ...]) -> tuple[int, int]:
        """The expected input tokens, and what a budget should hold back for."""
        target = self.target
        chars = estimate.text_chars(text, target.system) + target.schema_chars
        return estimate.request_tokens(
            target.model,
            media_items,
            chars,
            text_bytes=estimate.text_bytes(text) + target.wrapping_bytes,
            sampling=target.sampling,
            unknown=target.unknown,
        )

    def _send(self, request: Request) -> None:
        self._spool.send(request)
        self.plan.to_send[self.target.model] += 1
        if self.on_request is not None:
            older = self.others.answered(request.item_id, request.prompt_id)
            self.on_request(self.target, request, older)

    def _copy(self, request: Request) -> None:
        row = row_fingerprint(request.item_id, request.prompt_id)
        hidden = self.others.hides(request.item_id, request.prompt_id)
        if self.answered.look_up([request.key, copy_key(request)], [row] * 2).count(AnswerState.ANSWERED):
            if not hidden:
                self.counters.already_answered += 1
                return
            self.plan.to_restate += 1
        self.plan.to_copy += 1
        self._spool.copy(request)

    def _refuse(self, request: Request, why: Refusal, state: AnswerState, repeated: bool) -> None:
        self._skips[why.code] += 1
        if len(self.plan.refused) < REFUSALS_SHOWN:
            self.plan.refused.append(
                {
                    "item_id": request.item_id,
                    "model": self.target.model,
                    "code": why.code,
                    "reason": why.reason,
                }
            )
        if state is not AnswerState.SKIPPED and (repeated or state is not AnswerState.NOTHING):
            row = row_fingerprint(request.item_id, request.prompt_id)  # another row has the key
            request = replace(request, key=copy_key(request))
            (state,) = self.answered.look_up([request.key], [row])
        if state is AnswerState.SKIPPED:
            self.counters.count("skipped", why.code)  # its row is there already
            return
        self._spool.refuse(request, why)

    def close(self) -> None:
        self._spool.close()


def _nameless(refusal: Refusal, ref: str = "") -> Media:
    """Stands for a media that could not be identified, in the key and in the columns of its skipped row."""
    uri = shown(ref) if ref[:5].lower() == "data:" else stored(ref)
    return Media(
        uri=uri, source="", place="local", kind="image", mime="", identity=f"refused:{refusal.reason}"
    )
