"""The values of the media stage: what a media is, how it will be delivered, and what was delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from mavi_tasks.providers.base import Endpoint, MediaKind, Part, Route

Kind = Literal["image", "video"]
Place = Literal["local", "url", "data", "s3"]
InputMode = Literal["url", "inline", "frames", "text"]
Transport = Literal["url", "presign", "inline", "frames"]

MB = 1_000_000

# Bounds that no job may change.
MAX_IMAGE_PIXELS: Final = 178_956_970  # more is a decompression bomb: Pillow's own limit
MAX_FILE_BYTES: Final = 2_147_483_648  # of a local file: the largest video any family takes
MAX_REQUEST_BYTES: Final = 18 * MB  # raw bytes of all media in one body: 25 MB once in base64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a media (or an item) is not sent; `code` is one of the table in `mavi_tasks.media`."""

    code: str
    reason: str


class Media(NamedTuple):
    """One media, known without sending it.

    uri: the form that is stored, without user and password, with what may be a signature hidden.
    source: what is opened or sent. identity: "sha256:<hex>" of the content, or for remote media the URL
    without its known signatures.
    bytes, sha256, width, height, duration_s: None = not known (remote media are not read).
    """

    uri: str
    source: str
    place: Place
    kind: Kind
    mime: str
    identity: str
    bytes: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None

    def to_json(self) -> tuple[Any, ...]:
        """A flat tuple in the order of the fields; json and orjson write it as a list."""
        return tuple(self)

    @staticmethod
    def from_json(values: Sequence[Any]) -> "Media":
        """The media that `to_json` wrote."""
        return Media(*values)


Unit = Media | Refusal


class MediaCapabilities(Protocol):
    """The part of a provider family that says which media it takes, and how."""

    @property
    def name(self) -> str: ...
    @property
    def routes(self) -> Mapping[MediaKind, Route]: ...


@dataclass(frozen=True, slots=True)
class DeliveryStep:
    """How one media of a request travels.

    url: what is sent, for transport "url". max_bytes: raw bytes, once encoded. frames, fps: for "frames".
    """

    media: Media
    transport: Transport
    url: str | None = None
    mimes: frozenset[str] = frozenset()
    max_bytes: int | None = None
    frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How one request's media will be delivered; known without reading any of them."""

    endpoint: Endpoint
    input_mode: InputMode
    steps: tuple[DeliveryStep, ...]

    @property
    def reads(self) -> bool:
        """Whether carrying it out reads, signs or encodes anything."""
        return any(step.transport != "url" for step in self.steps)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One media as it is sent: the parts, the raw bytes in them, and what the model can see."""

    parts: tuple[Part, ...]
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    sha256: str | None = None
    frames: int | None = None

    @property
    def text_bytes(self) -> int:
        """Memory held by the base64 texts."""
        return sum(len(part.data) for part in self.parts if part.data)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The media of one request, ready for a body, with the values of the audit columns.

    media_bytes: raw bytes in the body, None when all are URLs. width, height: of the first media as sent.
    duration_s: of the first video. sha256: of the original content; of several media, the hash of their
    hashes in order; None when one of them was not read.
    """

    parts: tuple[Part, ...]
    endpoint: Endpoint
    input_mode: InputMode
    frames_sent: int | None = None
    media_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    sha256: str | None = None
