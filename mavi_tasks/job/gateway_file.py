"""gateway.yaml: what `mavi doctor --probe` found out about a gateway, for jobs to include."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from mavi_tasks.common.field_types import wrong
from mavi_tasks.errors import InputError
from mavi_tasks.job.yaml_document import Document

SUFFIXES: Final = (".yaml", ".yml")


def is_file(text: str) -> bool:
    """Whether a job's `gateway:` names such a file."""
    return "://" not in text and text.lower().endswith(SUFFIXES)


def included(text: str, base: Path) -> dict[str, Any]:
    """The settings in it, with its path as `file`. Raises a problem of the field that names the file."""
    path = base / Path(text).expanduser()
    if not path.exists():
        raise wrong("is not there; `mavi doctor --probe --to gateway.yaml` makes one")
    try:
        document = Document(path)
    except InputError as error:
        raise wrong(f"cannot be read: {error}") from error
    if document.problems:
        raise wrong(f"cannot be read: {'; '.join(document.problems)}")
    return {**document.values, "file": str(path.resolve())}


def text_of(settings: Mapping[str, Any], day: str) -> str:
    """The file's text; `day` for its first line."""
    return (
        f"# Found out by `mavi doctor --probe` on {day}. A job includes it: gateway: gateway.yaml\n"
        + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)
    )
