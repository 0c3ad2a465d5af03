"""The answers as a page carries them: columns and shared texts, the items worth a look first."""

from collections.abc import Mapping

import numpy as np

from mavi_tasks.compare.agreement import disagreement
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.disputed import worst_first
from mavi_tasks.compare.result import Comparison
from mavi_tasks.compare.sheet import ANSWERED, FAILED, INVALID, NOT_ASKED, SKIPPED
from mavi_tasks.compare.statistics import MISSING, Floats
from mavi_tasks.reports.html import thumbnails
from mavi_tasks.reports.html.svg_charts import colour_of

LONGEST_ANSWER = 600  # characters of an answer on the page; the dataset has all of it
MOST_TEXT = 4_000_000  # characters of all answers on the page, so that it stays under 5 MB
STATUS_WORDS = {
    NOT_ASKED: "not asked",
    ANSWERED: "",
    FAILED: "failed",
    INVALID: "invalid",
    SKIPPED: "skipped",
}


def payload(comparison: Comparison, order: list[str]) -> dict[str, object]:
    """Return what bakeoff.js draws from. `order` is the models' order, which fixes their colours."""
    sheet, labels = comparison.sheet, comparison.answers
    rows = [sheet.models.index(name) for name in order]
    texts = _Texts()
    items = _shown(comparison, worst_first(sheet, labels), texts, rows)
    uris = [sheet.units[at].media_uri for at in items]
    names = short(order)
    pictures = thumbnails.embed(uris)
    number = {uri: at for at, uri in enumerate(pictures)}
    return {
        "models": [{"name": m, "short": names[m], "colour": colour_of(at)} for at, m in enumerate(order)],
        "labels": list(labels.names),
        "status": {str(code): word for code, word in STATUS_WORDS.items()},
        "truth": labels.has_truth,
        "total": len(sheet.units),
        "texts": texts.all,
        "thumbs": list(pictures.values()),
        "items": {
            "id": [sheet.units[at].item_id for at in items],
            "prompt": [sheet.units[at].prompt_id for at in items],
            "uri": [thumbnails.shown(uri) for uri in uris],
            "pic": [number.get(uri, -1) if uri else -1 for uri in uris],
            "truth": [texts.index(sheet.units[at].truth) if labels.judged[at] else -1 for at in items],
            "alike": [int(sheet.alike[at]) for at in items],
            "spread": [round(float(one), 3) for one in disagreement(labels.codes, len(labels.names))[items]],
            "code": labels.codes[rows][:, items].T.tolist(),
            "right": np.where(labels.judged, labels.right, -1)[rows][:, items].T.astype(int).tolist(),
            "state": sheet.status[rows][:, items].T.tolist(),
            "said": [[texts.index(_shown_text(comparison, m, at)) for m in rows] for at in items],
            "usd": _dollars(sheet.cost_pico[rows][:, items].T.tolist()),
            "s": _seconds(sheet.latency_s[rows][:, items].T),
        },
    }


class _Texts:
    """Every text once; answers repeat a lot."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.size = 0
        self._at: dict[str, int] = {}

    def index(self, text: str | None) -> int:
        if text is None:
            return -1
        if text not in self._at:
            self._at[text] = len(self.all)
            self.all.append(text)
            self.size += len(text)
        return self._at[text]


def _shown(comparison: Comparison, order: list[int], texts: _Texts, rows: list[int]) -> list[int]:
    """Take items until the page is full of text."""
    for taken, at in enumerate(order):
        for model in rows:
            texts.index(_shown_text(comparison, model, at))
        if texts.size > MOST_TEXT:
            return order[: taken + 1]
    return order


def _shown_text(comparison: Comparison, model: int, at: int) -> str | None:
    """The answer's text where it says more than its label; an error's code where there is no answer."""
    sheet, labels = comparison.sheet, comparison.answers
    if sheet.status[model, at] in (FAILED, SKIPPED):
        return str(sheet.error_code[model, at] or "") or None
    text: str | None = sheet.answer[model, at] or sheet.answer_json[model, at]
    if text is None:
        return None
    code = labels.codes[model, at]
    if code != MISSING and text.strip().casefold() == labels.names[code]:
        return None
    return text if len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + " …"


def _dollars(pico: list[list[int]]) -> list[list[float | None]]:
    """For display only: the exact sums are in the tables."""
    return [[None if one < 0 else float(f"{one * 1e-12:.6g}") for one in row] for row in pico]


def _seconds(values: Floats) -> list[list[float | None]]:
    return [[None if np.isnan(one) else round(float(one), 2) for one in row] for row in values]


def colours(order: list[str]) -> Mapping[str, int]:
    """Return each model's colour, the same all over the page."""
    return {name: colour_of(at) for at, name in enumerate(order)}
