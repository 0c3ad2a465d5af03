"""The switchboard: which fault strikes the next request."""

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .config import FaultRule
from .replies import FAULTS


class UnknownFault(ValueError):
    """A kind that is not in the table, or a setting that is none."""


@dataclass(slots=True)
class _Live:
    rule: FaultRule
    left: int | None


class FaultInjector:
    """Scripted kinds first, one a request (`ok` = none), then the rules by chance."""

    def __init__(
        self,
        faults: Mapping[str, float] | Sequence[FaultRule] = (),
        script: Iterable[str] = (),
        seed: int = 0,
    ) -> None:
        if isinstance(faults, Mapping):
            faults = [FaultRule(kind, probability) for kind, probability in faults.items()]
        self._rules = [_Live(rule, rule.times) for rule in faults]
        self._script = deque(script)
        self._random = random.Random(seed)  # noqa: S311 - a seed makes a run repeatable
        for kind in [*(live.rule.kind for live in self._rules), *self._script]:
            if kind not in FAULTS and kind != "ok":
                raise UnknownFault(f"fault {kind!r} is unknown; known: ok, {', '.join(sorted(FAULTS))}")

    def draw(self, model: str) -> str | None:
        """The kind of fault that strikes this request, None = none. At most one strikes."""
        if self._script:
            kind = self._script.popleft()
            return None if kind == "ok" else kind
        chance = self._random.random()
        for live in self._rules:
            if live.left == 0 or not fnmatchcase(model, live.rule.model):
                continue
            chance -= live.rule.probability
            if chance < 0:
                live.left = None if live.left is None else live.left - 1
                return live.rule.kind
        return None

    def as_json(self) -> dict[str, Any]:
        rules = [
            {
                "kind": one.rule.kind,
                "probability": one.rule.probability,
                "model": one.rule.model,
                "left": one.left,
            }
            for one in self._rules
        ]
        return {"rules": rules, "script": list(self._script), "kinds": sorted(FAULTS)}


KEYS = {"probabilities", "rules", "script", "seed"}


def from_json(told: Any) -> FaultInjector:
    """The switchboard a control request describes; `{}` switches all faults off. Raises UnknownFault."""
    if not isinstance(told, dict) or not told.keys() <= KEYS:
        raise UnknownFault(f"send an object of {', '.join(sorted(KEYS))}")
    try:
        rules = [FaultRule(kind, float(chance)) for kind, chance in told.get("probabilities", {}).items()]
        rules += [FaultRule(**rule) for rule in told.get("rules", [])]
        return FaultInjector(rules, map(str, told.get("script", [])), int(told.get("seed", 0)))
    except (TypeError, AttributeError) as error:
        raise UnknownFault(f"the faults cannot be read: {error}") from error
