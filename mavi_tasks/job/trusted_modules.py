"""Which Python modules a job may import: `answer_schema: module:Class`. The user says so, never a job.

To import a module runs its code, and a job may come from someone else. The user trusts a module once, by
`mavi run ... --trust-module MODULE`; it is stored in `$XDG_CONFIG_HOME/mavi/trusted_modules` (else
`~/.config/mavi/trusted_modules`). On workers, the environment variable MAVI_TRUSTED_MODULES holds such
entries, separated by commas.

| the module                    | its entry                                                  |
|-------------------------------|------------------------------------------------------------|
| lies beside the job file      | the path of its file, or of its package's folder           |
| is installed                  | its whole name: company.schemas                            |
"""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

from mavi_tasks.common.field_types import wrong
from mavi_tasks.errors import InputError
from mavi_tasks.job import trust_file

FILE: Final = "trusted_modules"
TRUSTED_MODULES: Final = "MAVI_TRUSTED_MODULES"
_CLASS: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names_a_class(text: str) -> bool:
    """Whether a text is of the form module:Class."""
    return _CLASS.fullmatch(text) is not None


def trust(entry: str, env: Mapping[str, str]) -> None:
    """Store a module that the user trusts: the path of a file or a package's folder, or an installed name.

    Raises InputError when it is neither, or cannot be stored.
    """
    path = Path(os.path.abspath(Path(entry).expanduser()))
    if os.sep in entry or entry.endswith(".py"):
        if not (path.is_dir() or (path.is_file() and path.suffix == ".py")) or not str(path).isprintable():
            raise InputError(f"--trust-module {entry}: there is no such Python file or package")
        entry = str(path.resolve())
    elif not _NAME.fullmatch(entry):
        raise InputError(
            f"--trust-module {entry!r}: must be the path of a Python file, or the name of an installed module"
        )
    trust_file.add(FILE, entry, "--trust-module", env)


def imported(name: str, base: Path, env: Mapping[str, str]) -> ModuleType:
    """The module of that name, from the folder `base` first; nothing is run before it is found trusted.

    Raises a validator's error: not found, not trusted, another one of this name is loaded, or its own errors.
    """
    top = name.partition(".")[0]
    beside = _beside(top, base)
    spec = beside or _installed(top)
    if spec is None:
        raise wrong(f"cannot be imported: there is no module {top} beside the job file, and none installed")
    entry = _entry(beside, base) if beside is not None else name
    if entry not in {one for _, one in trust_file.entries(FILE, TRUSTED_MODULES, env)}:
        raise wrong(
            f"would run the code of {entry}, which you have not trusted. If it may run, say so once: "
            f"mavi run ... --trust-module {entry} (on workers: {TRUSTED_MODULES}={entry})"
        )
    loaded = sys.modules.get(top)
    if beside is not None and loaded is not None and getattr(loaded.__spec__, "origin", None) != spec.origin:
        raise wrong(f"cannot be imported: another module {top} is loaded already; rename {entry}")
    return _import(name, base if beside is not None else None)


def _import(name: str, base: Path | None) -> ModuleType:
    before = list(sys.path)
    if base is not None:
        sys.path.insert(0, str(base))  # what it imports from beside it is found, as for a script
    try:
        return importlib.import_module(name)
    except Exception as problem:  # the user's own module may raise anything
        raise wrong(f"cannot be imported: {type(problem).__name__}: {problem}") from problem
    finally:
        sys.path[:] = before


def _beside(top: str, base: Path) -> ModuleSpec | None:
    """Where a module beside the job file lies; a folder without __init__.py only when none is installed."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(top, [str(base)])
    if spec is not None and spec.origin is None and _installed(top) is not None:
        return None
    return spec


def _installed(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except ValueError:  # __main__ has none
        return None


def _entry(spec: ModuleSpec, base: Path) -> str:
    """The file of a module, or the folder of a package."""
    is_package = spec.submodule_search_locations is not None
    return str((base / spec.name).resolve() if is_package else Path(str(spec.origin)).resolve())
