"""Local files, opened so that nothing else than a regular file is ever read, and never more than its size."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, Final

from mavi_tasks.common import regular_file
from mavi_tasks.media.sniff import HEAD_BYTES
from mavi_tasks.media.types import MB, Refusal

_CHUNK_BYTES: Final = 1 << 20


class RefusedError(Exception):
    """Carries a refusal inside this package; it never leaves the package."""

    def __init__(self, code: str, reason: str) -> None:
        self.refusal = Refusal(code, reason)
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows that a file is unchanged, without reading it."""

    size: int
    mtime_ns: int


def stamp(path: str, max_bytes: int) -> Stamp:
    """Size and time of a regular file. Raises RefusedError for anything else."""
    return _checked(_stat(path), path, max_bytes)


@contextmanager
def opened(path: str, max_bytes: int) -> Iterator[tuple[BinaryIO, Stamp]]:
    """A regular file, open for reading, symbolic links followed. Raises RefusedError as `stamp` does."""
    stamp(path, max_bytes)
    try:
        file = regular_file.open_binary(path, buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        yield file, _checked(os.fstat(file.fileno()), path, max_bytes)


def hashed(file: BinaryIO, mark: Stamp, path: str) -> tuple[bytes, str]:
    """The first bytes, and the SHA-256 of it all. Raises RefusedError when the file changed meanwhile."""
    digest = sha256()
    head = b""
    left = mark.size
    while left > 0 and (chunk := _read(file, min(left, _CHUNK_BYTES), path)):
        head = head or chunk[:HEAD_BYTES]
        digest.update(chunk)
        left -= len(chunk)
    _unchanged(file, mark, path, left)
    return head, digest.hexdigest()


def content(path: str, max_bytes: int) -> bytes:
    """The whole content of a regular file. Raises RefusedError as `stamp` and `hashed` do."""
    with opened(path, max_bytes) as (file, mark):
        chunks = []
        left = mark.size
        while left > 0 and (chunk := _read(file, left, path)):
            chunks.append(chunk)
            left -= len(chunk)
        _unchanged(file, mark, path, left)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def size_text(count: int) -> str:
    """`12.3 MB`, for messages."""
    return f"{count / MB:.1f} MB" if count >= MB // 10 else f"{count:,} bytes"


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(path, error) from error


def _read(file: BinaryIO, count: int, path: str) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise _unreadable(path, error) from error


def _checked(info: os.stat_result, path: str, max_bytes: int) -> Stamp:
    if not stat.S_ISREG(info.st_mode):
        what = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise RefusedError("media_not_a_file", f"{path} is {what}; a media must be a regular file")
    if info.st_size == 0:
        raise RefusedError("media_empty", f"{path} is empty (0 bytes)")
    if info.st_size > max_bytes:
        raise RefusedError(
            "media_too_large",
            f"{path} has {size_text(info.st_size)}, more than the {size_text(max_bytes)} allowed here",
        )
    return Stamp(info.st_size, info.st_mtime_ns)


def _unchanged(file: BinaryIO, mark: Stamp, path: str, left: int) -> None:
    info = os.fstat(file.fileno())
    if left or Stamp(info.st_size, info.st_mtime_ns) != mark:
        raise RefusedError(
            "media_changed", f"{path} changed while it was read; run again when it is complete"
        )


def _unreadable(path: str, error: Exception) -> RefusedError:
    if isinstance(error, FileNotFoundError):
        return RefusedError("media_missing", f"media not found: {path}")
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return RefusedError("media_missing", f"{path} cannot be read: {why}")
