"""Where the dataset of a location lies on this machine.

A local dataset is its own folder. One in a bucket has a spool: a dataset folder under MAVI_SPOOL, else in the
user's state folder (common/user_folders.py), named after the bucket, the prefix and the endpoint. Its
`_bucket.json` says which bucket it stands for, so that any process that opens the folder knows.
"""

import json
import os
import secrets
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common.user_folders import private_state
from mavi_tasks.errors import InputError
from mavi_tasks.storage.filesystem import storage_errors

MARK: Final = "_bucket.json"
TABLES: Final = ("results", "attempts", "runs")


def is_url(location: str) -> bool:
    return "://" in location


def folder(location: str | os.PathLike[str]) -> Path:
    """The local folder of a dataset: the folder itself, or the spool of an s3:// URL, made if need be.

    Raises InputError for another scheme or a URL without a bucket, StorageError when it cannot be made.
    """
    text = os.fspath(location)
    if not is_url(text):
        return Path(text)
    address = url(text)
    spool = _spools() / _name(address)
    if not (spool / MARK).exists():
        with storage_errors(spool, "write to"):
            spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            for table in TABLES:
                (spool / table).mkdir(exist_ok=True)
            new = spool / f"{MARK}.{secrets.token_hex(4)}"
            new.write_text(json.dumps({"url": address, "spool": secrets.token_hex(8)}))
            try:
                os.link(new, spool / MARK)  # the first of two processes wins
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                new.replace(spool / MARK)
            new.unlink(missing_ok=True)
    return spool


def url_of(root: Path) -> str | None:
    """The bucket a folder is the spool of; None for a local dataset."""
    mark = mark_of(root)
    return str(mark["url"]) if mark is not None else None


def mark_of(root: Path) -> dict[str, Any] | None:
    """What `_bucket.json` says: url and spool (the id of this folder)."""
    if not (root / MARK).is_file():
        return None
    return _read(root / MARK)


@lru_cache(64)
def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def url(text: str) -> str:
    """An s3:// URL as it is written everywhere else. Raises InputError when it is none."""
    scheme, _, rest = text.partition("://")
    if scheme != "s3" or not rest.strip("/") or rest.startswith("/") or "?" in text:
        raise InputError(f"{text.partition('?')[0]}: a dataset lies in a folder or under s3://BUCKET/PREFIX")
    return f"s3://{rest.strip('/')}"


def _spools() -> Path:
    given = os.environ.get("MAVI_SPOOL")
    if given:
        return Path(given).expanduser().resolve()
    return private_state(os.environ)


def _name(at: str) -> str:
    """For people the last word of the URL; for safety a hash of it and of the endpoint."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    word = "".join(c if c.isalnum() or c in "-_" else "-" for c in at.rsplit("/", 1)[-1])[:40]
    digest = sha256(endpoint.rstrip("/").encode() + b"\0" + at.encode()).hexdigest()
    return f"{word}-{digest[:12]}"
