"""Chooses the fault, if any, of each request."""

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .config import FaultRule
from .replies import FAULTS


class UnknownFault(ValueError):
    """The fault kind is not in the table, or a setting is not valid."""


@dataclass(slots=True)
class _ActiveRule:
    rule: FaultRule
    left: int | None


class FaultInjector:
    """Uses the scripted kinds first, one per request (`ok` = no fault), then the rules at random."""

    def __init__(
        self,
        faults: Mapping[str, float] | Sequence[FaultRule] = (),
        script: Iterable[str] = (),
        seed: int = 0,
    ) -> None:
        if isinstance(faults, Mapping):
            faults = [FaultRule(kind, probability) for kind, probability in faults.items()]
        self._rules = [_ActiveRule(rule, rule.times) for rule in faults]
        self._script = deque(script)
        self._random = random.Random(seed)  # noqa: S311 - a seed makes a run repeatable
        for kind in [*(active.rule.kind for active in self._rules), *self._script]:
            if kind not in FAULTS and kind != "ok":
                raise UnknownFault(f"fault {kind!r} is unknown; known: ok, {', '.join(sorted(FAULTS))}")

    def draw(self, model: str) -> str | None:
        """The kind of fault of this request, or None; a request has at most one fault."""
        if self._script:
            kind = self._script.popleft()
            return None if kind == "ok" else kind
        chance = self._random.random()
        for active in self._rules:
            if active.left == 0 or not fnmatchcase(model, active.rule.model):
                continue
            chance -= active.rule.probability
            if chance < 0:
                active.left = None if active.left is None else active.left - 1
                return active.rule.kind
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


def from_json(settings: Any) -> FaultInjector:
    """The injector that a control request describes; `{}` turns all faults off. Raises UnknownFault."""
    if not isinstance(settings, dict) or not settings.keys() <= KEYS:
        raise UnknownFault(f"send an object of {', '.join(sorted(KEYS))}")
    try:
        rules = [FaultRule(kind, float(chance)) for kind, chance in settings.get("probabilities", {}).items()]
        rules += [FaultRule(**rule) for rule in settings.get("rules", [])]
        return FaultInjector(rules, map(str, settings.get("script", [])), int(settings.get("seed", 0)))
    except (TypeError, AttributeError) as error:
        raise UnknownFault(f"the faults cannot be read: {error}") from error
