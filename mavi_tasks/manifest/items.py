"""Raw rows to items: media checked and made absolute, ids unique, the answer kept apart from the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from mavi_tasks.common.key_set import Seen
from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import MAX_MEDIA, columns_problem
from mavi_tasks.manifest.column_map import Layout, layout
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.manifest.problems import SHOWN, Problems
from mavi_tasks.manifest.resolve import PLAIN_URL, BadReference, name_of
from mavi_tasks.manifest.rows import BadRow, Batch, Rows
from mavi_tasks.media.types import Refusal
from mavi_tasks.media.url_secrets import hidden
from mavi_tasks.media.urls import shown

MAX_ID_CHARS: Final = 1000
_SHAPED: Final = 100_000  # keys of JSON lines that are remembered, in all sets of them
_MANY_COMMAS: Final = 10 * MAX_MEDIA  # a reference may hold some
_COUNTED: Final = 100_000  # references whose repetitions are counted


class Item(NamedTuple):
    """One row: the media, the prompt, the expected answer.

    media: absolute paths, URLs or data URLs, as they are opened or sent; they may hold signatures.
    prompt: the row's own, literal; None = the job's templates. truth: text, or JSON text of anything else.
    variables: the other columns. where: "pets.csv:7", for messages. refusal: why the row cannot be asked
    (then media are as written, and the rest is what could be read of it); None = it can. cluster: what it
    belongs to, None = its media.
    """

    item_id: str
    media: tuple[str, ...]
    prompt: str | None
    truth: str | None
    variables: Mapping[str, object]
    where: str
    refusal: Refusal | None = None
    cluster: str | None = None


class _Wrong(ValueError):
    """A row that cannot be asked; `code` is the skipped row's, `str()` says why."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


Part = TypeVar("Part")


