"""Expected answers from elsewhere than the results: a file, or the job's manifest as it is now."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.errors import InputError


@dataclass(frozen=True, slots=True)
class Truth:
    """Expected answers by item_id: text or JSON; None = the item has none.

    source: the file, when the user named it: then no others count, and an item that is not in it has none.
    Otherwise such an item keeps what its results say. notes: what the reader of a comparison should know.
    """

    values: Mapping[str, str | None] = field(default_factory=dict)
    source: str | None = None
    notes: tuple[str, ...] = ()

    def on(self, sheet: Sheet) -> Sheet:
        """The sheet with these. Raises InputError when the named file has none of its items."""
        if self.source is not None and not any(unit.item_id in self.values for unit in sheet.units):
            raise InputError(
                f"{self.source}: column item_id: none of its {len(self.values):,} items is in the "
                f"results, which have {', '.join(repr(unit.item_id) for unit in sheet.units[:3])}"
            )
        units = (
            replace(
                unit, truth=self.values.get(unit.item_id, None if self.source is not None else unit.truth)
            )
            for unit in sheet.units
        )
        return replace(sheet, units=tuple(units))


NO_TRUTH = Truth()
