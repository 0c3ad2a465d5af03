"""The cube: exact spend per day, model, run and prompt."""

from dataclasses import dataclass, field

from mavi_tasks.costs.arrow_columns import UNKNOWN, StringDictionary
from mavi_tasks.costs.cell import Sums, empty
from mavi_tasks.costs.sources import Period, Run

SANDBOX = "sandbox"
Key = tuple[int, int, int, int]  # day ordinal, numbers of model, run and prompt


@dataclass(slots=True)
class Cube:
    """Every cell of spend. `items` counts distinct items by (is sandbox, model or None for all models)."""

    period: Period
    with_prompts: bool = False
    models: StringDictionary = field(default_factory=StringDictionary)
    runs: StringDictionary = field(default_factory=StringDictionary)
    prompts: StringDictionary = field(default_factory=StringDictionary)
    jobs: StringDictionary = field(default_factory=StringDictionary)
    outcomes: StringDictionary = field(default_factory=StringDictionary)
    cells: dict[Key, Sums] = field(default_factory=dict)
    about: dict[str, Run] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)  # run_id -> folder it was read from
    items: dict[tuple[bool, str | None], int] = field(default_factory=dict)

    def cell(self, key: Key) -> Sums:
        """The sums of a cell, new ones when nothing was added yet."""
        if key not in self.cells:
            self.cells[key] = empty()
        return self.cells[key]

    def run(self, number: int) -> Run:
        """The run of a number; job and gateway `(unknown)` when no table has them."""
        run_id = self.runs.strings[number]
        return self.about.get(run_id) or Run(run_id, UNKNOWN, UNKNOWN)

    def is_sandbox(self, run: int) -> bool:
        """Whether a run was answered by the embedded gateway, and so cost nothing real."""
        return self.run(run).gateway == SANDBOX
