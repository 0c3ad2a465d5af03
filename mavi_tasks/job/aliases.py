"""Fields that the command line and the Python API name or write in another form than job files do."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mavi_tasks.job import gateway_file, validators


def _here(_: Any, value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return validators.path(text, Path.cwd()) if isinstance(text, str) and text.strip() else text


def _is_gateway_file(value: Any) -> bool:
    return isinstance(value, str) and gateway_file.is_file(value)


def _with_base_url(written: Any, base_url: Any) -> dict[str, Any]:
    """Another base URL is another gateway, whose answers must not count as MAVI's; a sandbox stays one."""
    others = dict(written) if isinstance(written, Mapping) else {"name": written}
    name = "sandbox" if others.get("name") == "sandbox" else "custom"
    return {**others, "name": name, "base_url": base_url}


# Fields that have another name or form on the command line.
ALIASES: Final[Mapping[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "prompt": ("prompts", lambda _, text: {"prompt": text}),
    "base_url": ("gateway", _with_base_url),
    "output": ("output", _here),
    "manifest": ("manifest", _here),
    "gateway": ("gateway", lambda _, value: _here(_, value) if _is_gateway_file(value) else value),
}
