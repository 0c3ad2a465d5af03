"""Names of the thousand classes: WordNet names, their superclasses, and everyday words for both.

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
SURE = 0.5  # the answer to an open question needs this probability
LEAST = 0.15  # the likeliest of several options needs this probability

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
# Concepts that are useless as an answer.
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
    """The known names, and the classes that each name covers."""

    def __init__(self, lines: Sequence[str]) -> None:
        rows = [line.split("\t") for line in lines]
        self.names = [row[0].split("|") for row in rows]
        self._parents = [[int(number) for number in row[1].split()] for row in rows]

    @cached_property
    def _classes(self) -> list[frozenset[int]]:
        """The classes under each concept."""
        under: list[set[int]] = [set() for _ in self.names]
        for index in range(CLASSES):
            pending = [index]
            while pending:
                concept = pending.pop()
                if index not in under[concept]:
                    under[concept].add(index)
                    pending.extend(self._parents[concept])
        return [frozenset(classes) for classes in under]

    @cached_property
    def _concepts(self) -> dict[str, list[int]]:
        """The concepts of each name, in lower case."""
        found: dict[str, list[int]] = {}
        for index, names in enumerate(self.names):
            for name in names:
                found.setdefault(_plain(name), []).append(index)
        return found

    def classes_of(self, word: str) -> frozenset[int]:
        """The classes that a word covers, in all of its senses; empty for an unknown word."""
        for form in _forms(word):
            form = SAME.get(form, form)
            names = EVERYDAY.get(form, (form,))
            concepts = [index for name in names for index in self._concepts.get(name, ())]
            if concepts:
                return frozenset().union(*(self._classes[index] for index in concepts))
        return frozenset()

    def masses(self, options: Sequence[str], probabilities: Floats) -> list[float | None]:
        """The probability of each option, None for a word outside the vocabulary.

        A class under several options counts for the most specific one: an espresso is a drink, not food.
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
        for index, classes in enumerate(self._classes):
            members[index, sorted(classes)] = 1.0
        return members

    @cached_property
    def _informative(self) -> list[int]:
        """The informative concepts, the most specific first."""
        informative = [index for index, names in enumerate(self.names) if names[0] not in VAGUE]
        return sorted(informative, key=lambda index: len(self._classes[index]))

    def specific(self, probabilities: Floats, minimum: float = SURE) -> Found | None:
        """The most specific informative concept with at least this probability, or None."""
        mass = self._members @ probabilities
        best = next((index for index in self._informative if mass[index] >= minimum), None)
        return None if best is None else Found(self.names[best][0], float(mass[best]))

    def likeliest(self, probabilities: Floats, count: int = 3, minimum: float = 0.05) -> list[Found]:
        """The classes with the highest probabilities, in descending order."""
        order = np.argsort(-probabilities)[:count]
        return [
            Found(self.names[index][0], float(probabilities[index]))
            for index in order
            if probabilities[index] >= minimum
        ]


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    packed = Path(__file__).with_name("words.tsv.gz").read_bytes()
    return Vocabulary(gzip.decompress(packed).decode().splitlines())


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", " ", word).strip().lower()


def _forms(word: str) -> list[str]:
    """The word without article, and its possible singular forms."""
    plain = re.sub(r"^(an?|the|some|any)\s+", "", _plain(word))
    head, space, last = plain.rpartition(" ")
    singular = [last]
    if last in IRREGULAR:
        singular.append(IRREGULAR[last])
    for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
        if last.endswith(ending) and len(last) > len(ending) + 1:
            singular.append(last.removesuffix(ending) + replacement)
    return [head + space + form for form in singular]