class ItemBuilder:
    """Builds the items of one manifest; remembers the ids it has seen.

    skip_bad: a row that cannot be asked becomes an item with a refusal, not a problem.
    """

    def __init__(self, rows: Rows, columns: Columns, problems: Problems, *, skip_bad: bool = False) -> None:
        self.rows = rows
        self._columns = columns
        self._problems = problems
        self._skip_bad = skip_bad
        self._absolute = rows.base.absolute
        # The names of a listing are below its folder, whatever they look like.
        self._plain_url = (lambda _: None) if rows.base.trusted else PLAIN_URL
        self._place = f"{rows.name}:"
        self._seen = Seen()
        self._times: dict[str, int] = {}
        self._duplicates: dict[str, list[int]] = {}  # duplicate ids, with their later lines; the first few
        self._more_duplicates = 0
        self._shapes: dict[tuple[str, ...], Layout | InputError] = {}
        self._shaped = 0  # keys in all of them
        self._layout = self._of_table() if rows.names is not None else None

    def items(self, batch: Batch) -> list[Item]:
        """The items of one batch; rows that cannot be asked are refused, or go to the problems."""
        items, named = self._build(*batch)
        for index in self._seen.add([item.item_id for item in items]):
            item = items[index]
            if not named[index]:
                items[index] = item._replace(item_id=self._numbered(item.item_id))
            elif self._skip_bad:
                items[index] = self._another(item)
            else:
                self._add_duplicate(item.item_id, _line(item))
        return items

    def _another(self, item: Item) -> Item:
        """A row with the id of an earlier one, under a name of its own."""
        why = f"{self._columns.id} {item.item_id!r} is an earlier row's, too: give each row its own"
        refusal = item.refusal or Refusal("duplicate_item_id", why)
        return item._replace(item_id=self._numbered(item.item_id), refusal=refusal)

    def finish(self) -> None:
        """Report duplicate ids with both lines: the first ones are found by reading again."""
        if not self._duplicates:
            return
        first = self._first_lines()
        for name, lines in self._duplicates.items():
            for line in lines:
                if name in first and first[name] < line:  # else two names had one hash
                    where = f"{self.rows.name}:{line}: duplicate {self._columns.id} {name!r}"
                    self._problems.add(f"{where} (first on line {first[name]})")
        if self._more_duplicates:
            self._problems.add(f"{self.rows.name}: more duplicate ids", self._more_duplicates)

    def _of_table(self) -> Layout:
        names = self.rows.names or ()
        try:
            return layout(names, self._columns, listing=self.rows.listing)
        except InputError as problem:
            raise InputError([f"{self.rows.name}: {text}" for text in problem.problems]) from None

    def _of_shape(self, row: dict[str, Any]) -> Layout:
        names = tuple(row)
        found = self._shapes.get(names)
        if found is None:
            found = self._looked_at(names)
            if self._shaped + len(names) <= _SHAPED:
                self._shapes[names] = found
                self._shaped += len(names)
        if isinstance(found, InputError):
            raise found
        return found

    def _looked_at(self, names: tuple[str, ...]) -> Layout | InputError:
        if wrong := columns_problem(len(names), max(map(len, names), default=0)):
            return InputError(wrong)
        try:
            return layout(names, self._columns)
        except InputError as problem:  # remembered, too: a million rows may have it
            return problem

    def _build(self, lines: Sequence[int], rows: Sequence[Any]) -> tuple[list[Item], list[bool]]:
        """The items of these rows, and whether the row itself names each."""
        items: list[Item] = []
        named: list[bool] = []
        table = self._layout
        for line, row in zip(lines, rows, strict=True):
            here = table
            try:
                if type(row) is BadRow:
                    raise _Wrong("row_malformed", row.why)
                here = table or self._of_shape(row)
                items.append(self._item(here, row if table else tuple(row.values()), line))
                named.append(here.id is not None)
            except (_Wrong, InputError) as problem:
                whys = getattr(problem, "problems", (str(problem),))
                if self._skip_bad:
                    why = Refusal(getattr(problem, "code", "row_malformed"), "; ".join(whys))
                    item, names_itself = self._refused(here, row, line, why)
                    items.append(item)
                    named.append(names_itself)
                else:
                    for text in whys:
                        self._problems.add(f"{self._place}{line}: {text}")
        return items, named

    def _refused(self, table: Layout | None, row: Any, line: int, why: Refusal) -> tuple[Item, bool]:
        """A row that cannot be asked, with what can be read of it, and whether it names itself.

        Its name is the one that it would have if it could be asked, else its line's.
        """
        where = f"{self._place}{line}"
        if table is None or type(row) is BadRow:
            return Item(where, (), None, None, {}, where, why), False
        cells = row if self._layout else tuple(row.values())
        refs = [ref for ref in _or_none(lambda: self._references(table, cells)) or () if _is_text(ref)][:1]
        if table.id is not None:
            name = _or_none(lambda: self._name(table, cells))
        elif refs:
            name = name_of(refs[0], "://" if self.rows.base.remote else "")
        else:
            name = None
        prompt, truth = table.prompt, table.truth
        asked = None if prompt is None else _or_none(lambda: _prompt(cells[prompt], ""))
        expected = None if truth is None else _or_none(lambda: _truth(cells[truth]))
        together = table.cluster
        cluster = None if together is None else _or_none(lambda: _cluster(cells[together]))
        return Item(
            name or where, tuple(refs), asked, expected, {}, where, why, cluster
        ), name is not None and table.id is not None

    def _item(self, table: Layout, row: Sequence[Any], line: int) -> Item:
        first = None if table.only_media is None else row[table.only_media]
        if type(first) is str and self._plain_url(first):  # nearly every row; the rest is 3 times slower
            media: tuple[str, ...] = (first,)
        else:
            media, first = self._media(table, row)
        if table.id is not None:
            name = self._name(table, row)
        else:
            name = f"row-{line}" if first is None else name_of(first, media[0])
        prompt = None if table.prompt is None else _prompt(row[table.prompt], self._columns.prompt)
        truth = None if table.truth is None else _truth(row[table.truth])
        cluster = None if table.cluster is None else _cluster(row[table.cluster])
        return Item(name, media, prompt, truth, table.variables(row), f"{self._place}{line}", None, cluster)

    def _name(self, table: Layout, row: Sequence[Any]) -> str:
        assert table.id is not None
        name = _id(row[table.id], table.id_name)
        return hidden(name) if "://" in name else name  # the media's own column, most likely

    def _references(self, table: Layout, row: Sequence[Any]) -> list[str]:
        return [ref for index in table.media for ref in _references(row[index], table.media_name)]

    def _media(self, table: Layout, row: Sequence[Any]) -> tuple[tuple[str, ...], str | None]:
        """The media, absolute, and the first reference as written."""
        if not table.media:
            return (), None
        refs = self._references(table, row)
        if not refs:
            raise _Wrong("media_empty", f"{table.media_name} is empty")
        if len(refs) > MAX_MEDIA:
            raise _Wrong("media_too_many", f"{table.media_name} holds more than {MAX_MEDIA:,} media")
        return tuple(self._one(ref, table.media_name) for ref in refs), refs[0]

    def _one(self, ref: str, name: str) -> str:
        try:
            found = self._absolute(ref)
            found.encode()
        except BadReference as problem:
            raise _Wrong(problem.code, f"{name} {shown(ref)!r} {problem}") from None
        except UnicodeEncodeError:  # Parquet and JSON could not hold it
            why = f"{name} {shown(ref)!r} is a file name that is not UTF-8: rename it"
            raise _Wrong("media_bad_url", why) from None
        return found

    def _numbered(self, name: str) -> str:
        """A new name for a media that is repeated: cat.jpg#2."""
        times = self._times.get(name, 1) + 1
        while self._seen.add([f"{name}#{times}"]):
            times += 1
        if len(self._times) >= _COUNTED:
            self._times.clear()  # bounds the memory; the loop above finds the number again
        self._times[name] = times
        return f"{name}#{times}"

    def _add_duplicate(self, name: str, line: int) -> None:
        """Remember an id that may be a duplicate, for `finish`."""
        if name in self._duplicates or len(self._duplicates) < SHOWN:
            lines = self._duplicates.setdefault(name, [])
            if len(lines) < SHOWN:
                lines.append(line)
                return
        self._more_duplicates += 1

    def _first_lines(self) -> dict[str, int]:
        first: dict[str, int] = {}
        again = ItemBuilder(self.rows, self._columns, Problems())  # of the good rows
        for batch in self.rows.batches():
            for item in again._build(*batch)[0]:
                if item.item_id in self._duplicates:
                    first.setdefault(item.item_id, _line(item))
            if len(first) == len(self._duplicates):
                break
        return first


