"""The answerer that looks: one small image classifier in place of every model, without any network."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from .. import schemas
from ..answers import Question, asked_schema, offered
from ..media import SeenMedia
from . import weights
from .classify import Scene, Sight, look
from .facts import UNKNOWN, Facts
from .json_answer import Form, untyped
from .levels import Level, level_of
from .network import Network
from .vocabulary import vocabulary

KEPT = 4096  # sights, of 4 KB each
WORTH_TELLING = 50


class Vision:
    """Answers from pixels; one for a whole sandbox. Threads may share it.

    A media is looked at once for each level: what was seen is kept by content, so that asking again is free.
    Raises WeightsError when the weights are not installed, or not the known ones.
    """

    engine = "local/efficientnet-lite0"

    def __init__(self, file: Path | None = None) -> None:
        self._network = Network(weights.load(file))
        self._words = vocabulary()
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str, str], Future[Sight | None]] = OrderedDict()
        self._missing: dict[str, None] = {}
        self._unanswered: dict[str, None] = {}

    def answer(self, question: Question, media: Sequence[SeenMedia]) -> str:
        """JSON for a form; the bare word for a choice, so that it can be scored; else a marked sentence."""
        level = level_of(question.model)
        sights = [sight for one in media if (sight := self._look(one, level)) is not None]
        prose = _without_braces(question.prompt)
        options = offered(prose) or offered(_without_braces(question.system))
        facts = Facts(Scene(media, sights), self._words, options)
        text = self._said(question, facts)
        self._note(self._missing, facts.missing)
        return text

    def remarks(self) -> list[str]:
        """What it could not answer so far, in words."""
        with self._lock:
            missing, unanswered = ", ".join(self._missing), ", ".join(self._unanswered)
        found = [f"no class of its vocabulary is under: {missing}"] if missing else []
        return found + ([f"not answered: {unanswered}"] if unanswered else [])

    def _said(self, question: Question, facts: Facts) -> str:
        schema = asked_schema(question)
        if schema is None:
            return (facts.label() or UNKNOWN) if facts.options else facts.prose()
        in_words = question.schema is None and not schemas.find(f"{question.prompt}\n{question.system}")
        form = Form(facts, untyped(schema) if in_words else schema)
        filled = form.filled()
        self._note(self._unanswered, form.unanswered)
        if in_words and form.unanswered:
            filled["unanswered_fields"] = form.unanswered
        return json.dumps(filled, ensure_ascii=False)

    def _note(self, told: dict[str, None], found: Sequence[str] | set[str]) -> None:
        with self._lock:
            for one in sorted(found):
                if len(told) < WORTH_TELLING:
                    told.setdefault(one)

    def _look(self, media: SeenMedia, level: Level) -> Sight | None:
        """What is known of a media; the first who asks looks, the others wait for it."""
        if media.data is None and media.path is None:
            return None
        key = (media.identity, media.kind, level.name)
        mine: Future[Sight | None] = Future()
        with self._lock:
            kept = self._seen.setdefault(key, mine)
            self._seen.move_to_end(key)
            if len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        if kept is mine:
            try:
                mine.set_result(look(self._network, media, level))
            except BaseException as error:
                with self._lock:
                    self._seen.pop(key, None)
                mine.set_exception(error)
                raise
        return kept.result()


def _without_braces(text: str) -> str:
    """A question without the JSON in it, whose words are not options."""
    return re.sub(r"\{.*\}", " ", text, flags=re.DOTALL)
