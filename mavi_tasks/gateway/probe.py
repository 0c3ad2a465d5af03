"""Finds out what the contract leaves unknown about a gateway, with the smallest possible paid calls."""

import asyncio
import base64
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from mavi_tasks.common.money import exact_text
from mavi_tasks.common.version import __version__
from mavi_tasks.gateway.classify import Reply
from mavi_tasks.gateway.client import Gateway
from mavi_tasks.job import probed as findings
from mavi_tasks.labels.extract_json import unfence
from mavi_tasks.pricing.book import Price, PriceBook
from mavi_tasks.providers import (
    CHAT_PATH,
    Answer,
    Family,
    Part,
    PromptRequest,
    WireOptions,
    family_of,
    probing,
)

CLOSE_S: Final = 0.1  # connections that were cut in a large body take a moment to close
OTHER_CALLS: Final = 5  # of each model
TRIES: Final = 3  # of a call that is throttled
SIDE_PX: Final = 256
MAX_TOKENS: Final = 64
MOST_TEXT_TOKENS: Final = 40  # of the question with a medium, which has 66 at least
MEGABYTES: Final = (1, 5, 10, 25, 50)
MOST_INPUT_TOKENS: Final = 12_000  # of one call: a picture of 256 px counts 8,500 to gpt-4o-mini
COUNT: Final = "Count in words from one to ten, in lower case."
NAME_A_TOOL: Final = "Name one tool that reads JSONL files, in one sentence."  # JSON mode needs the word
STOP: Final = "e"
ABSENT: Final = "absent"  # an answer without a finish reason
Model = findings.ProbedModel


@dataclass(slots=True)
class Spent:
    """What a probe has cost so far, in pico-dollars; exposure: of answers that named no tokens."""

    calls: int = 0
    cost_pico: int = 0
    exposure_pico: int = 0


@dataclass(slots=True)
class ModelProbe:
    """The questions to one model."""

    model: str
    price: Price | None
    gateway: Gateway
    spent: Spent
    family: Family = field(init=False)

    def __post_init__(self) -> None:
        self.family = family_of(self.model)

    async def found(self) -> Model:
        """Everything about it; what cannot be found out is None."""
        spelling, seen = await self._with_media()
        if seen is None:
            return spelling_unknown(await self._ask(COUNT))
        reply, answer = seen
        cut = await self._ask("Count from one to fifty in words.", max_tokens=1)
        streamed = await self._ask(COUNT, stream=True)
        has_shapes = probing.has_shapes(self.family.name)
        return Model(
            works=True,
            base64=spelling.base64 if spelling is not None else None,
            nova_url=spelling.nova_url if spelling is not None and has_shapes else None,
            read_media=self._read(answer) if spelling is not None else None,
            usage=answer.usage.input_tokens is not None,
            finish_reason=answer.finish_reason or ABSENT,
            finish_reason_cut=(self._answer(cut).finish_reason or ABSENT) if cut.payload else None,
            n=_verdict(await self._ask(COUNT, n=2), self._answer, lambda answer: len(answer.choices) == 2),
            stop=_verdict(
                await self._ask(COUNT, stop=[STOP]),
                self._answer,
                lambda answer: STOP not in (answer.text or ""),
            ),
            json_answer=_verdict(await self._ask_json(), self._answer, _is_json),
            stream=_stream(streamed),
            stream_usage=self._answer(streamed).usage.input_tokens is not None if streamed.stream else None,
            latency_s=round(reply.latency_s, 3),
            first_token_s=None if streamed.first_token_s is None else round(streamed.first_token_s, 3),
        )

    async def _with_media(self) -> tuple[WireOptions | None, tuple[Reply, Answer] | None]:
        """The first spelling whose media are read, with its reply; else the first that is answered at all."""
        unread: tuple[WireOptions, tuple[Reply, Answer]] | None = None
        for spelling in probing.spellings(self.family.name):
            reply = await self._ask("What is this?", spelling=spelling)
            if reply.decision.action != "ok":
                if reply.decision.action in ("stop_run", "stop_model"):
                    break
                continue
            seen = (reply, self._answer(reply))
            if self._read(seen[1]) is not False:
                return spelling, seen
            unread = unread or (spelling, seen)
        if unread is not None:
            return None, unread[1]
        return None, None

    def _read(self, answer: Answer) -> bool | None:
        """Whether its input tokens show that the media was read; None when they are not counted."""
        if answer.usage.input_tokens is None:
            return None
        return answer.usage.input_tokens > MOST_TEXT_TOKENS

    async def _ask_json(self) -> Reply:
        schema, params = probing.json_mode(self.family.name)
        return await self._ask(NAME_A_TOOL, schema=schema, **params)

    async def _ask(
        self,
        prompt: str,
        *,
        spelling: WireOptions | None = None,
        schema: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Reply:
        """One call; with a medium when it is to be spelled."""
        parts = () if spelling is None else (self._part(),)
        request = PromptRequest(
            self.model,
            prompt,
            parts,
            None,
            {"max_tokens": MAX_TOKENS, **params},
            schema,
            spelling or WireOptions(),
        )
        kind = parts[0].kind if parts else "text"
        path = f"{self.family.routes[kind].endpoint}{CHAT_PATH}"
        for _ in range(TRIES):
            reply = await self.gateway.post(path, orjson.dumps(self.family.body(request)))
            self._count(reply)
            if reply.decision.action != "throttled":
                break
            await asyncio.sleep(1.0)
        return reply

    def _part(self) -> Part:
        """A clip where it can be inlined (its shape is unknown, too), else a picture."""
        video = self.family.routes.get("video")
        if video is not None and video.inline:
            clip = files("mavi_tasks.gateway").joinpath("probe_clip.mp4").read_bytes()
            return Part("video", "video/mp4", data=base64.b64encode(clip).decode())
        return Part("image", "image/png", data=base64.b64encode(picture()).decode())

    def _answer(self, reply: Reply) -> Answer:
        return self.family.answer(reply.payload or {})

    def _count(self, reply: Reply) -> None:
        self.spent.calls += 1
        usage = self._answer(reply).usage
        if self.price is None:
            return
        cost = self.price.cost(usage.input_tokens, usage.output_tokens).total_pico
        if cost is not None and (usage.input_tokens or usage.output_tokens):
            self.spent.cost_pico += cost
        elif reply.decision.outcome in ("answered", "in_doubt"):
            self.spent.exposure_pico += most_of_call(self.price)


def spelling_unknown(reply: Reply) -> Model:
    """What is known of a model that answered to no medium."""
    return Model(works=False, message=(reply.decision.message or "it answers to text only")[:200])


def _stream(reply: Reply) -> findings.Stream | None:
    if reply.stream is not None:
        return reply.stream
    if reply.decision.action == "ok" or reply.decision.outcome == "rejected":
        return "none"
    return "unknown" if reply.status == 200 else None


def _verdict(
    reply: Reply, read: Callable[[Reply], Answer], is_honoured: Callable[[Answer], bool]
) -> str | None:
    if reply.decision.action == "ok":
        return "honoured" if is_honoured(read(reply)) else "ignored"
    return "refused" if reply.decision.outcome == "rejected" else None


def _ends_before_stop(answer: Answer) -> bool:
    return STOP not in (answer.text or "")


def _is_json(answer: Answer) -> bool:
    return unfence(answer.text or "").startswith("{")


async def largest_body(gateway: Gateway, spent: Spent) -> tuple[int | None, int | None]:
    """The largest body that is taken, and the smallest that is not, in bytes; nothing can be billed.

    The bodies name a model that does not exist: a gateway that takes their size says so.
    """
    taken = None
    for megabytes in MEGABYTES:
        size = megabytes * 1_000_000
        body = {"model": probing.UNSERVED, "messages": [{"role": "user", "content": ""}]}
        body["messages"] = [{"role": "user", "content": "x" * (size - len(orjson.dumps(body)))}]
        with warnings.catch_warnings():  # aiohttp: that nothing else goes on meanwhile is what is meant here
            warnings.simplefilter("ignore", ResourceWarning)
            reply = await gateway.post(f"/vu{CHAT_PATH}", orjson.dumps(body))
        spent.calls += 1
        if reply.status == 413 or reply.decision.code in ("disconnected", "timeout", "unreachable"):
            return taken, size
        taken = size
    return taken, None


def picture() -> bytes:
    """A PNG of one colour: small to send, and large enough that its tokens show."""
    row = b"\0" + b"\x20\x60\xa0" * SIDE_PX

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 2, 0, 0, 0)
    data = zlib.compress(row * SIDE_PX)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# -- the whole


