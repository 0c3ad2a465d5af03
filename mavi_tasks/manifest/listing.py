"""Manifests that are not tables: a folder, a glob, a bucket prefix, one media file.

A row is (reference, name, folder): the file's name and the last folder above it, which many collections
name by what is in it (`columns: {truth: folder}`). Rows of a bucket also have `media_etag`, which changes
with the object's content: an object replaced under its old name is sent again.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.resolve import Base
from mavi_tasks.manifest.rows import Batch, Rows
from mavi_tasks.manifest.source import call_store, file_system
from mavi_tasks.media.sniff import mime_of_name
from mavi_tasks.media.urls import shown

NAMES: Final = ("media_url", "name", "folder")
ETAG: Final = "media_etag"

# A reference below the base, when it was changed (seconds since 1970, read only when needed), and the ETag
# that a store gives its content; None where there is none.
Entry = tuple[str, Callable[[], float], str | None]


def is_media(name: str) -> bool:
    """Whether a file's name looks like media: a first filter; its content decides later."""
    return mime_of_name(name) is not None


def read_listing(
    path: str, problems: Problems, batch_rows: int, *, order: str = "manifest", since: datetime | None = None
) -> Rows:
    """The media of a folder (with its subfolders), a glob, a bucket prefix, or one file; sorted by path.

    Names that begin with a dot are left out. since: only what was changed after it. order "newest": the last
    changed first.
    """
    base, entries = _entries(path, problems)
    batches = partial(_batches, path, entries, batch_rows, order, since)
    names = (*NAMES, ETAG) if base.remote else NAMES
    return Rows(names, batches, base, _name(path), listing=True, numbered=False)


def _entries(path: str, problems: Problems) -> tuple[Base, Callable[[], Iterable[Entry]]]:
    if "://" in path:
        return _bucket(path)
    if os.path.isdir(path):
        return Base(path, trusted=True), partial(_walk, path, "", problems, frozenset())
    if os.path.isfile(path):
        folder, name = os.path.split(path)
        return Base(folder, trusted=True), lambda: [(name, partial(_changed, path), None)]
    root = _root(path)
    return Base(root, trusted=True), partial(_glob, path, root)


def _name(path: str) -> str:
    return shown(path) if "://" in path else os.path.basename(path.rstrip("/\\")) or path


def _batches(
    path: str, entries: Callable[[], Iterable[Entry]], batch_rows: int, order: str, since: datetime | None
) -> Iterator[Batch]:
    found = entries()
    if since is not None:
        moment = since.timestamp()
        found = (entry for entry in found if entry[1]() > moment)
    if order == "newest":
        dated = sorted((-changed(), ref, etag) for ref, changed, etag in found)
        refs: Iterator[tuple[str, str | None]] = ((ref, etag) for _, ref, etag in dated)
    else:
        refs = ((ref, etag) for ref, _, etag in found)
    row = _bucket_row if "://" in path else _row
    rows = 0
    while some := list(islice(refs, batch_rows)):
        yield range(rows + 1, rows + 1 + len(some)), [row(*one) for one in some]
        rows += len(some)
    if not rows and since is None:
        raise InputError(f"{shown(path)}: holds no media, judging by file names (.jpg, .mp4, ...)")


def _row(ref: str, etag: str | None = None) -> tuple[str | None, ...]:
    folder, _, name = ref.rpartition("/")
    return ref, name, folder.rpartition("/")[2]


def _bucket_row(ref: str, etag: str | None) -> tuple[str | None, ...]:
    return *_row(ref), etag


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:  # it was deleted after the listing
        return 0.0


def _walk(root: str, below: str, problems: Problems, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    """The media under a folder, one folder's names in memory at a time, in the order of their paths."""
    folder = os.path.join(root, below)
    try:
        here = os.stat(folder)
        with os.scandir(folder) as scan:
            found = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as problem:
        problems.add(f"{folder}: cannot be read: {problem.strerror}")
        return
    mark = (here.st_dev, here.st_ino)
    if mark in above and here.st_ino:
        return  # a link back to a folder above
    for entry in found:
        ref = below + entry.name
        if entry.is_dir():
            yield from _walk(root, ref + "/", problems, above | {mark})
        elif is_media(entry.name):
            yield ref, partial(_changed, entry.path), None


def _root(pattern: str) -> str:
    """The folder above the first part with a wildcard."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return str(Path(*parts[:fixed]))


def _glob(pattern: str, root: str) -> Iterator[Entry]:
    named = not glob.has_magic(os.path.splitext(pattern)[1]) and "." in os.path.basename(pattern)
    found = glob.iglob(os.path.relpath(pattern, root), root_dir=root, recursive=True)
    for ref in sorted(set(found)):
        path = os.path.join(root, ref)
        if (named or is_media(ref)) and os.path.isfile(path):
            yield Path(ref).as_posix(), partial(_changed, path), None


def _bucket(url: str) -> tuple[Base, Callable[[], Iterable[Entry]]]:
    scheme, _, rest = url.partition("://")
    if scheme not in ("s3", "gs"):
        raise InputError(f"{shown(url)}: a web server gives no list of its media; give a .txt or .csv")
    folder = url if url.endswith("/") else url + "/"
    if is_media(rest):
        folder, _, name = url.rpartition("/")
        return Base(folder + "/", remote=True, trusted=True), lambda: [(name, lambda: 0.0, None)]
    return Base(folder, remote=True, trusted=True), partial(_objects, folder)


def _objects(folder: str) -> Iterator[Entry]:
    fs, path = file_system(folder)
    prefix = path.strip("/") + "/"
    try:
        found = call_store(folder, lambda: fs.find(path, detail=True))
    except OSError as problem:
        raise InputError(f"{shown(folder)}: cannot be listed: {problem}") from problem
    for key in sorted(found):
        ref = key.lstrip("/").removeprefix(prefix)
        if is_media(ref) and not any(part.startswith(".") for part in ref.split("/")):
            yield ref, partial(_modified, found[key]), _etag(found[key])


def _etag(info: dict[str, Any]) -> str | None:
    """What changes with an object's content: its ETag, under the store's own name for it, and its size."""
    keys = ("ETag", "etag", "md5Hash", "content_md5", "generation")
    value = next((info[key] for key in keys if info.get(key)), None)
    mark = str(value).strip('"')
    return None if value is None else f"{mark}-{info.get('size', 0)}"


def _modified(info: dict[str, Any]) -> float:
    """When an object was changed; every store has its own name for it."""
    keys = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
    value = next((info[key] for key in keys if info.get(key) is not None), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else float(value)
