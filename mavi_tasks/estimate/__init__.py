"""Tokens, dollars and time before a cent is spent.

token_formulas.py     input tokens by the vendors' published formulas (tokens.toml)
token_bounds.py       the most tokens that a media can count as
request_tokens.py     tokens of one request, with the frames that are really sent
output_tokens.py      tokens of an answer, from its schema
history.py            what past runs really used; token_model.py: the model fitted to it
estimator.py          a whole plan, one request at a time; accumulator.py: its sums; intervals.py: spread
result.py             the estimate
stratified_sample.py  a stratified sample, and what it says about the whole
budget_advice.py      what a budget reaches, what would fit, how far off the last plans were

Only the formulas are imported at once: limits and budgets use them; the rest needs numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mavi_tasks.estimate.output_tokens import max_output, output_tokens
from mavi_tasks.estimate.request_tokens import FrameSampling, RequestTokens, request_tokens
from mavi_tasks.estimate.token_formulas import (
    Formula,
    UnknownMedia,
    formula_of,
    input_tokens,
    text_bytes,
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
    "FrameSampling",
    "History",
    "Interval",
    "ModelAssumptions",
    "ModelEstimate",
    "RequestTokens",
    "UnknownMedia",
    "formula_of",
    "input_tokens",
    "max_output",
    "output_tokens",
    "request_tokens",
    "text_bytes",
    "text_chars",
    "text_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mavi_tasks.estimate.{_LATER[name]}"), name)
