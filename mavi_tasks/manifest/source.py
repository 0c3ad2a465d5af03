"""Opens a manifest: a file, packed with gzip or not, on this machine, s3, gs or https."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TextIO, cast

from mavi_tasks.common.regular_file import open_binary
from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import MAX_ROW_BYTES
from mavi_tasks.manifest.resolve import Base
from mavi_tasks.media.urls import shown

# What to install for a file system that fsspec does not include.
_INSTALL: Final = {
    "s3": "pip install 'mavi-tasks[s3]'",
    "gs": "pip install gcsfs",
    "https": "pip install aiohttp",
}
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_BUFFER: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """A manifest: its path or URL, the name that messages use, its suffix without .gz."""

    path: str
    name: str
    suffix: str
    packed: bool
    base: Base

    @property
    def remote(self) -> bool:
        return "://" in self.path

    @contextmanager
    def binary(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked. Raises InputError when they cannot be read."""
        with self._translated(), self._raw() as raw:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if self.packed else raw

    @contextmanager
    def text(self) -> "Iterator[tuple[TextIO, Intake]]":
        """The text of a UTF-8 file, line ends untouched, and the count of its bytes.

        Raises InputError naming the line and the byte. Reading raises RowTooLong.
        """
        with self.binary() as raw:
            intake = Intake(raw)
            text = io.TextIOWrapper(io.BufferedReader(intake, _BUFFER), encoding="utf-8-sig", newline="")
            try:
                yield text, intake
            except UnicodeDecodeError:
                raise InputError(self._bad_byte()) from None
            except _BadBytes as problem:
                raise InputError(f"{self.name}{problem}") from None
            finally:
                text.detach()  # closing it would close what the caller still owns

    def not_utf8(self, line: int, byte: int) -> str:
        """The message for a byte that is not UTF-8."""
        return (
            f"{self.name}:{line}: byte 0x{byte:02x} is not UTF-8; if the file is Latin-1 or Windows-1252, "
            f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {self.name} > utf8-{self.name}"
        )

    def _bad_byte(self) -> str:
        """Where the first byte is that is not UTF-8; the file is read again, in pieces."""
        decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
        with self.binary() as raw:
            while data := raw.read(_BUFFER):
                try:
                    decoder.decode(data)
                except UnicodeDecodeError as problem:
                    line = lines + problem.object.count(b"\n", 0, problem.start)
                    return self.not_utf8(line, problem.object[problem.start])
                lines += data.count(b"\n")
        return f"{self.name}: is not UTF-8; save it as UTF-8"

    @contextmanager
    def _raw(self) -> Iterator[BinaryIO]:
        if not self.remote:
            with open_binary(self.path) as file:
                yield file
            return
        fs, path = file_system(self.path)
        with call_store(self.path, lambda: fs.open(path, "rb")) as file:
            yield file

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            rights = ", or no permission to read it" if self.remote else ""
            raise InputError(f"manifest not found{rights}: {shown(self.path)}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
            raise InputError(f"{self.name}: is not a complete gzip file: {problem}") from problem
        except OSError as problem:
            raise InputError(
                f"{shown(self.path)}: cannot be read: {problem.strerror or problem}"
            ) from problem


class _BadBytes(Exception):
    """Bytes that no text manifest holds; `str()` reads after the file's name."""


class RowTooLong(Exception):
    """A row of text that is longer than MAX_ROW_BYTES; the reader knows on which line it begins."""


class Intake(io.RawIOBase):
    """Passes bytes on and counts them; refuses UTF-16 and NUL bytes, which the csv module takes for text.

    The reader sets `row_start` to `total` after each row: no row is read without end.
    """

    __slots__ = ("_lines", "_raw", "row_start", "total")

    def __init__(self, raw: BinaryIO) -> None:
        self.total = 0
        self.row_start = 0
        self._raw = raw
        self._lines = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.total - self.row_start > MAX_ROW_BYTES:
            raise RowTooLong
        data = self._raw.read(len(buffer))
        if not self.total and data.startswith(_UTF16):
            raise _BadBytes(": is UTF-16; convert it: iconv -f UTF-16 -t UTF-8, or save it as `CSV UTF-8`")
        if b"\0" in data:
            line = self._lines + data.count(b"\n", 0, data.index(b"\0"))
            raise _BadBytes(f":{line}: holds a NUL byte; the file is damaged, or not text")
        self._lines += data.count(b"\n")
        self.total += len(data)
        buffer[: len(data)] = data
        return len(data)


def call_store(url: str, call: Callable[[], Any]) -> Any:
    """Call a remote store. Raises InputError for its own errors; OSErrors pass, their text says enough."""
    try:
        return call()
    except OSError:
        raise
    except Exception as problem:  # every store has its own errors: botocore, aiohttp, google.auth, ...
        why = f"{type(problem).__name__} {getattr(problem, 'status', '')}".strip()
        raise InputError(
            f"{shown(url)}: cannot be read ({why}); check the name and the permissions"
        ) from problem


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Raises InputError with what to install."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as problem:
        hint = _INSTALL.get(scheme)
        text = f"{scheme}:// needs more: {hint}" if hint else f"{scheme}:// is not known: {problem}"
        raise InputError(f"{shown(url)}: {text}") from problem
    return fs, path
