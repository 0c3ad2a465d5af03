"""What a template may use: filters, tests and methods, each with the check that keeps its work small.

Lists of what is allowed, not of what is forbidden: what a later Jinja2 adds stays off until it was looked at.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.utils import Cycler, Joiner, Namespace

from mavi_tasks.prompts.render_budget import CHARS_PER_STEP, MAX_CHARS, as_value, pay, spend

MAX_WIDTH: Final = 10_000  # of a column, a group, a cut
MAX_SHORT: Final = 100  # of a text to strip or to look for from the end
MAX_WRAPPED: Final = 10_000  # characters that can be wrapped into lines


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


FILTERS: Final = _named(
    "abs batch capitalize center count d default dictsort e escape filesizeformat first float "
    "forceescape groupby indent int items join last length list lower map max min reject rejectattr "
    "replace reverse round safe select selectattr slice sort string striptags sum title tojson trim "
    "truncate unique upper urlencode wordcount wordwrap"
)
TESTS: Final = _named(
    "!= < <= == > >= boolean defined divisibleby eq equalto even false float ge greaterthan gt in "
    "integer iterable le lessthan lower lt mapping ne none number odd sameas sequence string true "
    "undefined upper"
)
_STR: Final = _named(
    "capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix "
    "removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip "
    "swapcase title upper zfill"
)
_LOOP: Final = _named(
    "changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0"
)
_DATE: Final = _named(
    "date day days hour isoformat isoweekday microsecond minute month second seconds strftime time "
    "total_seconds tzinfo weekday year"
)
# Type -> attributes and methods; of other types, all public attributes that cannot be called.
_ATTRIBUTES: Final[Mapping[type | tuple[type, ...], frozenset[str]]] = {
    str: _STR,
    dict: frozenset(("get", "items", "keys", "values")),
    (list, tuple, range): frozenset(("count", "index")),
    (int, float): frozenset(("is_integer",)),
    (dt.date, dt.time, dt.timedelta): _DATE,
    LoopContext: _LOOP,
    Cycler: frozenset(("current", "next", "reset")),
}


def is_allowed(owner: Any, name: str, value: Any) -> bool:
    """Whether a template may read this attribute."""
    if name.startswith("_"):
        return False
    for kind, names in _ATTRIBUTES.items():
        if isinstance(owner, kind):
            return name in names
    return isinstance(owner, Namespace) or not callable(value)


def is_ours(function: Any) -> bool:
    """Whether this is a method of a value, which `is_allowed` let through, or a joiner."""
    owner = getattr(function, "__self__", None)
    return isinstance(function, Joiner) or any(isinstance(owner, kind) for kind in _ATTRIBUTES)


def bounded(function: Any, check: Callable[..., None] | None) -> Callable[..., Any]:
    """The filter or test, with everything that it reads and makes paid for."""
    takes_engine = hasattr(function, "jinja_pass_arg")
    first = 1 if takes_engine else 0

    def run(*args: Any, **kwargs: Any) -> Any:
        for value in args[first:]:
            if type(value) is not str or len(value) >= CHARS_PER_STEP:  # others are free
                pay(value)
        for value in kwargs.values():
            pay(value)
        if check is not None:
            check(*args[first:], **kwargs)
        made = function(*args, **kwargs)
        if type(made) is bool or (type(made) is str and len(made) < CHARS_PER_STEP):
            return made
        return pay(as_value(made))

    if takes_engine:
        run.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return run


# ---- checks: they raise SecurityError before the work is done


def _fits(name: str, chars: int) -> None:
    if chars > MAX_CHARS:
        raise SecurityError(f"{name} would make a text of more than {MAX_CHARS:,} characters")


def _width(*values: Any, **named: Any) -> None:
    for number in (*values[1:], *named.values()):
        if isinstance(number, int):
            if abs(number) > MAX_WIDTH:
                raise SecurityError(f"a width of more than {MAX_WIDTH:,} is too much for a prompt")
            spend(abs(number) // 10)


def _few_digits(value: Any, precision: Any = 0, method: Any = "common") -> None:
    if not isinstance(precision, int) or abs(precision) > 15:
        raise SecurityError("round takes a precision from -15 to 15")


def _replace(text: Any, old: Any, new: Any, count: Any = None) -> None:
    text, old, new = str(text), str(old), str(new)
    _fits("replace", len(text) + text.count(old) * len(new))


def _join(values: Any, separator: Any = "", attribute: Any = None) -> None:
    _fits("join", len(values) * len(str(separator)) if hasattr(values, "__len__") else 0)


def _join_method(separator: str, values: Any) -> None:
    _join(values, separator)


def _indent(text: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    size = len(width) if isinstance(width, str) else abs(int(width))
    _fits("indent", (len(str(text).splitlines()) + 1) * size)


def _json(value: Any, indent: Any = None) -> None:
    if indent is not None and (not isinstance(indent, int) or not 0 <= indent <= 8):
        raise SecurityError("tojson takes an indent from 0 to 8")


def _sum(values: Any, attribute: Any = None, start: Any = 0) -> None:
    if not isinstance(start, int | float):
        raise SecurityError("sum adds numbers; join texts")


def _strip_tags(text: Any) -> None:
    text = str(text)
    spend(text.count("<") * len(text) // 10_000)


def _wrap(text: Any, *values: Any, **named: Any) -> None:
    if len(str(text)) > MAX_WRAPPED:
        raise SecurityError(f"wordwrap takes a text of at most {MAX_WRAPPED:,} characters")
    _width(text, *values, **named)


def _short(text: Any, *values: Any, **named: Any) -> None:
    if any(isinstance(value, str) and len(value) > MAX_SHORT for value in (*values, *named.values())):
        raise SecurityError(f"texts to strip or to look for may have at most {MAX_SHORT} characters")


def _plain_date(when: Any, form: str) -> None:
    if len(form) > MAX_SHORT or not re.fullmatch(r"(?:[^%]|%[A-Za-z%])*", form):
        raise SecurityError("strftime takes a short format without widths, such as '%Y-%m-%d'")


FILTER_CHECKS: Final[Mapping[str, Callable[..., None]]] = {
    **dict.fromkeys(("batch", "slice", "center", "truncate"), _width),
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _few_digits,
    "striptags": _strip_tags,
    "sum": _sum,
    "tojson": _json,
    "trim": _short,
    "wordwrap": _wrap,
}
METHOD_CHECKS: Final[Mapping[str, Callable[..., None]]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _width),
    **dict.fromkeys(("strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"), _short),
    "join": _join_method,
    "replace": _replace,
    "strftime": _plain_date,
}
