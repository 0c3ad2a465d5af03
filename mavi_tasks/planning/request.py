"""One request: an item, a prompt and a model, rendered; one line of a plan's shards."""

from dataclasses import dataclass
from hashlib import sha256

import orjson

from mavi_tasks.media import Media


@dataclass(frozen=True, slots=True)
class Request:
    """One (item, prompt, model), rendered.

    repeat: 1 the first time the same is asked, then 2, 3, ... cluster: what the item belongs to, None = its
    media. tokens: the estimate of its input; max_input_tokens: what a budget should hold back for it.
    """

    key: str
    item_id: str
    prompt_id: str
    prompt: str
    media_items: tuple[Media, ...]
    truth: str | None
    tokens: int
    max_input_tokens: int
    cluster: str | None = None
    repeat: int = 1

    def to_json(self) -> bytes:
        media_items = [media.to_json() for media in self.media_items]
        rest = (self.truth, self.tokens, self.max_input_tokens, self.cluster, self.repeat)
        return orjson.dumps((self.key, self.item_id, self.prompt_id, self.prompt, media_items, *rest))

    @staticmethod
    def from_json(line: bytes) -> "Request":
        key, item_id, prompt_id, prompt, media_items, *rest = orjson.loads(line)
        return Request(key, item_id, prompt_id, prompt, tuple(map(Media.from_json, media_items)), *rest)


def key_start(line: bytes) -> str:
    """The first two characters of the key in a line made by `Request.to_json`, without reading the rest."""
    return line[2:4].decode()  # a line begins ["0f...


def copy_key(request: Request) -> str:
    """The key of a row that gets a copy of the answer of `request.key`, which another row has sent."""
    return sha256(f"{request.key}\0{request.item_id}\0{request.prompt_id}".encode()).hexdigest()
