"""`--by prompt_hash`: each text of a prompt stands beside the others, as if it was a model of its own."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.storage.tables import VERSION

NOT_NOTED: Final = "unknown"  # rows of versions of mavi without the column
SHOWN: Final = 8  # characters of a hash, in the name of a model
TEXT_CHARS: Final = 80


class PromptVersions:
    """What the texts are, once `apart` has seen the rows. notes: one for each, the newest first."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def apart(self, rows: pa.Table) -> pa.Table:
        """Rows of results with models named `gemini:gemini-2.5-flash @1a2b3c4d`, after the text.

        Without their prompts: that these differ is what is compared.
        """
        versions = pc.fill_null(pc.utf8_slice_codeunits(rows[VERSION].cast("string"), 0, SHOWN), NOT_NOTED)
        self.notes = tuple(_notes(rows, versions))
        models = pc.binary_join_element_wise(rows["model"].cast("string"), versions, " @")
        for name, column in (("model", models), ("prompt", pa.nulls(len(rows), pa.string()))):
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        return rows


def _notes(rows: pa.Table, versions: pa.ChunkedArray) -> list[str]:
    plain = pa.table(
        {
            "version": versions,
            "prompt_id": rows["prompt_id"].cast("string"),
            "prompt": rows["prompt"],
            "at": rows["finished_at"],
        }
    )
    found = (
        plain.group_by(["version", "prompt_id"])
        .aggregate([("prompt", "min"), ("at", "max"), ([], "count_all")])
        .sort_by([("at_max", "descending")])
        .to_pylist()
    )
    return [
        f"@{one['version']}: prompt {one['prompt_id']}, {one['count_all']:,} rows, the last of "
        f"{'an unknown day' if one['at_max'] is None else format(one['at_max'], '%Y-%m-%d %H:%M')} UTC: "
        f"{_short(one['prompt_min'])}"
        for one in found
    ]


def _short(text: str | None) -> str:
    """The beginning of one of the rendered prompts."""
    words = " ".join((text or "(no text)").split())
    return words if len(words) <= TEXT_CHARS else f"{words[: TEXT_CHARS - 3]}..."
