"""A media reference of a row: checked without opening it, made absolute, shown without its secrets."""

import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from mavi_tasks.media.url_secrets import hidden
from mavi_tasks.media.urls import scheme_of, shown, stored

WANTED: Final = "must be http(s), s3, gs or a local path"

# Nearly every URL; what this does not take is looked at in full.
PLAIN_URL: Final = re.compile(
    r"(?:https?|s3|gs)://[A-Za-z0-9][A-Za-z0-9.\-_:]*/[A-Za-z0-9._~%/+\-]*"
).fullmatch
_MANY: Final = re.compile(r"[\s,;|]+(?:https?|s3|gs)://", re.I)


class BadReference(ValueError):
    """A reference that cannot be media; `str()` reads after the reference, `code` is the skipped row's."""

    def __init__(self, why: str, code: str = "media_bad_url") -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Base:
    """What references are relative to: a folder of this machine, or a URL or bucket prefix that ends in `/`.

    trusted: the references come from a listing, so that the files are known to be there.
    """

    folder: str
    remote: bool = False
    trusted: bool = False

    def absolute(self, ref: str) -> str:
        """The reference as an absolute path, URL or data URL. Raises BadReference.

        A manifest from elsewhere never names a file of this machine: its content would be sent to a model.
        """
        if self.trusted:  # a name below the folder, whatever it looks like
            return self.folder + ref if self.remote else os.path.join(self.folder, ref)
        if PLAIN_URL(ref):
            return ref
        scheme = scheme_of(ref)
        if scheme is not None and (scheme in ("data", "file") or ref.startswith("://", len(scheme))):
            return self._with_scheme(ref, scheme)
        if self.remote:
            return self._joined(ref)
        return self._local(ref)

    def _with_scheme(self, ref: str, scheme: str) -> str:
        if scheme == "data":
            return _data_url(ref)
        if scheme == "file":
            if self.remote:
                raise BadReference(
                    "is a file of this machine, which a remote manifest must not name", "media_scheme"
                )
            return self._local(_path_of_file_url(ref))
        if scheme not in ("http", "https", "s3", "gs"):
            raise BadReference(WANTED, "media_scheme")
        if _MANY.search(ref):
            raise BadReference(
                "holds several references: write one per column (media_url, media_url_2, ...), or a JSON list"
            )
        _check_host(ref)
        return ref

    def _joined(self, ref: str) -> str:
        if not self.folder.startswith("http"):
            return self.folder + ref.removeprefix("./")
        try:
            joined = urljoin(self.folder, ref)
        except ValueError:
            raise BadReference("is not a valid URL") from None
        if not joined.startswith(("https://", "http://")):  # urljoin ignores what hides a scheme, as tabs
            raise BadReference(WANTED, "media_scheme")
        return joined

    def _local(self, ref: str) -> str:
        path = os.path.join(self.folder, ref)
        if "./" in ref or ref.startswith("~"):
            path = os.path.normpath(os.path.join(self.folder, os.path.expanduser(ref)))
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as problem:
            raise BadReference(f"not found: {shown(path)}", "media_missing") from problem
        if not stat.S_ISREG(mode):
            what = "is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file"
            raise BadReference(what, "media_not_a_file")
        return path


def _data_url(ref: str) -> str:
    head, comma, body = ref[:200].partition(",")
    if not comma or not body:
        raise BadReference("must be a whole data URL: data:image/jpeg;base64,...")
    if not head[5:].lower().startswith(("image/", "video/")):
        raise BadReference("must be a data URL of an image or a video: data:image/jpeg;base64,...")
    return ref


def _path_of_file_url(ref: str) -> str:
    split = urlsplit(ref)
    if split.netloc not in ("", "localhost") or not split.path.startswith("/"):
        raise BadReference("must be a path, or file:///an/absolute/path")
    return unquote(split.path)


def _check_host(ref: str) -> None:
    try:
        host = urlsplit(ref).hostname
    except ValueError:
        raise BadReference("is not a valid URL") from None
    if not host:
        raise BadReference("has no host")
    if not ref.isprintable():
        raise BadReference("holds a character that is not printable")


def name_of(ref: str, absolute: str = "") -> str:
    """The item id that a reference gives when the manifest has none; `absolute` is what it resolves to."""
    if ref[:5].lower() == "data:":
        return "data:" + sha256(ref.encode()).hexdigest()[:16]
    if "://" in absolute and "://" not in ref:
        return hidden("/" + ref)[1:]
    return stored(ref)
