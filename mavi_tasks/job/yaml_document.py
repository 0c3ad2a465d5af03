"""YAML text to plain values, with the line of every key, so that a problem can say where it is.

PyYAML composes nodes (which know their lines); the values are built from them here, because `safe_load`
silently takes the last of two equal keys and forgets the lines.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from mavi_tasks.common.regular_file import read_bytes
from mavi_tasks.errors import InputError

MAX_BYTES: Final = 4_000_000  # a job is a page of text; more is a manifest given by mistake
MAX_DEPTH: Final = 100  # of mappings and lists in each other, aliases written out
MAX_VALUES: Final = 200_000  # aliases can make a small file expand without end

_EXPLAINED: Final = (yaml.YAMLError, ValueError)
# PyYAML's own constructors of !!int '', !!bool perhaps, !!timestamp x and the like raise these.
_UNREADABLE: Final = (*_EXPLAINED, LookupError, AttributeError, TypeError, ArithmeticError)
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "tag:yaml.org,2002:merge"


class Document:
    """One YAML file: its values as plain dicts and lists, the line of each, and the problems found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._root = _compose(path)
        self._loader = yaml.SafeLoader("")
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        self._check_size()
        self.values: dict[str, Any] = self._mapping(self._root)

    def line(self, loc: Sequence[str | int]) -> int:
        """The line of the key at `loc`, or of its nearest parent in the file."""
        node: yaml.Node = self._root
        line = 1
        for step in loc:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line

    def _add_problem(self, node: yaml.Node, text: str) -> None:
        self.problems.append(f"{self.path.name}:{node.start_mark.line + 1}: {text}")

    def _check_size(self) -> None:
        values, depth = _expanded(self._root, {}, set())
        if depth > MAX_DEPTH:
            raise InputError(f"{self.path.name}: is nested more than {MAX_DEPTH} levels deep")
        if values > MAX_VALUES:
            raise InputError(f"{self.path.name}: its aliases (&, *) expand without end; write the values out")

    def _value(self, node: yaml.Node) -> Any:
        """The plain value of a node; each node is made once, however many aliases point to it."""
        if id(node) not in self._done:
            self._done[id(node)] = self._made(node)
        return self._done[id(node)]

    def _made(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child) for child in node.value]
        try:
            return self._loader.construct_object(node)
        except _UNREADABLE as problem:
            why = (
                (str(problem).splitlines() or [""])[0] if isinstance(problem, _EXPLAINED) else "no such value"
            )
            self._add_problem(node, f"{str(node.value)[:60]!r} cannot be read: {why}")
            return None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = self._merged(value_node) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._add_problem(key_node, "a key must be text")
                continue
            key = str(key_node.value)
            if key in own:
                self._add_problem(key_node, f"{key}: duplicate key (first on line {lines[key]}); keep one")
                continue
            lines[key] = key_node.start_mark.line + 1
            own[key] = self._value(value_node)
        return merged | own

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        values = [
            self._value(part) for part in (node.value if isinstance(node, yaml.SequenceNode) else [node])
        ]
        if not all(isinstance(value, dict) for value in values):
            self._add_problem(node, "<<: can only merge mappings")
            return {}
        return {key: item for value in reversed(values) for key, item in value.items()}


def _compose(path: Path) -> yaml.MappingNode:
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as problem:
        raise InputError(_syntax(path, text, problem)) from problem
    if root is None:
        raise InputError(f"{path.name}: is empty; a job needs at least `manifest`, `models` and `prompts`")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path.name}: must be a mapping of keys such as `manifest:` and `models:`")
    return root


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: is too large for a job file; is it the manifest?")
        data = read_bytes(path)
    except FileNotFoundError:
        raise InputError(f"job file not found: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name the job file in it") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from problem
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path.name}: is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        byte = data[problem.start]
        raise InputError(
            f"{path.name}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _syntax(path: Path, text: str, problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    if mark is None:
        return f"{path.name}: is not valid YAML: {str(problem).splitlines()[0]}"
    lines = text.splitlines()
    wrong = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in wrong[: len(wrong) - len(wrong.lstrip())]:
        return f"{path.name}:{mark.line + 1}: a tab indents this line; YAML takes only spaces"
    why = getattr(problem, "problem", None) or getattr(problem, "context", None)
    return f"{path.name}:{mark.line + 1}: is not valid YAML: {why} (column {mark.column + 1})"


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return value, key.start_mark.line + 1
    return None


def _expanded(node: yaml.Node, known: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """How many values the node stands for with all aliases written out, and how deep they lie."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 1
    if id(node) in above:
        return MAX_VALUES + 1, 1  # it contains itself
    if len(above) > MAX_DEPTH:
        return 1, MAX_DEPTH + 1
    if id(node) not in known:
        pairs = isinstance(node, yaml.MappingNode)
        children = [part for pair in node.value for part in pair] if pairs else node.value
        below = [_expanded(child, known, above | {id(node)}) for child in children]
        known[id(node)] = 1 + sum(values for values, _ in below), 1 + max((d for _, d in below), default=0)
    return known[id(node)]
