"""What the user trusts, a line each, in a file of the settings folder that nobody else can have written."""

from collections.abc import Mapping
from pathlib import Path

from mavi_tasks.common.user_folders import config_folder, private, read_private, write_private
from mavi_tasks.errors import InputError


def entries(name: str, variable: str, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """(where it stands, entry) of the file `name`, then of an environment variable, separated by commas.

    Raises InputError when the file cannot be read, or others could have written it.
    """
    path = _path(name, env)
    given = [(variable, entry) for entry in env.get(variable, "").split(",")]
    found = [*((str(path), line) for line in _lines(path)), *given]
    return [(where, entry.strip()) for where, entry in found if entry.strip()]


def add(name: str, entry: str, option: str, env: Mapping[str, str]) -> None:
    """Store an entry, once. Raises InputError, which begins with the option, when that cannot be done."""
    path = _path(name, env)
    known = _lines(path)
    if entry in known:
        return
    try:
        private(path.parent)
        write_private(path, "".join(f"{line}\n" for line in [*known, entry]).encode())
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be written ({error.strerror})") from error


def _path(name: str, env: Mapping[str, str]) -> Path:
    return config_folder(env) / name


def _lines(path: Path) -> list[str]:
    try:
        if not path.parent.is_dir():
            return []
        private(path.parent)
        return (read_private(path) or "").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
