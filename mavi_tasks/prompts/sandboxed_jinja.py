"""The Jinja2 environment of the prompts: no files, no randomness, no endless work.

Templates are the user's own, but copied from anywhere. Beyond Jinja2's sandbox (no attributes that lead out)
all loops of one rendering share one budget of steps, and no operation makes a text above the bound. What is
random is left out: a prompt that differs on the next run would be sent, and paid, again.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from jinja2 import StrictUndefined, Template, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

MAX_CHARS: Final = 1_000_000  # of a rendered prompt, and of every text on the way
MAX_STEPS: Final = 100_000  # of all loops of one rendering together; the numbers of a range count, too

STEPS: Final = "_steps"  # the budget of one rendering, in its context

_WIDE: Final = frozenset(("ljust", "rjust", "center", "zfill", "expandtabs"))
_FORBIDDEN: Final[dict[type[nodes.Node], str]] = {
    nodes.Include: "include", nodes.Import: "import", nodes.FromImport: "from", nodes.Extends: "extends",
}  # fmt: skip


class Nothing(ValueError):
    """A null that a template prints: it would read "None" in the prompt."""


def printed(value: Any) -> Any:
    """The value, unless it is null or NaN."""
    if value is None or value != value:
        raise Nothing
    return value


class Sandbox(SandboxedEnvironment):
    """Strict, silent about nothing, and bounded."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=printed)
        self.globals.pop("lipsum")
        self.filters.pop("random")
        self.globals["range"] = _range
        self.filters.update(_bounded=_bounded, _joined=_joined)
        for name in ("center", "indent", "format", "replace"):
            self.filters[name] = _measured(self.filters[name])

    def template(self, source: str, name: str) -> tuple[Template, nodes.Template]:
        """Compile a prompt; raises TemplateSyntaxError. Returns the tree as parsed, too."""
        tree, bounded = self.parse(source), self.parse(source)
        for forbidden, word in _FORBIDDEN.items():
            if tree.find(forbidden) is not None:
                raise SecurityError(f"{{% {word} %}} reads other files; a prompt stands for itself")
        _bound(bounded)
        code = self.compile(bounded, name, name)
        return Template.from_code(self, code, self.make_globals(None)), tree

    def wrap_str_format(self, value: Any) -> Any:
        """No str.format: its widths make texts of any length."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format() is off; write the values into the template")
        return None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**"):
            _check_product(operator, left, right)
        if operator == "%" and isinstance(left, str):
            raise SecurityError("% on text is off; write the values into the template")
        return _short(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(__obj, "__name__", "")
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _check_method(owner, name, args)
        return _short(super().call(__context, __obj, *args, **kwargs))


def _check_method(owner: str, name: str, args: tuple[Any, ...]) -> None:
    if name in _WIDE and any(isinstance(arg, int) and arg > MAX_CHARS for arg in args):
        raise SecurityError(f"{name}() would make a text of more than {MAX_CHARS:,} characters")
    if name == "replace" and len(args) >= 2 and all(isinstance(arg, str) for arg in args[:2]):
        _check_replace(owner, args[0], args[1])


def _check_replace(text: str, old: str, new: str) -> None:
    if len(text) + text.count(old) * len(new) > 2 * MAX_CHARS:
        raise SecurityError(f"replace() would make a text of more than {MAX_CHARS:,} characters")


def _measured(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that makes text, kept from making too much of it."""
    name = filter_.__name__.removeprefix("do_")

    def measured(*args: Any, **kwargs: Any) -> Any:
        texts = [arg for arg in args if isinstance(arg, str)]
        numbers = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, int)]
        if name == "format":
            raise SecurityError("the filter format is off; write the values into the template")
        if any(number > MAX_CHARS // 10 for number in numbers):
            raise SecurityError(f"{name} would make a text of more than {MAX_CHARS:,} characters")
        if name == "replace" and len(texts) >= 3:
            _check_replace(*texts[-3:])
        return _short(filter_(*args, **kwargs))

    measured.jinja_pass_arg = getattr(filter_, "jinja_pass_arg", None)  # type: ignore[attr-defined]
    return measured


def _check_product(operator: str, left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > MAX_CHARS:
            raise SecurityError(f"{operator} would make a text of more than {MAX_CHARS:,} characters")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * (abs(right) if operator == "**" else 1)
        if bits > 10_000:
            raise SecurityError(f"{operator} would make a number of more than 3,000 digits")


def _short(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > MAX_CHARS:
        raise SecurityError(f"a text or list of more than {MAX_CHARS:,} is too much for a prompt")
    return value


def _bound(tree: nodes.Template) -> None:
    """Make every loop count its steps, and every ~ its length."""
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "_bounded")
    for concat in list(tree.find_all(nodes.Concat)):
        concat.nodes = [_filtered(nodes.List(concat.nodes, lineno=concat.lineno), "_joined")]


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


def _spend(context: Context, steps: int) -> None:
    budget = context.get(STEPS)
    budget[0] -= steps
    if budget[0] < 0:
        raise SecurityError(f"the loops take more than {MAX_STEPS:,} steps")


@pass_context
def _bounded(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _spend(context, 1)
        yield value


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    _spend(context, len(numbers))
    return numbers


def _joined(values: list[Any]) -> str:
    texts = [str(value) for value in values]
    if sum(map(len, texts)) > MAX_CHARS:
        raise SecurityError(f"~ would make a text of more than {MAX_CHARS:,} characters")
    return "".join(texts)
