"""What the file system refuses, as StorageError; renames that survive a power loss; locks that are held."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from mavi_tasks.errors import StorageError

_ELSEWHERE: Final = "choose another folder with --out"
_HINTS: Final[Mapping[int, str]] = {
    errno.ENOSPC: "the disk is full: make room and run again",
    errno.EDQUOT: "your disk quota is used up: make room and run again",
    errno.EROFS: f"it is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: {_ELSEWHERE}",
    errno.ENOTDIR: f"a part of this path is a file: {_ELSEWHERE}",
    errno.ENOLCK: f"this file system has no locks: {_ELSEWHERE}",
    errno.EEXIST: f"a part of this path is a file: {_ELSEWHERE}",
}


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power loss; Windows has no such thing, and needs none."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def storage_errors(folder: Path, doing: str) -> Iterator[None]:
    """Raise what the file system refuses in this block as StorageError, with what the user can do."""
    try:
        yield
    except Timeout as error:
        raise StorageError(f"{folder}: another process holds this writer's lock") from error
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot {doing} {folder}: {hint}") from error


def put_in_place(staged: Path, final: Path) -> None:
    """Rename, once the content is on the disk; the name is when the folder is synced."""
    with staged.open("rb+") as file:
        os.fsync(file.fileno())
    if not final.parent.is_dir():
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(final.parent.parent)
    staged.replace(final)


def lock_is_free(path: Path) -> bool:
    """Whether no process holds this lock file; the system frees it when its process ends."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True
