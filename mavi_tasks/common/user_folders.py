"""Where mavi keeps what belongs to the user: settings and state, in folders that nobody else can change.

| folder                                         | holds                                                 |
|------------------------------------------------|-------------------------------------------------------|
| $XDG_CONFIG_HOME/mavi, else ~/.config/mavi     | what the user trusts                                  |
| $XDG_STATE_HOME/mavi, else ~/.local/state/mavi | spools of datasets in buckets; below it:              |
|   limits                                       | rate limits that the runs of a machine share          |
|   manifests                                    | rows given in Python for a dataset in a bucket        |

Never in /tmp under a name that can be foreseen: another user could make it first, or plant links in it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mavi_tasks.errors import InputError

_SET_OWN: Final = "set XDG_STATE_HOME and XDG_CONFIG_HOME to folders of your own"
_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_ROOT: Final = 0  # may change everything in any case
_WRITE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def config_folder(env: Mapping[str, str]) -> Path:
    """The folder of the user's settings; it may not exist."""
    return _folder(env, "XDG_CONFIG_HOME", Path(".config"))


def state_folder(env: Mapping[str, str]) -> Path:
    """The folder of what must outlast a run; it may not exist."""
    return _folder(env, "XDG_STATE_HOME", Path(".local") / "state")


def _folder(env: Mapping[str, str], variable: str, default: Path) -> Path:
    given = env.get(variable)
    return (Path(given) if given else Path.home() / default) / "mavi"


def private_state(env: Mapping[str, str], *names: str) -> Path:
    """The state folder, or a folder in it, made if need be and checked as `private` does."""
    folder = private(state_folder(env))
    for name in names:
        folder = private(folder / name)
    return folder


def private(folder: Path, *, user: int | None = None) -> Path:
    """The folder, made if need be, with no rights for other users.

    One that others could only read is closed to them. Raises InputError when it is a link, belongs to another
    user than `user` (None = the one who runs this), could be changed by others, or cannot be made.
    """
    try:
        _make(folder, user)
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror}); {_SET_OWN}") from error
    return folder


def _make(folder: Path, user: int | None) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check(folder, folder.lstat(), user)


def _check(path: Path, info: os.stat_result, user: int | None) -> None:
    if not stat.S_ISDIR(info.st_mode):
        what = "a link" if stat.S_ISLNK(info.st_mode) else "not a folder"
        raise InputError(f"{path}: is {what}; mavi keeps private files there: remove it, or rename it")
    _check_owner(path, info, user)
    if hasattr(os, "getuid") and info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) & _FOR_OTHERS:
        path.chmod(0o700)


def _check_owner(path: Path, info: os.stat_result, user: int | None) -> None:
    if not hasattr(os, "getuid"):  # Windows: a user's folders are private by themselves
        return
    user = os.geteuid() if user is None else user
    if info.st_uid not in (user, _ROOT):
        raise InputError(
            f"{path}: belongs to another user (uid {info.st_uid}, not {user}), who could change what mavi "
            f"reads there: remove it, or {_SET_OWN}"
        )
    if stat.S_IMODE(info.st_mode) & _WRITE_BY_OTHERS:
        raise InputError(
            f"{path}: can be changed by other users: look at what is in it, then: chmod go-rwx {path}"
        )


# -- files of these folders


def read_private(path: Path) -> str | None:
    """The text of a file that only the user can have written; None when there is none.

    Raises InputError when it is a link, or others could have written it; OSError when it cannot be read.
    """
    try:
        number = _opened(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(number, encoding="utf-8") as file:
        info = os.fstat(number)
        if not stat.S_ISREG(info.st_mode):
            raise InputError(f"{path}: is not a regular file; remove it")
        _check_owner(path, info, None)
        return file.read()


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole, readable by the user only. Raises OSError."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(_opened(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
    staged.replace(path)


def _opened(path: Path, flags: int) -> int:
    """A file opened without following a link, and without waiting for a pipe. Raises InputError, OSError."""
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)
    except OSError:
        if path.is_symlink():
            raise InputError(f"{path}: is a link; mavi keeps private files there: remove it") from None
        raise
