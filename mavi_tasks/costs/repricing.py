"""The same usage at other prices: of another day, a file or another model. Nothing stored is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from mavi_tasks.common.money import exact_text
from mavi_tasks.costs import sources
from mavi_tasks.costs.arrow_columns import (
    Ints,
    Keys,
    StringDictionary,
    dictionary_column,
    int_column,
    keys,
    stir,
)
from mavi_tasks.costs.billed_attempts import billed, cost_of
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.errors import InputError
from mavi_tasks.pricing.book import PriceBook

LEAST_PAIRS = 10
MILLION = 1_000_000
CAVEAT = (
    "Tokenisers differ: another model counts the same picture and text in other tokens, and answers at "
    "another length. The factor seen where both models answered the same items is applied; with fewer than "
    f"{LEAST_PAIRS} such items the counts are taken as they are, and the sum is a rough guide only."
)


@dataclass(frozen=True, slots=True)
class Factor:
    """Tokens of the other model per million tokens of this one, over the items both answered."""

    input_ppm: int = MILLION
    output_ppm: int = MILLION
    items: int = 0

    @property
    def observed(self) -> bool:
        return self.items >= LEAST_PAIRS


@dataclass(slots=True)
class Line:
    """One model's usage at the other prices. Only calls that have both sums are compared."""

    model: str
    calls: int = 0
    recorded_pico: int = 0  # as billed, of the compared calls
    repriced_pico: int = 0
    newly_priced_calls: int = 0  # had no price when they were made
    newly_priced_pico: int = 0
    unpriced_calls: int = 0  # no price on that day
    unpriced_pico: int = 0  # what was recorded for them
    no_token_calls: int = 0  # billed, but their tokens are not known
    no_token_pico: int = 0
    factor: Factor = field(default_factory=Factor)


