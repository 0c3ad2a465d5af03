"""What was read of local media, kept between runs: each file is read once, not once in every run.

    with ProbeIndex(DIR / "_library") as index:
        index.look_up(paths, stamps)    # the probe of each file; None: the file must be read

`DIR/_library/*.arrow` holds a row for each path: a hash of the path, the size and time of the file when it
was read, and what was in it (sha256, MIME type, pixels, seconds): 82 bytes, mapped into memory. An index by
hash is built on opening, 12 bytes a row. A file counts as unchanged while its size and modification
time are the same, as for rsync and make.

Tables are immutable: written under a hidden name, then renamed; small ones are merged into one, the newest
row of a path counts. A table's name ends in its sha256, because a flipped bit in a digest would have a medium
paid for again; one that does not fit its name is renamed to `.damaged`, and its media are read again. The
folder can be deleted at any time: the next run then reads every file again.
"""

import contextlib
import logging
import math
import mmap
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from mavi_tasks.media import Probe

log = logging.getLogger("mavi")

SAVE_AFTER_ROWS: Final = 50_000
SAVE_AFTER_S: Final = 30.0  # a kill loses at most what was read in this time
RELEASE_AFTER_ROWS: Final = 50_000  # rows looked up
# A file that may still be written to within the tick of its own clock (2 s on FAT) is read again next time.
SETTLED_NS: Final = 2_000_000_000

