"""What a judge preferred: wins per pair, strengths, and how far order and length decided.

A pair of answers counts when both its orders were judged. Preferred in both orders is a win; a preference
that flips with the order, or "tie", is half a win for each. Intervals come from 2,000 bootstrap draws of
media, p-values from flipping the signs of each medium's wins minus losses. The judge's taste is no truth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mavi_tasks.common.format import percent
from mavi_tasks.compare import bradley_terry, statistics
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.sign_flip import sign_flip_p
from mavi_tasks.compare.statistics import Estimate, Floats, Ints
from mavi_tasks.errors import InputError

LONGER = 1.2  # an answer is the longer one from this ratio of characters on


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both orders of one pair: `wins` of a is 1, .5 or 0; `longer` is 1, 0 or -1 as a is the longer one."""

    a: str
    b: str
    media: str
    wins: float
    flipped: bool
    first: float
    longer: int


@dataclass(frozen=True, slots=True)
class PreferredPair:
    """Two contestants: judged pairs of answers, wins of each, flips among the ties."""

    a: str
    b: str
    n: int
    a_wins: int
    b_wins: int
    ties: int
    flips: int
    a_share: float
    p_value: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Preference:
    """`share` per contestant: how often it is preferred to the others, at equal length in
    `share_equal_length`.

    The latter is empty when one contestant's answers are always the longer ones. `first_share` tells how
    often the answer shown first is preferred, `longer_share` the longer one (None: never clear); .5 is no
    bias.
    """

    judge: str
    simulated: bool
    judged: int
    incomplete: int
    flip_rate: float
    first_share: float | None
    longer_share: float | None
    share: Mapping[str, Estimate]
    share_equal_length: Mapping[str, Estimate]
    pairs: tuple[PreferredPair, ...]


def read_judged(judge_dir: Path, sheet: Sheet) -> Preference:
    """Return the preferences in a judge's dataset over the answers of `sheet`.

    Raises InputError when it is no judge's dataset, or no pair was judged in both orders.
    """
    judged = read.sheet([judge_dir])
    if len(judged.models) > 1:
        raise InputError(f"{judge_dir}: holds {len(judged.models)} judges; give each an output of its own")
    picks = {_asked(judge_dir, unit.item_id): _pick(judged, at) for at, unit in enumerate(judged.units)}
    verdicts, incomplete = _verdicts(picks, sheet)
    if not verdicts:
        raise InputError(f"{judge_dir}: no pair of answers was judged in both orders yet; run the job again")
    return of(verdicts, judge=judged.models[0], simulated=any(judged.simulated), incomplete=incomplete)


def _asked(judge_dir: Path, item_id: str) -> tuple[str, str, str, str]:
    try:
        item, prompt, first, second = json.loads(item_id)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{judge_dir}: item {item_id!r} does not name two models; give the output of a job that "
            "--judge-out wrote"
        ) from error
    return str(item), str(prompt), str(first), str(second)


def _pick(judged: Sheet, at: int) -> str | None:
    text = judged.answer_json[0, at]
    if not judged.answered[0, at] or text is None:
        return None
    held = json.loads(text)
    better = held.get("better") if isinstance(held, dict) else None
    return better if better in ("1", "2", "tie") else None


def _verdicts(
    picks: Mapping[tuple[str, str, str, str], str | None], sheet: Sheet
) -> tuple[list[Verdict], int]:
    units = {(unit.item_id, unit.prompt_id): at for at, unit in enumerate(sheet.units)}
    out, incomplete = [], 0
    for (item, prompt, a, b), pick in picks.items():
        if a > b:
            continue
        other, at = picks.get((item, prompt, b, a)), units.get((item, prompt))
        if pick is None or other is None or at is None or not {a, b} <= set(sheet.models):
            incomplete += 1
            continue
        lengths = [len(sheet.answer[sheet.models.index(name), at] or "") for name in (a, b)]
        media = sheet.units[at].media_uri or item
        out.append(verdict(a, b, media, pick, other, lengths))
    return out, incomplete


def verdict(a: str, b: str, media: str, a_first: str, b_first: str, lengths: Sequence[int]) -> Verdict:
    """Return the outcome of both orders: the judge's word ("1", "2", "tie") with a shown first, then b."""
    won = {"1": 1.0, "tie": 0.5, "2": 0.0}
    one, other = won[a_first], 1 - won[b_first]
    longer = (lengths[0] >= LONGER * max(lengths[1], 1)) - (lengths[1] >= LONGER * max(lengths[0], 1))
    return Verdict(
        a=a,
        b=b,
        media=media,
        wins=one if one == other else 0.5,
        flipped=abs(one - other) == 1,
        first=(won[a_first] + won[b_first]) / 2,
        longer=int(longer),
    )


