"""Words for the thousand classes: their WordNet names, their superclasses, and everyday words for both.

words.tsv.gz has one line for each concept, the thousand classes first: its names (a|b|c), a tab, and the line
numbers of its direct superclasses.
"""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from .weights import Floats

CLASSES = 1000
SURE = 0.5  # an open question is answered by what holds this much of the probability
LEAST = 0.15  # a closed one by its likeliest option, when that holds this much

# Everyday words that mean something else, or more, than WordNet's concept of that name. ImageNet has three
# classes of persons; clothing, which its photos show worn, stands for the rest.
EVERYDAY = {
    "beach": ("seashore", "sandbar"),
    "bike": ("bicycle", "motorcycle"),
    "building": ("building", "place of worship", "roof", "housing", "tower"),
    "car": ("automobile",),
    "face": ("mask",),
    "food": ("food", "edible fruit", "foodstuff", "dish"),
    "landscape": ("geological formation",),
    "nature": ("geological formation", "plant life"),
    "person": ("person", "clothing", "headdress"),
    "plane": ("airplane", "military plane"),
    "plant": ("plant life", "flower", "plant organ", "plant part", "flowerpot"),
    "vehicle": ("vehicle", "rocket"),
}
SAME = {
    "automobile": "car",
    "airplane": "plane",
    "flora": "plant",
    "human": "person",
    "human being": "person",
    "people": "person",
    "scenery": "landscape",
}
IRREGULAR = {
    "children": "child", "feet": "foot", "geese": "goose", "knives": "knife", "leaves": "leaf", "men": "man",
    "mice": "mouse", "teeth": "tooth", "wolves": "wolf", "women": "woman",
}  # fmt: skip
# Concepts that say nothing when they are the answer.
_VAGUE = """
entity, physical entity, abstraction, object, whole, living thing, organism, causal agent, matter,
artifact, natural object, instrumentality, device, substance, structure, covering, part, equipment,
implement, relation, attribute, commodity, consumer goods, communication, measure, vertebrate, chordate,
mammal, placental, conveyance, container, durables, shape, surface, creation, location, point, solid,
protective covering, mechanism, machine, article
"""
VAGUE = frozenset(name.strip() for name in _VAGUE.split(","))


@dataclass(frozen=True, slots=True)
class Found:
    """A concept and the probability of all its classes together."""

    name: str
    mass: float


class Vocabulary:
    """What can be named, and which classes a name covers."""

    def __init__(self, lines: Sequence[str]) -> None:
        rows = [line.split("\t") for line in lines]
        self.names = [row[0].split("|") for row in rows]
        self._parents = [[int(number) for number in row[1].split()] for row in rows]

    @cached_property
    def _classes(self) -> list[frozenset[int]]:
        """The classes under each concept."""
        under: list[set[int]] = [set() for _ in self.names]
        for index in range(CLASSES):
            waiting = [index]
            while waiting:
                at = waiting.pop()
                if index not in under[at]:
                    under[at].add(index)
                    waiting.extend(self._parents[at])
        return [frozenset(classes) for classes in under]

    @cached_property
    def _concepts(self) -> dict[str, list[int]]:
        """The concepts of each name, in small letters."""
        found: dict[str, list[int]] = {}
        for at, names in enumerate(self.names):
            for name in names:
                found.setdefault(_plain(name), []).append(at)
        return found

    def classes_of(self, word: str) -> frozenset[int]:
        """The classes a word covers, in whichever of its senses; empty when the vocabulary lacks it."""
        for form in _forms(word):
            form = SAME.get(form, form)
            names = EVERYDAY.get(form, (form,))
            concepts = [at for name in names for at in self._concepts.get(name, ())]
            if concepts:
                return frozenset().union(*(self._classes[at] for at in concepts))
        return frozenset()

    def masses(self, options: Sequence[str], probabilities: Floats) -> list[float | None]:
        """The probability of each option, None for a word outside the vocabulary.

        A class under several options counts for the narrowest: an espresso is a drink before it is food.
        """
        covered = [self.classes_of(option) for option in options]
        masses: list[float | None] = []
        for own in covered:
            narrower = [other for other in covered if 0 < len(other) < len(own)]
            kept = sorted(own.difference(*narrower)) if narrower else sorted(own)
            masses.append(float(probabilities[kept].sum()) if own else None)
        return masses

    @cached_property
    def _members(self) -> Floats:
        """Which classes (columns) each concept (row) covers."""
        members = np.zeros((len(self.names), CLASSES), np.float32)
        for at, classes in enumerate(self._classes):
            members[at, sorted(classes)] = 1.0
        return members

    @cached_property
    def _telling(self) -> list[int]:
        """The concepts that say something, the most specific first."""
        telling = [at for at, names in enumerate(self.names) if names[0] not in VAGUE]
        return sorted(telling, key=lambda at: len(self._classes[at]))

    def specific(self, probabilities: Floats, least: float = SURE) -> Found | None:
        """The most specific concept that holds at least this much and says something; None when none does."""
        held = self._members @ probabilities
        best = next((at for at in self._telling if held[at] >= least), None)
        return None if best is None else Found(self.names[best][0], float(held[best]))

    def likeliest(self, probabilities: Floats, count: int = 3, least: float = 0.05) -> list[Found]:
        """The classes that hold most, in that order."""
        order = np.argsort(-probabilities)[:count]
        return [
            Found(self.names[at][0], float(probabilities[at])) for at in order if probabilities[at] >= least
        ]


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    packed = Path(__file__).with_name("words.tsv.gz").read_bytes()
    return Vocabulary(gzip.decompress(packed).decode().splitlines())


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", " ", word).strip().lower()


def _forms(word: str) -> list[str]:
    """The word, without article, and what its singular may be."""
    plain = re.sub(r"^(an?|the|some|any)\s+", "", _plain(word))
    head, space, last = plain.rpartition(" ")
    singular = [last]
    if last in IRREGULAR:
        singular.append(IRREGULAR[last])
    for ending, instead in (("ies", "y"), ("es", ""), ("s", "")):
        if last.endswith(ending) and len(last) > len(ending) + 1:
            singular.append(last.removesuffix(ending) + instead)
    return [head + space + form for form in singular]
