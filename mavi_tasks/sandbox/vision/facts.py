"""Answers to questions about a scene: a label, one of several options, yes or no, a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .classify import Scene
from .vocabulary import LEAST, SURE, Vocabulary

MARK = "[local classifier, no language model] "
UNKNOWN = "unknown"
# Options that mean "none of the others"; used when the classifier abstains.
NO_OPTION = (
    "other",
    "others",
    "unknown",
    "none",
    "none of these",
    "none of the above",
    "something else",
    "unclear",
)
CANNOT = "It names what its thousand classes know: it does not count, read, follow actions or reason."
ABSENT = 0.05  # below this probability the answer is no


@dataclass(slots=True)
class Facts:
    """A scene, and the options of the question. `missing` collects words outside the vocabulary."""

    scene: Scene
    vocabulary: Vocabulary
    options: Sequence[str] = ()
    missing: set[str] = field(default_factory=set)
    _probability: float | None = None  # of the last label

    def best(self, options: Sequence[str]) -> tuple[str, float] | None:
        """The likeliest option and its probability; None without pixels or without a known word."""
        if self.scene.probabilities is None:
            return None
        masses = self.vocabulary.masses(options, self.scene.probabilities)
        known = [(option, mass) for option, mass in zip(options, masses, strict=True) if mass is not None]
        self.missing.update(
            o for o, mass in zip(options, masses, strict=True) if mass is None and not _is_no_option(o)
        )
        return max(known, key=lambda pair: pair[1], default=None)

    def closed(self, options: Sequence[str]) -> str | None:
        """The option with enough probability; else the one that means none of them; else None (abstains)."""
        found = self.best(options)
        if found is not None and found[1] >= LEAST:
            self._probability = found[1]
            return found[0]
        self._probability = found[1] if found is not None else 0.0
        return next((option for option in options if _is_no_option(option)), None)

    def forced(self, options: Sequence[str], *, nullable: bool) -> str | None:
        """As `closed`, but a schema that allows neither null nor `other` gets the likeliest option."""
        found = self.closed(options)
        if found is not None or nullable:
            return found
        best = self.best(options)
        return best[0] if best is not None else None

    def every(self, options: Sequence[str]) -> list[str]:
        """All options with enough probability."""
        if self.scene.probabilities is None:
            return []
        masses = self.vocabulary.masses(options, self.scene.probabilities)
        return [option for option, mass in zip(options, masses, strict=True) if (mass or 0.0) >= LEAST]

    def label(self) -> str | None:
        """One of the options, or the most specific name with at least half of the probability."""
        if self.options:
            return self.closed(self.options)
        if self.scene.probabilities is None:
            return None
        found = self.vocabulary.specific(self.scene.probabilities)
        likeliest = self.vocabulary.likeliest(self.scene.probabilities, 1, 0.0)[0]
        self._probability = likeliest.mass if found is None else found.mass
        return None if found is None else found.name

    def confidence(self) -> float | None:
        """The probability of the label."""
        if self._probability is None:
            self.label()
        return None if self._probability is None else round(min(1.0, self._probability), 3)

    def whether(self, key: str) -> bool | None:
        """is_cat, has_person: yes from a probability of 0.5; no only for `is_`, below 0.05."""
        verb, _, word = key.partition("_")
        if verb not in ("is", "has", "contains", "shows") or self.scene.probabilities is None:
            return None
        word = word.removeprefix("a_").replace("_", " ")
        mass = self.vocabulary.masses([word], self.scene.probabilities)[0]
        if mass is None:
            self.missing.add(word)
            return None
        if mass >= SURE:
            return True
        return False if verb == "is" and mass < ABSENT else None

    def tags(self) -> list[str] | None:
        if self.scene.probabilities is None:
            return None
        found = self.vocabulary.specific(self.scene.probabilities)
        names = [found.name] if found else []
        names += [one.name for one in self.vocabulary.likeliest(self.scene.probabilities, 3, 0.1)]
        return list(dict.fromkeys(names)) or None

    def colours(self) -> list[str] | None:
        return self.scene.colours

    def colour(self) -> str | None:
        return self.scene.colours[0] if self.scene.colours else None

    def brightness(self) -> float | None:
        return self.scene.brightness

    def brightness_word(self) -> str | None:
        return None if self.scene.brightness is None else _bright(self.scene.brightness)

    def orientation(self) -> str | None:
        media = self.scene.only
        if media is None:
            return None
        sides = (media.width > media.height) - (media.width < media.height)
        return {1: "landscape", 0: "square", -1: "portrait"}[sides]

    def width(self) -> int | None:
        return self.scene.only.width if self.scene.only else None

    def height(self) -> int | None:
        return self.scene.only.height if self.scene.only else None

    def aspect_ratio(self) -> float | None:
        media = self.scene.only
        return round(media.width / media.height, 3) if media else None

    def duration(self) -> float | None:
        return self.scene.only.duration_s if self.scene.only else None

    def kind(self) -> str | None:
        return self.scene.only.kind if self.scene.only else None

    def prose(self) -> str:
        """One or two sentences, marked as from the local classifier."""
        probabilities = self.scene.probabilities
        if probabilities is None:
            return f"{MARK}{UNKNOWN}: {self._why_unknown()}"
        found = self.vocabulary.specific(probabilities)
        likely = ", ".join(f"{one.name} {one.mass:.0%}" for one in self.vocabulary.likeliest(probabilities))
        head = f"{found.name} ({found.mass:.0%})" if found else f"{UNKNOWN}: nothing reaches {SURE:.0%}"
        classes = f"; closest classes: {likely}" if likely else ""
        colours = " and ".join(self.scene.colours or ())
        return f"{MARK}{head}{classes}. Mainly {colours}; brightness {self.brightness_word()}. {CANNOT}"

    def _why_unknown(self) -> str:
        if not self.scene.media:
            return "no picture came with the question, and it cannot read."
        return (
            "the media is elsewhere, or cannot be decoded here; it opens only what is sent or served with it."
        )


def _is_no_option(option: str) -> bool:
    return option.strip().lower() in NO_OPTION


def _bright(brightness: float) -> str:
    return "dark" if brightness < 0.35 else "bright" if brightness > 0.65 else "medium"
