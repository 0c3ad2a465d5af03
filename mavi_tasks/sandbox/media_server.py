"""Serves local folders under /media, read-only: the URL of a file, and the file of a URL."""

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

PREFIX = "/media"


class MediaFolders:
    """The served folders. The first is at /media itself, each is also at /media/~<key>."""

    def __init__(self, root: Path | str | None = None) -> None:
        self._folders: dict[str, Path] = {}
        self._first = None if root is None else self.add(root)

    def add(self, root: Path | str) -> str:
        """Add a folder; its key, the same each time. Raises NotADirectoryError."""
        folder = Path(root).resolve()
        if not folder.is_dir():
            raise NotADirectoryError(f"{root}: not a folder, so its media cannot be served")
        key = sha256(str(folder).encode()).hexdigest()[:12]
        self._folders[key] = folder
        return key

    def path_of(self, root: Path | str) -> str:
        """The URL path of a folder, without a trailing slash."""
        return f"{PREFIX}/~{self.add(root)}"

    def find(self, url_path: str) -> Path | None:
        """The file of a decoded URL path; None if it does not exist, or is outside its folder.

        Hidden files are not served; a link is followed only inside the folder.
        """
        if not url_path.startswith(f"{PREFIX}/"):
            return None
        head, _, tail = url_path[len(PREFIX) + 1 :].partition("/")
        key, relative = (
            (head[1:], tail) if head.startswith("~") else (self._first, url_path[len(PREFIX) + 1 :])
        )
        folder = self._folders.get(key or "")
        if folder is None or any(part.startswith(".") for part in relative.split("/")):
            return None
        try:
            found = (folder / relative.lstrip("/")).resolve()
            return found if found.is_relative_to(folder) and found.is_file() else None
        except (OSError, ValueError):  # a name too long, a NUL, a circle of links
            return None


def url_of(base: str, *parts: str) -> str:
    """The URL of a file below a base URL, its names escaped."""
    return "/".join([base, *(quote(part) for part in parts)])


def path_in(url: str) -> str:
    """The decoded path of a URL."""
    return unquote(urlsplit(url).path)
