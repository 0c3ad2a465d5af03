"""The answerer that looks at pixels: one small local image classifier instead of all models."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from .. import schemas
from ..answers import Question, offered_options, requested_schema
from ..media import MediaInput
from . import weights
from .classify import ImageFeatures, Scene, extract_features
from .facts import UNKNOWN, Facts
from .json_answer import SchemaFiller, untyped
from .levels import Level, level_of
from .network import Network
from .vocabulary import vocabulary

MAX_CACHED = 4096  # features, of 4 KB each
MAX_NOTES = 50


class Vision:
    """Answers from pixels; one for a whole sandbox. Threads may share it.

    A media is classified once for each level: its features are cached by content.
    Raises WeightsError when the weights are not installed, or have another checksum.
    """

    engine = "local/efficientnet-lite0"

    def __init__(self, file: Path | None = None) -> None:
        self._network = Network(weights.load(file))
        self._vocabulary = vocabulary()
        self._lock = threading.Lock()
        self._features: OrderedDict[tuple[str, str, str], Future[ImageFeatures | None]] = OrderedDict()
        self._missing: dict[str, None] = {}
        self._unanswered: dict[str, None] = {}

    def answer(self, question: Question, media: Sequence[MediaInput]) -> str:
        """JSON for a schema; one option for a choice, so that it can be scored; else a marked sentence."""
        level = level_of(question.model)
        features = [found for one in media if (found := self._features_of(one, level)) is not None]
        prose = _without_braces(question.prompt)
        options = offered_options(prose) or offered_options(_without_braces(question.system))
        facts = Facts(Scene(media, features), self._vocabulary, options)
        text = self._text(question, facts)
        self._note(self._missing, facts.missing)
        return text

    def remarks(self) -> list[str]:
        """Messages about what it could not answer so far."""
        with self._lock:
            missing, unanswered = ", ".join(self._missing), ", ".join(self._unanswered)
        found = [f"no class of its vocabulary matches: {missing}"] if missing else []
        return found + ([f"not answered: {unanswered}"] if unanswered else [])

    def _text(self, question: Question, facts: Facts) -> str:
        schema = requested_schema(question)
        if schema is None:
            return (facts.label() or UNKNOWN) if facts.options else facts.prose()
        from_text = question.schema is None and not schemas.find(f"{question.prompt}\n{question.system}")
        filler = SchemaFiller(facts, untyped(schema) if from_text else schema)
        filled = filler.filled()
        self._note(self._unanswered, filler.unanswered)
        if from_text and filler.unanswered:
            filled["unanswered_fields"] = filler.unanswered
        return json.dumps(filled, ensure_ascii=False)

    def _note(self, notes: dict[str, None], found: Sequence[str] | set[str]) -> None:
        with self._lock:
            for one in sorted(found):
                if len(notes) < MAX_NOTES:
                    notes.setdefault(one)

    def _features_of(self, media: MediaInput, level: Level) -> ImageFeatures | None:
        """The features of a media; one thread extracts them, others wait for its result."""
        if media.data is None and media.path is None:
            return None
        key = (media.identity, media.kind, level.name)
        own: Future[ImageFeatures | None] = Future()
        with self._lock:
            cached = self._features.setdefault(key, own)
            self._features.move_to_end(key)
            if len(self._features) > MAX_CACHED:
                self._features.popitem(last=False)
        if cached is own:
            try:
                own.set_result(extract_features(self._network, media, level))
            except BaseException as error:
                with self._lock:
                    self._features.pop(key, None)
                own.set_exception(error)
                raise
        return cached.result()


def _without_braces(text: str) -> str:
    """A question without its JSON, whose texts are not options."""
    return re.sub(r"\{.*\}", " ", text, flags=re.DOTALL)
