"""Which column holds what: found once for a table, or once for each set of keys of JSON lines."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.manifest.columns import Columns

# Names that also mean the media, when the job names none and the manifest has exactly one of them.
MEDIA_NAMES: Final = ("media", "image", "video", "url", "path")
OF_MEDIA: Final = ("media_kind", "media_etag")  # columns that say more of the media
_NAME_SHOWN: Final = 60  # characters of a column's name in a message


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions in a row; `variables(row)` are the columns that templates see, by name."""

    media: tuple[int, ...]
    only_media: int | None  # when there is one column of them
    id: int | None
    prompt: int | None
    truth: int | None
    cluster: int | None
    variables: Callable[[Sequence[Any]], dict[str, Any]]
    media_name: str
    id_name: str


def layout(names: Sequence[str], columns: Columns, *, listing: bool = False) -> Layout:
    """Find the columns. Raises InputError, which lists the columns of the manifest.

    listing: the first column is the media, whatever the job calls it.
    """
    problems: list[str] = []
    if listing and columns.media is None:
        problems.append("is a list of media, so columns.media cannot be null")
    media_name = names[0] if listing else _media(names, columns, problems)
    positions = {name: index for index, name in enumerate(names)}
    media = _numbered(names, media_name) if media_name is not None else ()
    names_of_roles = ("id", "prompt", "truth", "cluster")
    roles = {role: _role(role, positions, columns, problems) for role in names_of_roles}
    if problems:
        raise InputError(problems)
    taken = {*media, *(roles[role] for role in ("id", "prompt", "truth"))}
    free = [index for index, name in enumerate(names) if index not in taken and name]
    return Layout(
        media, media[0] if len(media) == 1 else None, roles["id"], roles["prompt"], roles["truth"],
        roles["cluster"], _variables({names[index]: index for index in free}), media_name or "media",
        columns.id,
    )  # fmt: skip


def used(names: tuple[str, ...], columns: Columns, variables: Collection[str]) -> tuple[str, ...]:
    """The columns that have a role or are among the variables; all of them when a variable is not there.

    So a message about that variable can name every column.
    """
    media = _media(names, columns, [])
    if not set(variables) <= set(names) or media is None:
        return names
    roles = {names[index] for index in _numbered(names, media)} | {
        columns.id, columns.prompt, columns.truth, columns.cluster,
    }  # fmt: skip
    return tuple(name for name in names if name in roles or name in variables or name in OF_MEDIA)


def _media(names: Sequence[str], columns: Columns, problems: list[str]) -> str | None:
    if columns.media is None or columns.media in names:
        return columns.media
    if columns.named("media"):
        problems.append(f"columns.media: there is no column {columns.media!r}{_near(columns.media, names)}")
        return None
    others = [name for name in MEDIA_NAMES if name in names]
    if len(others) == 1:
        return others[0]
    if others:
        problems.append(f"{' and '.join(others)} may all be the media; name one with columns.media")
    else:
        problems.append(f"there is no column {columns.media!r} with the media{_near(columns.media, names)}")
    return None


def _role(role: str, positions: dict[str, int], columns: Columns, problems: list[str]) -> int | None:
    name: str | None = getattr(columns, role)
    if name is None:
        return None
    if name not in positions and columns.named(role):
        problems.append(f"columns.{role}: there is no column {name!r}{_near(name, positions)}")
    return positions.get(name)


def _near(name: str, names: Any) -> str:
    known = [n for n in names if n]
    near = nearest(name, known, 0.7)
    listed = ", ".join(n[:_NAME_SHOWN] for n in known[:30]) + (
        f" and {len(known) - 30} more" if len(known) > 30 else ""
    )
    return f"{f'; did you mean {near}?' if near else ';'} the columns are {listed}"


def _numbered(names: Sequence[str], media: str) -> tuple[int, ...]:
    """The media column, then media_2, media_3, ... in the order of their numbers."""
    numbered = re.compile(re.escape(media) + r"_([2-9]|[1-9][0-9]{1,5})")
    found = [(int(m[1]), index) for index, name in enumerate(names) if (m := numbered.fullmatch(name))]
    return (list(names).index(media), *(index for _, index in sorted(found)))


def _variables(positions: dict[str, int]) -> Callable[[Sequence[Any]], dict[str, Any]]:
    if not positions:
        return lambda _: {}
    names, places = tuple(positions), tuple(positions.values())
    if len(names) == 1:
        name, place = names[0], places[0]
        return lambda row: {name: row[place]}
    get = itemgetter(*places)
    return lambda row: dict(zip(names, get(row)))  # noqa: B905  (strict costs a third more, and cannot fail)
