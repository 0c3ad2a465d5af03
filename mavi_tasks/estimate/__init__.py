"""Tokens, dollars and time before a cent is spent.

formula.py     input tokens by the vendors' published formulas (tokens.toml)
output.py      tokens of an answer, from its schema
observed.py    what past runs really used; fit.py: the law behind it
estimator.py   a whole plan, one request at a time; account.py: its sums; bands.py: their spread
result.py      what comes out
pilot.py       a stratified sample, and what it says about the whole
advice.py      what a budget reaches, what would fit, how far off the last plans were

Only the formulas are imported at once: limits and budgets ask for them; the rest needs numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mavi_tasks.estimate.output_tokens import output_tokens
from mavi_tasks.estimate.token_formulas import (
    Formula,
    formula_of,
    input_tokens,
    input_tokens_at_most,
    text_chars,
    text_tokens,
)

if TYPE_CHECKING:
    from mavi_tasks.estimate.estimator import Estimator, ModelAssumptions
    from mavi_tasks.estimate.history import History
    from mavi_tasks.estimate.result import Estimate, Interval, ModelEstimate

_LATER = {
    "Interval": "result",
    "Estimate": "result",
    "Estimator": "estimator",
    "ModelEstimate": "result",
    "History": "history",
    "ModelAssumptions": "estimator",
}

__all__ = [
    "Estimate",
    "Estimator",
    "Formula",
    "History",
    "Interval",
    "ModelAssumptions",
    "ModelEstimate",
    "formula_of",
    "input_tokens",
    "input_tokens_at_most",
    "output_tokens",
    "text_chars",
    "text_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mavi_tasks.estimate.{_LATER[name]}"), name)