_SCHEMA: Final = pa.schema(
    [
        ("path_high", pa.uint64()),  # blake2b of the path, 128 bits in two words
        ("path_low", pa.uint64()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("sha256", pa.binary(32)),
        ("mime", pa.dictionary(pa.int16(), pa.string())),
        ("width", pa.int32()),  # 0: not known
        ("height", pa.int32()),
        ("duration_s", pa.float64()),  # NaN: not known
    ]
)

DIGEST_CHARS: Final = 32

Stamp = tuple[int, int]  # size, mtime_ns
Columns = Mapping[str, Any]  # numpy arrays by the names of the schema; mime as codes


class ProbeIndex:
    """The probes of one dataset's local media. Thread-safe; several processes may share the folder."""

    def __init__(self, folder: Path, *, keep: bool = True, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._new: dict[str, tuple[int, int, Probe]] = {}
        self._tables = [table for path in _paths(folder) if (table := _whole(path, keep)) is not None]
        self._save_at = time.monotonic() + SAVE_AFTER_S
        self._read_only = not keep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Rows, including those of files that no longer exist."""
        return sum(len(table) for table in self._tables) + len(self._new)

    def get(self, path: str, size: int, mtime_ns: int) -> Probe | None:
        """The probe of a file of this path, size and time, or None."""
        return self.look_up([path], [(size, mtime_ns)])[0]

    def look_up(self, paths: Sequence[str], stamps: Sequence[Stamp]) -> list[Probe | None]:
        """`get` for many at once: 3 us each instead of 60."""
        found: list[Probe | None] = [None] * len(paths)
        if not paths:
            return found
        hashes = _hashed(paths)
        stamp_array = np.array(stamps, np.int64)
        recent, tables = self._new, self._tables  # in this order: rows move from the first to the second
        for table in tables:
            table.look_up(hashes, stamp_array, found)
        if recent:
            for index, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
                new = recent.get(path)
                if new is not None and new[:2] == stamp:
                    found[index] = new[2]
        return found

    def put(self, path: str, size: int, mtime_ns: int, probe: Probe) -> None:
        """Remember a probe, unless the file changed so recently that a second change may go unseen."""
        if self._now_ns() - mtime_ns < SETTLED_NS:
            return
        with self._lock:
            self._new[path] = (size, mtime_ns, probe)
            if len(self._new) >= SAVE_AFTER_ROWS or time.monotonic() >= self._save_at:
                self._save()

    def close(self) -> None:
        """Save new probes."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        """Write the new probes as a table, merged with the tables that are not much larger."""
        self._save_at = time.monotonic() + SAVE_AFTER_S
        if not self._new or self._read_only:
            return
        newest = _Table.of(self._new)
        old = list(self._tables)
        merged = [newest]
        while old and len(old[0]) <= 2 * sum(len(table) for table in merged):
            merged.append(old.pop(0))
        try:
            self._tables = [_written(self._folder, _merged(merged[::-1])), *old]
        except OSError as error:
            self._read_only = True
            log.warning("%s: the media index cannot be saved: %s", self._folder, error)
            return
        self._new = {}
        for table in merged[1:]:
            table.delete()


class _Table:
    """Rows in the order in which they were added, which is about the order in which they are looked up."""

    def __init__(
        self, columns: Columns, mimes: Sequence[str], path: Path | None = None, mapping: Any = None
    ) -> None:
        self.columns, self.mimes, self.path = columns, mimes, path
        self._mapping = mapping  # the file, mapped into memory
        self._looked_up = 0
        order = np.argsort(columns["path_high"], kind="stable").astype(np.uint32)
        self._high, self._rows = columns["path_high"][order], order

    def __len__(self) -> int:
        return len(self._rows)

    @classmethod
    def of(cls, rows: Mapping[str, tuple[int, int, Probe]]) -> Self:
        """A table of new probes, by path."""
        probes = [probe for _, _, probe in rows.values()]
        mimes = sorted({probe.mime for probe in probes})
        high, low = _hashed(list(rows))
        raw = b"".join(bytes.fromhex(probe.sha256) for probe in probes)
        seconds = [math.nan if probe.duration_s is None else probe.duration_s for probe in probes]
        columns = {
            "path_high": high,
            "path_low": low,
            "bytes": np.array([size for size, _, _ in rows.values()], np.int64),
            "mtime_ns": np.array([mtime_ns for _, mtime_ns, _ in rows.values()], np.int64),
            "sha256": np.frombuffer(raw, np.uint8).reshape(-1, 32),
            "mime": np.array([mimes.index(probe.mime) for probe in probes], np.int16),
            "width": np.array([probe.width or 0 for probe in probes], np.int32),
            "height": np.array([probe.height or 0 for probe in probes], np.int32),
            "duration_s": np.array(seconds, np.float64),
        }
        return cls(columns, mimes)

    def look_up(self, hashes: tuple[Any, Any], stamps: Any, found: list[Probe | None]) -> None:
        """Fill in what this table knows, where a newer table did not."""
        if not len(self):
            return
        high, low = hashes
        nearest = np.minimum(np.searchsorted(self._high, high), len(self) - 1)
        positions = np.flatnonzero(self._high[nearest] == high)
        rows = self._rows[nearest[positions]]
        same = self.columns["path_low"][rows] == low[positions]
        same &= self.columns["bytes"][rows] == stamps[positions, 0]
        same &= self.columns["mtime_ns"][rows] == stamps[positions, 1]
        for position, probe in zip(positions[same].tolist(), self._probes(rows[same]), strict=True):
            if found[position] is None:
                found[position] = probe
        self._release_pages(len(high))

    def _probes(self, rows: Any) -> Iterator[Probe]:
        taken = [self.columns[name][rows].tolist() for name in ("mime", "width", "height", "duration_s")]
        digests = self.columns["sha256"][rows].tobytes().hex()
        for index, (mime, width, height, duration_s) in enumerate(zip(*taken, strict=True)):
            yield Probe(
                self.mimes[mime],
                digests[64 * index : 64 * index + 64],
                width or None,
                height or None,
                None if math.isnan(duration_s) else duration_s,
            )

    def _release_pages(self, looked_up: int) -> None:
        """From time to time return the pages that were read to the system, which caches them anyway."""
        self._looked_up += looked_up
        if (
            self._looked_up >= RELEASE_AFTER_ROWS
            and self._mapping is not None
            and hasattr(mmap, "MADV_DONTNEED")
        ):
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._looked_up = 0

    def delete(self) -> None:
        """Remove the file; it stays where the system forbids that because another process has it open."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()


def _merged(tables: Sequence[_Table]) -> _Table:
    """One table of several; of equal paths the row of the last table counts."""
    if len(tables) == 1:
        return tables[0]
    mimes = sorted({mime for table in tables for mime in table.mimes})
    high, low = (np.concatenate([table.columns[name] for table in tables]) for name in _SCHEMA.names[:2])
    order = np.lexsort((low, high))  # stable: the newest row of a path is the last of its kind
    last = np.ones(len(order), bool)
    last[:-1] = (high[order[1:]] != high[order[:-1]]) | (low[order[1:]] != low[order[:-1]])
    kept = np.sort(order[last])
    columns = {"path_high": high[kept], "path_low": low[kept]}
    for name in _SCHEMA.names[2:]:
        parts = [table.columns[name] for table in tables]
        if name == "mime":
            codes = [np.array([mimes.index(mime) for mime in table.mimes], np.int16) for table in tables]
            parts = [code[part] for code, part in zip(codes, parts, strict=True)]
        columns[name] = np.concatenate(parts)[kept]
    return _Table(columns, mimes)


# -- files


def _paths(folder: Path) -> list[Path]:
    """The tables, the newest first: their names begin with when they were written."""
    return sorted(
        (path for path in folder.glob("*.arrow") if path.name[0] != "." and path.is_file()), reverse=True
    )


def damaged(folder: Path) -> list[Path]:
    """The tables of an index that cannot be trusted; those that were found and renamed earlier, too."""
    found = sorted(folder.glob("*.damaged"))
    for path in _paths(folder):
        try:
            _read(path)
        except DamagedError:
            found.append(path)
    return found


class DamagedError(Exception):
    """A table that cannot be read, or does not fit its name."""


def _whole(path: Path, keep: bool) -> _Table | None:
    """A table; None when it is gone or damaged, which is said."""
    try:
        return _read(path)
    except DamagedError as error:
        log.warning("%s cannot be read (%s): its media are read again", path, error)
        if keep:
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
        return None


def _read(path: Path) -> _Table | None:
    """A table, mapped into memory; None when another process merged it away, or it is of another version.

    Raises DamagedError.
    """
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _, _, digest = path.stem.partition("-")
        if len(digest) == DIGEST_CHARS and digest != _digest(mapping):  # of older versions: a random word
            raise DamagedError("its bytes do not match its name")
        with pa.ipc.open_file(pa.py_buffer(mapping)) as reader:
            batch = reader.get_batch(0) if reader.schema == _SCHEMA and reader.num_record_batches else None
            if batch is not None:
                batch.validate(full=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: the file is empty
        raise DamagedError(str(error)) from error
    if batch is None:
        return None  # of another version
    digests, mime = batch["sha256"].buffers()[1], batch["mime"]
    columns = {name: batch[name].to_numpy() for name in _SCHEMA.names if name not in ("sha256", "mime")}
    columns["sha256"] = np.frombuffer(digests, np.uint8, 32 * len(batch)).reshape(-1, 32)
    columns["mime"] = mime.indices.to_numpy()
    return _Table(columns, mime.dictionary.to_pylist(), path, mapping)


def _digest(content: Any) -> str:
    return sha256(content).hexdigest()[:DIGEST_CHARS]


def _written(folder: Path, table: _Table) -> _Table:
    """Write a table and map it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{secrets.token_hex(8)}.arrow"
    try:
        with hidden.open("wb") as file:
            with pa.ipc.new_file(file, _SCHEMA) as writer:
                writer.write_batch(_batch(table))
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{time.time_ns():020d}-{_digest(hidden.read_bytes())}.arrow"
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    return _read(path) or table


def _batch(table: _Table) -> pa.RecordBatch:
    columns = dict(table.columns)
    digests = pa.py_buffer(np.ascontiguousarray(columns.pop("sha256")))
    mimes = pa.array(table.mimes, pa.string())
    made = {
        "sha256": pa.Array.from_buffers(pa.binary(32), len(table), [None, digests]),
        "mime": pa.DictionaryArray.from_arrays(columns.pop("mime"), mimes),
        **{name: pa.array(column) for name, column in columns.items()},
    }
    return pa.record_batch([made[name] for name in _SCHEMA.names], schema=_SCHEMA)


def _hashed(paths: Sequence[str]) -> tuple[Any, Any]:
    raw = b"".join([blake2b(os.fsencode(path), digest_size=16).digest() for path in paths])
    halves = np.frombuffer(raw, np.uint64)
    return halves[0::2], halves[1::2]