@dataclass(frozen=True, slots=True)
class Repriced:
    """What the usage would have cost; `lines` per model, the most expensive first."""

    basis: str
    what_if: str | None
    as_of: date | None
    lines: tuple[Line, ...]
    caveat: str | None

    @property
    def recorded_pico(self) -> int:
        return sum(line.recorded_pico for line in self.lines)

    @property
    def repriced_pico(self) -> int:
        return sum(line.repriced_pico for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; dollars are texts."""
        return {
            "basis": self.basis,
            "what_if": self.what_if,
            "as_of": self.as_of and self.as_of.isoformat(),
            "recorded_usd": exact_text(self.recorded_pico),
            "repriced_usd": exact_text(self.repriced_pico),
            "difference_usd": exact_text(self.repriced_pico - self.recorded_pico),
            "models": [_line_json(line, self.what_if) for line in self.lines],
            "caveat": self.caveat,
        }


def reprice(
    report: CostReport, prices: PriceBook, *, as_of: date | None = None, what_if: str | None = None
) -> Repriced:
    """Price the report's usage again, attempt by attempt, each at the tier its own input tokens fall into.

    Without `as_of` every attempt is priced as of its own day. `what_if` prices all usage as that model's.
    Raises InputError when `what_if` has no price on any of these days.
    """
    factors = _factors(report, what_if) if what_if else {}
    lines: dict[str, Line] = {}
    for usage in billed(report):
        line = lines.setdefault(usage.model, Line(usage.model, factor=factors.get(usage.model, Factor())))
        price = prices.price(what_if or usage.model, as_of or usage.day)
        known = usage.has_tokens
        line.no_token_calls += int((~known).sum())
        line.no_token_pico += _total(usage.cost_pico[~known])
        if price is None:
            line.unpriced_calls += int(known.sum())
            line.unpriced_pico += _total(usage.cost_pico[known])
            continue
        ours, fresh = known & usage.priced, known & ~usage.priced
        line.calls += int(ours.sum())
        line.recorded_pico += _total(usage.cost_pico[ours])
        line.repriced_pico += _cost(price, usage.input_tokens[ours], usage.output_tokens[ours], line.factor)
        line.newly_priced_calls += int(fresh.sum())
        line.newly_priced_pico += _cost(
            price, usage.input_tokens[fresh], usage.output_tokens[fresh], line.factor
        )
    if what_if and lines and not any(line.calls or line.newly_priced_calls for line in lines.values()):
        hint = prices.hint(what_if)
        raise InputError(hint or f"{what_if} has no price in force on these days")
    ordered = sorted(lines.values(), key=lambda line: (-line.recorded_pico, line.model))
    return Repriced(_basis(as_of, what_if), what_if, as_of, tuple(ordered), CAVEAT if what_if else None)


def _cost(price: Any, input_tokens: Ints, output_tokens: Ints, factor: Factor) -> int:
    return cost_of(price, _scaled(input_tokens, factor.input_ppm), _scaled(output_tokens, factor.output_ppm))


def _scaled(tokens: Ints, ppm: int) -> Ints:
    return tokens if ppm == MILLION else (tokens * ppm + MILLION // 2) // MILLION


def _total(amounts: Ints) -> int:
    return sum(amounts.tolist())


def _basis(as_of: date | None, what_if: str | None) -> str:
    day = f"prices in force on {as_of}" if as_of else "prices in force on each call's own day"
    return f"all usage as {what_if}, {day}" if what_if else day


def _factors(report: CostReport, other: str) -> dict[str, Factor]:
    """For each model, how many tokens the other one took for the same item and prompt."""
    seen: dict[str, list[tuple[Keys, Ints, Ints]]] = {}
    jobs, prompts = StringDictionary(), StringDictionary()
    for source in sources.open_sources(report.paths):
        found = sources.table(source, "results")
        if found is not None:
            _collect(report, found, jobs, prompts, seen)
    if other not in seen:
        return {}
    target = _joined(seen[other])
    return {
        model: Factor() if model == other else _factor(_joined(parts), target)
        for model, parts in seen.items()
    }


COLUMNS = (
    "run_id",
    "job",
    "model",
    "prompt_id",
    "item_id",
    "status",
    "input_tokens",
    "output_tokens",
    "finished_at",
)


def _collect(
    report: CostReport,
    found: Any,
    jobs: StringDictionary,
    prompts: StringDictionary,
    seen: dict[str, list[tuple[Keys, Ints, Ints]]],
) -> None:
    models, statuses = StringDictionary(), StringDictionary()
    for batch in sources.batches(found, COLUMNS, report.cube.period):
        model, status = (
            dictionary_column(batch["model"], models),
            dictionary_column(batch["status"], statuses),
        )
        run = dictionary_column(batch["run_id"], report.cube.runs)
        shown = np.array([report.cube.is_sandbox(n) == report.is_sandbox for n in run.globals])[run.local]
        good = np.array([statuses.strings[n] == "answered" for n in status.globals])[status.local]
        tokens_in, in_known = int_column(batch["input_tokens"])
        tokens_out, out_known = int_column(batch["output_tokens"])
        kept = shown & good & in_known & out_known
        request_keys = _asked(
            batch, dictionary_column(batch["job"], jobs), dictionary_column(batch["prompt_id"], prompts)
        )
        for local, number in enumerate(model.globals):
            rows = np.flatnonzero(kept & (model.local == local))
            if len(rows):
                part = (request_keys[rows], tokens_in[rows], tokens_out[rows])
                seen.setdefault(models.strings[number], []).append(part)


def _asked(batch: Any, job: Any, prompt: Any) -> Keys:
    """One key per job, item and prompt."""
    where = np.array(job.globals, dtype=np.uint64)[job.local] * np.uint64(1_000_003)
    which = np.array(prompt.globals, dtype=np.uint64)[prompt.local]
    return keys(batch["item_id"]) ^ stir(where + which + np.uint64(1))


def _joined(parts: list[tuple[Keys, Ints, Ints]]) -> tuple[Keys, Ints, Ints]:
    """One line per key: the first of several."""
    request_keys, tokens_in, tokens_out = (np.concatenate(column) for column in zip(*parts, strict=True))
    known, first = np.unique(request_keys, return_index=True)
    return known, tokens_in[first], tokens_out[first]


def _factor(mine: tuple[Keys, Ints, Ints], target: tuple[Keys, Ints, Ints]) -> Factor:
    _, here, there = np.intersect1d(mine[0], target[0], assume_unique=True, return_indices=True)
    ratios = []
    for column in (1, 2):
        own = int(mine[column][here].sum())
        ratios.append(round(MILLION * int(target[column][there].sum()) / own) if own else MILLION)
    if len(here) < LEAST_PAIRS:
        return Factor(items=len(here))
    return Factor(ratios[0], ratios[1], len(here))


def _line_json(line: Line, what_if: str | None) -> Mapping[str, Any]:
    line_json = {
        "model": line.model,
        "calls": line.calls,
        "recorded_usd": exact_text(line.recorded_pico),
        "repriced_usd": exact_text(line.repriced_pico),
        "newly_priced_calls": line.newly_priced_calls,
        "newly_priced_usd": exact_text(line.newly_priced_pico),
        "unpriced_calls": line.unpriced_calls,
        "unpriced_recorded_usd": exact_text(line.unpriced_pico),
        "tokens_untold_calls": line.no_token_calls,
        "tokens_untold_recorded_usd": exact_text(line.no_token_pico),
    }
    if what_if is None:
        return line_json
    return line_json | {
        "input_token_factor": line.factor.input_ppm / MILLION,
        "output_token_factor": line.factor.output_ppm / MILLION,
        "factor_items": line.factor.items,
        "factor_observed": line.factor.observed,
    }
