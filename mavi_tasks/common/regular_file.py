"""Files that users name, opened only when they are regular: the reader of a pipe would wait for ever."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

# Without O_NONBLOCK the open of a pipe would wait for ever.
_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)


def open_binary(path: str | os.PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """A regular file, open for reading, symbolic links followed.

    Raises OSError, also for anything else than a regular file; its `strerror` says what it is.
    """
    number = os.open(path, _FLAGS)
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe, socket or device, not a regular file", os.fspath(path))
        return os.fdopen(number, "rb", buffering=buffering)
    except BaseException:
        os.close(number)
        raise


def read_bytes(path: Path) -> bytes:
    """The whole content of a regular file. Raises OSError as `open_binary` does."""
    with open_binary(path) as file:
        return file.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The whole text of a regular file. Raises OSError as `open_binary` does, UnicodeDecodeError."""
    with io.TextIOWrapper(open_binary(path), encoding=encoding) as file:
        return file.read()
