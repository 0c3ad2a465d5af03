"""The values of the media stage: what a media is, how it will be delivered, and what was delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol

from mavi_tasks.providers.base import Endpoint, MediaKind, Part, Route

Kind = Literal["image", "video"]
Place = Literal["local", "url", "data", "s3"]
InputMode = Literal["url", "inline", "frames", "text"]
Transport = Literal["url", "presign", "inline", "frames"]

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a media (or an item) is not sent; `code` is one of the table in `mavi_tasks.media`."""

    code: str
    reason: str


class Media(NamedTuple):
    """One media, known without sending it.

    uri: the form that is stored, without user, password and signature. source: what is opened or sent.
    identity: "sha256:<hex>" of the content, or for remote media the URL without its signature.
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


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """What may be done with media. The job's own options may be any object with some of these names."""

    base_url: str | None = None  # where files under `root` are public
    root: str | None = None
    download: bool = False  # may we read remote media ourselves (to inline or to take frames)?
    allow_http: bool = False  # downloads over plain http
    allow_private: bool = False  # downloads from private networks
    allow_private_urls: bool = False  # send private URLs as they are: the gateway is local too
    max_download_bytes: int = 200 * MB
    download_timeout_s: float = 60.0
    max_redirects: int = 3
    default_kind: Kind | None = None  # of a URL that tells nothing
    default_frames: int = 8  # when `equalise: frames` names no number
    max_frames: int = 64  # the most that `fps` may ask of one video
    frame_px: int = 1024  # longest side of a frame
    max_image_px: int | None = 8000  # longest side of an image; nova takes no more, the others shrink it
    max_image_pixels: int = 178_956_970  # more is a decompression bomb: Pillow's own limit
    max_file_bytes: int = 2_147_483_648  # of a local file: the largest video any family takes
    max_video_s: float = 3 * 3600.0
    max_request_bytes: int = 18 * MB  # raw bytes of all media in one body: 25 MB once in base64
    decode_timeout_s: float = 30.0  # for one media
    sign_ttl_s: int = 3600  # how long a presigned URL lasts

    @staticmethod
    def of(like: object) -> "MediaOptions":
        """Options from any object that has some of these names; None keeps the default."""
        if isinstance(like, MediaOptions):
            return like
        given = {f.name: getattr(like, f.name, None) for f in fields(MediaOptions)}
        return MediaOptions(**{name: value for name, value in given.items() if value is not None})


DEFAULTS = MediaOptions()


class MediaCapabilities(Protocol):
    """The part of a provider family that says which media it takes, and how."""

    @property
    def name(self) -> str: ...
    @property
    def routes(self) -> Mapping[MediaKind, Route]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """How one media of a request travels.

    url: what is sent, for way "url". max_bytes: raw bytes, once encoded. frames and fps: for way "frames".
    """

    media: Media
    way: Transport
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
    steps: tuple[Step, ...]

    @property
    def reads(self) -> bool:
        """Whether carrying it out reads, signs or encodes anything."""
        return any(step.way != "url" for step in self.steps)


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
    """The media of one request, ready for a body, with what the audit columns tell.

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
