"""The Jinja2 environment of the prompts: no files, no randomness, no endless work.

Templates are the user's own, but copied from anywhere. Beyond Jinja2's sandbox (no attributes that lead out)
only the listed filters, tests, methods and statements exist, and all work of one rendering is paid from one
budget. What is random is left out: a prompt that differs on the next run would be sent, and paid, again.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from jinja2 import StrictUndefined, Template, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Macro
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from mavi_tasks.prompts import allowed
from mavi_tasks.prompts.render_budget import CHARS_PER_STEP, MAX_BITS, MAX_CHARS, as_value, pay, spend

MAX_NODES: Final = 20_000  # of one template's program
NODES_PER_STEP: Final = 8  # that run in the time of a step

_NO_FILES: Final = "reads other files; a prompt stands for itself"
_FORBIDDEN: Final[dict[type[nodes.Node], str]] = {
    nodes.Include: "{% include %} " + _NO_FILES, nodes.Import: "{% import %} " + _NO_FILES,
    nodes.FromImport: "{% from %} " + _NO_FILES, nodes.Extends: "{% extends %} " + _NO_FILES,
    nodes.Block: "{% block %} is for pages; a prompt stands for itself",
    nodes.CallBlock: "{% call %} is off; call a macro by its name",
}  # fmt: skip


class Nothing(ValueError):
    """A null that a template prints: it would read "None" in the prompt."""


def printed(value: Any) -> Any:
    """The value, unless it is null or NaN."""
    if value is None or value != value:
        raise Nothing
    return value


@pass_context  # so that nothing is printed, unpaid, while the template is compiled
def _printed(context: Context, value: Any) -> Any:
    if type(value) is str and len(value) < CHARS_PER_STEP:  # free; most values are, and calls cost
        return value
    return pay(printed(value))


class Sandbox(SandboxedEnvironment):
    """Strict, silent about nothing, and bounded."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=_printed, optimized=False)
        self.globals.pop("lipsum")
        self.globals["range"] = _range
        self._functions = (*self.globals.values(),)
        self.filters = {
            name: allowed.bounded(self.filters[name], allowed.FILTER_CHECKS.get(name))
            for name in allowed.FILTERS
        } | {"_bounded": _bounded, "_joined": _joined, "_paid": pay, "_run": _run}
        self.tests = {name: allowed.bounded(self.tests[name], None) for name in allowed.TESTS}

    def template(self, source: str, name: str) -> tuple[Template, nodes.Template]:
        """Compile a prompt; raises TemplateSyntaxError. Returns the tree as parsed, too."""
        try:
            tree, paying = self.parse(source), self.parse(source)
            _check(tree)
            _make_paying(paying)
            code = self.compile(paying, name, name)
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise SecurityError("is nested too deeply") from error
        return Template.from_code(self, code, self.make_globals(None)), tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return allowed.is_allowed(obj, attr, value) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """No str.format: its widths make texts of any length."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format() is off; write the values into the template")
        return None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        pay(left)
        pay(right)
        if operator in ("*", "**"):
            _check_product(operator, left, right)
        if operator == "%" and isinstance(left, str):
            raise SecurityError("% on text is off; write the values into the template")
        return pay(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(1)
        if isinstance(__obj, Macro):
            return pay(super().call(__context, __obj, *args, **kwargs))
        for value in (*args, *kwargs.values()):
            pay(value)
        if __obj not in __self._functions:
            if not allowed.is_ours(__obj):
                raise SecurityError(f"a {type(__obj).__name__} cannot be called")
            owner = getattr(__obj, "__self__", None)
            check = allowed.METHOD_CHECKS.get(getattr(__obj, "__name__", ""))
            if isinstance(owner, str | list | tuple | dict):
                pay(owner)
            if check is not None:
                check(owner, *args, **kwargs)
        made = as_value(super().call(__context, __obj, *args, **kwargs))
        return made if isinstance(made, Namespace | Cycler | Joiner) else pay(made)


def _check_product(operator: str, left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > MAX_CHARS:
            raise SecurityError(f"{operator} would make a text of more than {MAX_CHARS:,} characters")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * (abs(right) if operator == "**" else 1)
        if bits > MAX_BITS // 2:
            raise SecurityError(f"{operator} would make a number of more than 3,000 digits")


def _check(tree: nodes.Template) -> None:
    for count, node in enumerate(tree.find_all(nodes.Node)):
        if count > MAX_NODES:
            raise SecurityError(f"has more than {MAX_NODES:,} parts; put long texts into columns")
        if why := _FORBIDDEN.get(type(node)):
            raise SecurityError(why)
        if isinstance(node, nodes.For) and node.recursive:
            raise SecurityError("{% for ... recursive %} is off; write the loops one inside the other")


def _make_paying(tree: nodes.Template) -> None:
    """Put a payment wherever the engine works without calling the sandbox: loops, ~, comparisons, lists."""
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "_bounded")
    repeated: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
    for node, weight in [(node, _weight(node)) for node in repeated]:
        if weight == 0:
            continue
        paid = _filtered(nodes.Const(weight, lineno=node.lineno), "_run")
        node.body.insert(0, nodes.ExprStmt(paid, lineno=node.lineno))
    for compare in list(tree.find_all(nodes.Compare)):
        compare.expr = _paid(compare.expr)
        for operand in compare.ops:
            operand.expr = _paid(operand.expr)
    for parent in list(tree.find_all(nodes.Node)):
        for field, child in parent.iter_fields():
            _pay_made(parent, field, child)
    for concat in list(tree.find_all(nodes.Concat)):
        concat.nodes = [_filtered(nodes.List(concat.nodes, lineno=concat.lineno), "_joined")]


def _weight(repeated: nodes.Node) -> int:
    """The steps that one run of a loop's or macro's body takes, beside what is paid for inside it."""
    count, chars = 0, 0
    for node in repeated.find_all(nodes.Node):
        count += 1
        chars += len(node.data) if isinstance(node, nodes.TemplateData) else 0
    return count // NODES_PER_STEP + chars // CHARS_PER_STEP


def _pay_made(parent: nodes.Node, field: str, child: Any) -> None:
    """Slices, and lists that are written into the template, are made without the sandbox."""
    if isinstance(child, list):
        setattr(parent, field, [_paid_if_made(one) for one in child])
    else:
        setattr(parent, field, _paid_if_made(child))


def _paid_if_made(node: Any) -> Any:
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _filtered(node, "_paid")
    if isinstance(node, nodes.List | nodes.Tuple) and getattr(node, "ctx", "load") == "load":
        return node if all(isinstance(item, nodes.Const) for item in node.items) else _filtered(node, "_paid")
    return _filtered(node, "_paid") if isinstance(node, nodes.Dict) else node


def _paid(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filtered(node, "_paid")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


# ---- what the payments call; a template may call them by name too, which only costs it more


def _bounded(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        spend(1)
        yield value


def _run(steps: Any) -> None:
    spend(abs(int(steps)))


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    spend(len(numbers))
    return numbers


def _joined(values: list[Any]) -> str:
    texts = [str(pay(value)) for value in values]
    if sum(map(len, texts)) > MAX_CHARS:
        raise SecurityError(f"~ would make a text of more than {MAX_CHARS:,} characters")
    return "".join(texts)
