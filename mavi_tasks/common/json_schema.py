"""Local references of a JSON Schema ($ref)."""

from collections.abc import Mapping
from typing import Any


class ReferenceProblem(ValueError):
    """A reference that is not local, or does not lead anywhere; the text continues "$ref '...'"."""


def referred(reference: str, root: Any) -> Any:
    """The node that a local reference such as '#/$defs/pet' leads to. Raises ReferenceProblem."""
    if reference != "#" and not reference.startswith("#/"):
        raise ReferenceProblem("must be local, such as '#/$defs/pet'")
    node = root
    for step in reference[2:].split("/") if len(reference) > 1 else []:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            raise ReferenceProblem(f"leads nowhere; there is no {name!r}")
    return node