def _line(item: Item) -> int:
    return int(item.where.rpartition(":")[2])


def _is_text(ref: str) -> bool:
    """Whether Parquet and JSON can hold it: a file name may be no UTF-8."""
    try:
        ref.encode()
    except UnicodeEncodeError:
        return False
    return True


def _or_none(part: Callable[[], Part]) -> Part | None:
    """A part of a row that cannot be asked, if that can be read."""
    try:
        return part()
    except _Wrong:
        return None


def read(
    rows: Rows, columns: Columns, problems: Problems, limit: int | None, *, skip_bad: bool = False
) -> Iterator[list[Item]]:
    """The items in batches, at most `limit` of them; empty batches are left out."""
    builder = ItemBuilder(rows, columns, problems, skip_bad=skip_bad)
    made = map(builder.items, rows.batches()) if limit is None else _first(builder, limit)
    yield from filter(None, made)
    builder.finish()


def _first(builder: ItemBuilder, limit: int) -> Iterator[list[Item]]:
    """The first items; the rows after them are not read."""
    left = limit
    for lines, rows in builder.rows.batches():
        start = 0
        while start < len(rows) and left:
            items = builder.items((lines[start : start + left], rows[start : start + left]))
            start, left = start + left, left - len(items)
            yield items
        if not left:
            return


def _references(value: Any, name: str) -> list[str]:
    """The references in one cell: text, a list of texts, or a JSON list as text; empty ones are left out."""
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        listed = _json_list(text) if text.startswith("[") else None
        return [text] if listed is None and text else listed or []
    if isinstance(value, list) and all(isinstance(ref, str) for ref in value):
        return [ref.strip() for ref in value if ref.strip()]
    raise _Wrong("media_bad_url", f"{name} must be text or a list of texts, not {_kind(value)}")


def _json_list(text: str) -> list[str] | None:
    if text.count(",") > _MANY_COMMAS:  # a list so long is not made
        raise _Wrong("media_too_many", f"holds a list of more than {MAX_MEDIA:,} media")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # a file may be called [1].jpg
    if isinstance(value, list) and all(isinstance(ref, str) for ref in value):
        return [ref.strip() for ref in value if ref.strip()]
    return None


def _id(value: Any, name: str) -> str:
    if not isinstance(value, str):
        if type(value) is int:
            return str(value)
        if value is None:
            raise _Wrong("item_id_empty", f"{name} is empty")
        raise _Wrong("item_id_bad", f"{name} must be text, not {_kind(value)}")
    text = value.strip()
    if not text:
        raise _Wrong("item_id_empty", f"{name} is empty")
    if len(text) > MAX_ID_CHARS:
        raise _Wrong("item_id_bad", f"{name} {text[:40]!r}... has more than {MAX_ID_CHARS} characters")
    return text


def _prompt(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Wrong("prompt_failed", f"{name} must be text, not {_kind(value)}")
    return value if value.strip() else None


def _truth(value: Any) -> str | None:
    """The expected answer as text; what is not text, as JSON."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None:
        return None
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError as problem:  # too deep, or a whole number of more than 64 bits
        raise _Wrong("truth_bad", f"the expected answer cannot be kept as JSON: {problem}") from None


def _cluster(value: Any) -> str | None:
    """What a row belongs to, as text; an empty cell says nothing."""
    return None if value is None else str(value).strip() or None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        others = {type(part).__name__ for part in value if not isinstance(part, str)}
        return f"a list that holds {', '.join(sorted(others))}"
    return {"dict": "an object", "bool": "true or false", "float": "a number", "int": "a number"}.get(
        type(value).__name__, type(value).__name__
    )