def most_of_call(price: Price) -> int:
    """The most that one of these calls may cost, in pico-dollars."""
    return price.max_cost_pico(MOST_INPUT_TOKENS, 2 * MAX_TOKENS)


def most_calls(model: str) -> int:
    """Calls to one model, when every spelling but the last is wrong."""
    return len(probing.spellings(family_of(model).name)) + OTHER_CALLS


def worst_pico(models: Iterable[str], book: PriceBook, on: date) -> int | None:
    """The most that a probe may cost, in pico-dollars; None when a model has no price."""
    total = 0
    for model in models:
        price = book.price(model, on)
        if price is None:
            return None
        total += most_calls(model) * most_of_call(price)
    return total


async def probe(
    base_url: str,
    api_key: str | None,
    models: Sequence[str],
    book: PriceBook,
    on: date,
    say: Callable[[str], None],
) -> findings.Probed:
    """What is found out about these models of a gateway, one after the other."""
    spent = Spent()
    found: dict[str, Model] = {}
    async with Gateway(base_url, api_key, read_timeout_s=60) as gateway:
        for model in models:
            say(f"asking {model} ...")
            found[model] = await ModelProbe(model, book.price(model, on), gateway, spent).found()
        say("looking for the largest body that is taken ...")
        taken, refused = await largest_body(gateway, spent)
    await asyncio.sleep(CLOSE_S)
    return findings.Probed(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        mavi=__version__,
        calls=spent.calls,
        cost_usd=exact_text(spent.cost_pico),
        exposure_usd=exact_text(spent.exposure_pico),
        body_taken_bytes=taken,
        body_refused_bytes=refused,
        models=found,
    )


def settings_of(probed: findings.Probed) -> dict[str, Any]:
    """The settings of a job's gateway that follow from what was seen."""
    working = {model: one for model, one in probed.models.items() if one.works}
    families = {model.partition(":")[0]: one for model, one in working.items()}
    settings: dict[str, Any] = {}
    base64_by = {family: one.base64 for family, one in families.items() if one.base64 is not None}
    if base64_by:
        settings["base64"] = base64_by
    shapes = [one.nova_url for one in families.values() if one.nova_url is not None]
    if shapes:
        settings["nova_url"] = shapes[0]
    stream_by = {family: one.stream for family, one in families.items() if one.stream is not None}
    if stream_by:
        settings["stream"] = stream_by
    return settings