def of(verdicts: Sequence[Verdict], *, judge: str, simulated: bool, incomplete: int = 0) -> Preference:
    """Return what these verdicts, one or more, say together."""
    names = sorted({name for one in verdicts for name in (one.a, one.b)})
    numbers = sorted({(names.index(one.a), names.index(one.b)) for one in verdicts})
    media = {name: at for at, name in enumerate(dict.fromkeys(one.media for one in verdicts))}
    at = np.array([media[one.media] for one in verdicts])
    wins, games = _cells(verdicts, names, numbers)
    sums = statistics.by_cluster(np.concatenate([wins, games], axis=1), at)
    totals = np.concatenate(
        [sums.sum(0, keepdims=True), *(block @ sums for block in statistics.weights(len(sums)))]
    )
    plain = bradley_terry.design(numbers, len(names), by_length=False)
    rows = bradley_terry.design(numbers, len(names), by_length=True)
    adjusted = bradley_terry.separable(rows, games.sum(0))
    clear = [one.wins if one.longer > 0 else 1 - one.wins for one in verdicts if one.longer]
    return Preference(
        judge=judge,
        simulated=simulated,
        judged=len(verdicts),
        incomplete=incomplete,
        flip_rate=float(np.mean([one.flipped for one in verdicts])),
        first_share=float(np.mean([one.first for one in verdicts])),
        longer_share=float(np.mean(clear)) if clear else None,
        share=_shares(plain, totals, names, len(media)),
        share_equal_length=_shares(rows, totals, names, len(media)) if adjusted else {},
        pairs=_pairs(verdicts, names, numbers, at),
    )


def bias_sentence(found: Preference) -> str:
    """Return how far order and length decided, in one sentence."""
    longer = "" if found.longer_share is None else f", the longer in {percent(found.longer_share, 0)}"
    return (
        f"{percent(found.flip_rate, 0)} of the preferences flipped with the order and count as ties; the "
        f"answer shown first was preferred in {percent(found.first_share, 0)}{longer}."
    )


def _cells(
    verdicts: Sequence[Verdict], names: Sequence[str], numbers: Sequence[tuple[int, int]]
) -> tuple[Floats, Floats]:
    """Wins of a and games of each verdict, in the cell of its pair and stratum: [verdicts, cells]."""
    shape = (len(verdicts), len(numbers) * len(bradley_terry.STRATA))
    wins, games = np.zeros(shape), np.zeros(shape)
    for row, one in enumerate(verdicts):
        pair = numbers.index((names.index(one.a), names.index(one.b)))
        cell = pair * len(bradley_terry.STRATA) + bradley_terry.STRATA.index(float(one.longer))
        wins[row, cell], games[row, cell] = one.wins, 1.0
    return wins, games


def _shares(rows: Floats, totals: Floats, names: Sequence[str], media: int) -> dict[str, Estimate]:
    half = totals.shape[1] // 2
    found = bradley_terry.fit(rows, totals[:, :half], totals[:, half:])[:, : len(names)]
    shares = bradley_terry.win_shares(found)
    return {
        name: Estimate(float(shares[0, at]), *statistics.spread(shares[1:, at], media))
        for at, name in enumerate(names)
    }


def _pairs(
    verdicts: Sequence[Verdict], names: Sequence[str], numbers: Sequence[tuple[int, int]], at: Ints
) -> tuple[PreferredPair, ...]:
    held = []
    for a, b in numbers:
        of_pair = np.array([(one.a, one.b) == (names[a], names[b]) for one in verdicts])
        mine = [one for one, is_its in zip(verdicts, of_pair, strict=True) if is_its]
        sums = np.bincount(at[of_pair], [2 * one.wins - 1 for one in mine]).astype(float)
        held.append((a, b, mine, sign_flip_p(sums)))
    corrected = statistics.holm([p_value for *_, p_value in held])
    return tuple(
        PreferredPair(
            a=names[a],
            b=names[b],
            n=len(mine),
            a_wins=sum(one.wins == 1 for one in mine),
            b_wins=sum(one.wins == 0 for one in mine),
            ties=sum(one.wins == 0.5 for one in mine),
            flips=sum(one.flipped for one in mine),
            a_share=float(np.mean([one.wins for one in mine])),
            p_value=p_value,
            p_holm=p_holm,
        )
        for (a, b, mine, p_value), p_holm in zip(held, corrected, strict=True)
    )
