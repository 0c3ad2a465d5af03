"""`race.json` in a dataset: what a race decided at each look. What is decided once is not decided again."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from mavi_tasks.errors import InputError
from mavi_tasks.storage.filesystem import storage_errors

FILE: Final = "race.json"
VERSION: Final = 1
Status = Literal["running", "decided", "undecided", "out of money", "needs labels"]


@dataclass(frozen=True, slots=True)
class RaceDrop:
    """A model that left the race because of another (`by`).

    points: how many points `by` is ahead of it: at least so many ("behind"), or at most so many.
    """

    model: str
    by: str
    why: str
    points: float

    @property
    def sentence(self) -> str:
        """Why, as a clause after the model's name."""
        if self.why == "behind":
            return f"at least {self.points:.1f} points behind {{by}}"
        if self.why == "no better":
            return "costs more than {by} and is not better"
        return f"costs more than {{by}} and is at most {self.points:.1f} points better"


@dataclass(frozen=True, slots=True)
class RaceLook:
    """One look, after so many media. left: who stays, the cheapest first; items: questions in common.

    behind_points: how far each model that is left may be behind the best. right: each one's share of right
    answers so far. run_id: the run that asked for it; cost_usd: of the race so far.
    """

    media: int
    items: int
    level: float
    left: tuple[str, ...]
    drops: tuple[RaceDrop, ...]
    behind_points: Mapping[str, float]
    right: Mapping[str, float | None]
    run_id: str
    cost_usd: str


@dataclass(frozen=True, slots=True)
class RaceRecord:
    """A race so far. rules: what must not change once it has begun; costs_usd: an item's, at the first look.

    truth: who says what is right: "column truth", "labels", or the reference model's name.
    """

    rules: Mapping[str, Any]
    media: int
    truth: str
    models: tuple[str, ...]
    costs_usd: Mapping[str, float | None] = field(default_factory=dict)
    looks: tuple[RaceLook, ...] = ()
    status: Status = "running"

    @property
    def left(self) -> tuple[str, ...]:
        """Who is in the race, the cheapest first."""
        return self.looks[-1].left if self.looks else self.models

    @property
    def done(self) -> int:
        """After how many media the last look was."""
        return self.looks[-1].media if self.looks else 0

    @property
    def choice(self) -> str | None:
        """The model that won; None while several are in the race."""
        return self.left[0] if len(self.left) == 1 else None

    @property
    def reference(self) -> str | None:
        """The model whose answers stand in for the truth."""
        found: str | None = self.rules["reference"]
        return found

    def drops(self) -> list[tuple[RaceLook, RaceDrop]]:
        """Who left, and at which look."""
        return [(look, drop) for look in self.looks for drop in look.drops]

    def given_points(self) -> dict[str, float]:
        """By how many points each model may be behind one that it dropped as within the margin."""
        given: dict[str, float] = {}
        for _, drop in self.drops():
            if drop.why == "within the margin":
                given[drop.by] = max(given.get(drop.by, 0.0), drop.points)
        return given

    def with_look(self, look: RaceLook, status: Status) -> "RaceRecord":
        return replace(self, looks=(*self.looks, look), status=status)

    def to_json(self) -> dict[str, Any]:
        """As it is written to the file."""
        return {"version": VERSION, **asdict(self), "left": self.left, "choice": self.choice}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        looks = tuple(
            RaceLook(
                **one
                | {"left": tuple(one["left"]), "drops": tuple(RaceDrop(**drop) for drop in one["drops"])}
            )
            for one in held["looks"]
        )
        names = ("rules", "media", "truth", "costs_usd", "status")
        return cls(**{name: held[name] for name in names}, models=tuple(held["models"]), looks=looks)


def read_record(root: Path) -> RaceRecord | None:
    """Return a dataset's race; None when it has none. Raises InputError when the file is damaged."""
    path = root / FILE
    try:
        return RaceRecord.from_json(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as a race ({type(error).__name__}); remove it, and the race decides "
            "anew from the answers that are there"
        ) from error


def write_record(root: Path, record: RaceRecord) -> None:
    """Write the race in place of the one before, whole or not at all."""
    half = root / f"{FILE}.new"
    with storage_errors(root, "write to"):
        with half.open("w", encoding="utf-8") as file:
            json.dump(record.to_json(), file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        half.replace(root / FILE)
