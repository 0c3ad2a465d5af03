"""What is in a picture or a video: class probabilities, and what its pixels say by themselves."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image, ImageOps

from ..media import SeenMedia
from .levels import Level
from .network import SIDE_PX, Network
from .weights import Floats

# The basic colour words, each at a typical place; a pixel takes the nearest.
COLOURS = {
    "black": (20, 20, 20), "gray": (128, 128, 128), "white": (240, 240, 240), "red": (200, 40, 40),
    "orange": (240, 140, 40), "yellow": (235, 220, 70), "green": (60, 140, 60), "blue": (60, 90, 180),
    "purple": (130, 60, 160), "pink": (240, 160, 190), "brown": (120, 75, 45), "beige": (215, 195, 160),
}  # fmt: skip
MAIN_SHARE = 0.15
FACTS_PX = 64


@dataclass(frozen=True, slots=True)
class Sight:
    """One media as the classifier saw it. brightness: mean luma from 0 to 1."""

    probabilities: Floats
    colours: tuple[str, ...]
    brightness: float


def look(network: Network, media: SeenMedia, level: Level) -> Sight | None:
    """Look at one media; None when its bytes are not here, or cannot be decoded."""
    pictures = _frames(media, level.frames) if media.kind == "video" else _image(media)
    if not pictures:
        return None
    # the frames of a video are views enough
    plain = replace(level, middles=(1.0,), mirrored=False) if media.kind == "video" else level
    views = [view for picture in pictures for view in _views(picture, plain)]
    small = np.stack([_array(picture.resize((FACTS_PX, FACTS_PX))) for picture in pictures])
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    return Sight(network.probabilities(views), _colours(small), round(float(luma.mean()) / 255, 3))


def _image(media: SeenMedia) -> list[Image.Image]:
    source = io.BytesIO(media.data) if media.data is not None else media.path
    if source is None:
        return []
    try:
        with Image.open(source) as opened:
            opened.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))  # a large JPEG is decoded small
            return [ImageOps.exif_transpose(opened).convert("RGB")]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return []


def _frames(media: SeenMedia, count: int) -> list[Image.Image]:
    """Frames at even distances in time; none without the video library, or of a file it cannot read."""
    try:
        import av
    except ImportError:
        return []
    source = io.BytesIO(media.data) if media.data is not None else str(media.path)
    wanted_s = [(media.duration_s or 0.0) * (at + 0.5) / count for at in range(count)]
    pictures: list[Image.Image] = []
    try:
        with av.open(source, "r") as container:
            for frame in container.decode(video=0):
                if len(pictures) == count:
                    break
                if frame.time is None or frame.time >= wanted_s[len(pictures)]:
                    pictures.append(frame.to_image())  # type: ignore[no-untyped-call]
    except (av.FFmpegError, IndexError, ValueError):
        return pictures
    return pictures


def _views(picture: Image.Image, level: Level) -> list[Floats]:
    """The picture as the level sees it: whole or its middle, perhaps mirrored, squeezed to a square."""
    views: list[Floats] = []
    for share in level.middles:
        seen = _middle(picture, share).resize((level.side_px, level.side_px), Image.Resampling.BICUBIC)
        view = _array(seen.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
        views += [view, view[:, ::-1]] if level.mirrored else [view]
    return views


def _middle(picture: Image.Image, share: float) -> Image.Image:
    if share == 1.0:
        return picture
    width, height = (max(1, round(size * share)) for size in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _array(picture: Image.Image) -> Floats:
    return np.asarray(picture, np.float32)


def _colours(pixels: Floats) -> tuple[str, ...]:
    """The colour words that hold a main share of the pixels, at least one, the largest first."""
    palette = np.array(list(COLOURS.values()), np.float32)
    flat = pixels.reshape(-1, 1, 3)
    nearest = ((flat - palette) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(palette)) / len(flat)
    order = np.argsort(-shares, kind="stable")[:3]
    main = [at for at in order if shares[at] >= MAIN_SHARE] or order[:1]
    names = list(COLOURS)
    return tuple(names[at] for at in main)


@dataclass(frozen=True)
class Scene:
    """All that is known of the media of one question together."""

    media: Sequence[SeenMedia]
    sights: Sequence[Sight]

    @cached_property
    def probabilities(self) -> Floats | None:
        """The mean over the media that could be seen; None when none could."""
        if not self.sights:
            return None
        mean: Floats = np.mean([sight.probabilities for sight in self.sights], axis=0, dtype=np.float32)
        return mean

    @property
    def colours(self) -> list[str] | None:
        seen = dict.fromkeys(colour for sight in self.sights for colour in sight.colours)
        return list(seen)[:4] or None

    @property
    def brightness(self) -> float | None:
        return round(sum(s.brightness for s in self.sights) / len(self.sights), 3) if self.sights else None

    @property
    def only(self) -> SeenMedia | None:
        """The one media of a question about one; sizes of several have no common answer."""
        return self.media[0] if len(self.media) == 1 and self.sights else None
