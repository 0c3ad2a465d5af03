"""Tokens, dollars and time before a cent is spent.

formula.py   tokens by the vendors' published formulas (tokens.toml)
"""

from mavi_tasks.estimate.formula import (
    Formula,
    formula_of,
    input_tokens,
    input_tokens_at_most,
    text_chars,
    text_tokens,
)

__all__ = ["Formula", "formula_of", "input_tokens", "input_tokens_at_most", "text_chars", "text_tokens"]
