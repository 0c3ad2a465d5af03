"""What `label` takes as a manifest: a path, or rows that are written as Parquet first."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.common.user_folders import private_state, write_private
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER: Final = "_manifests"  # in the dataset's folder; what begins with _ is not data


def is_path(manifest: object) -> bool:
    """Whether a manifest is named by its path, glob or URL; else its rows are here."""
    return isinstance(manifest, str | os.PathLike)


def write_manifest(manifest: Any, output: str, media: str | None, item_id: str) -> Path:
    """Write rows as a Parquet manifest beside the dataset, in the user's state folder when that is remote.

    The name is a hash of the content, so that the same rows are the same job. Local references are relative
    to the current folder and become absolute; without an id column the reference as given names the item.
    Raises InputError when the rows cannot be a manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _table(manifest, media or "media_url")
    if media is not None and media in table.column_names:
        references = table[media].to_pylist()
        if item_id not in table.column_names:
            table = table.append_column(item_id, pa.array(map(_text, references), pa.string()))
        position = table.column_names.index(media)
        table = table.set_column(position, media, pa.array(map(_absolute, references), pa.string()))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content = buffer.getvalue().to_pybytes()
    name = f"{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    if "://" in output:
        path = private_state(os.environ, "manifests") / name
        write_private(path, content)
    else:
        path = Path(output) / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path.absolute()


def _table(manifest: Any, media: str) -> "pa.Table":
    import pyarrow as pa

    if isinstance(manifest, pa.Table):
        return manifest
    if type(manifest).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(manifest, preserve_index=False)
    if not isinstance(manifest, Iterable):
        raise InputError(
            f"manifest: {type(manifest).__name__} is not a path, a list of references, a DataFrame or an "
            "Arrow table"
        )
    references = list(manifest)
    wrong = [one for one in references if not is_path(one)]
    if wrong:
        raise InputError(f"manifest: {wrong[0]!r} is not a path or URL")
    return pa.table({media: pa.array(map(_text, references), pa.string())})


def _text(reference: Any) -> str | None:
    return os.fspath(reference) if reference is not None else None


def _absolute(reference: Any) -> str | None:
    text = _text(reference)
    if not text or "://" in text or text.startswith("data:"):
        return text
    return os.path.abspath(text)
