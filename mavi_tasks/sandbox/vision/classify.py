"""Classifies a picture or a video: class probabilities, main colours and brightness."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image, ImageOps

from ..media import MediaInput
from .levels import Level
from .network import SIDE_PX, Network
from .weights import Floats

# The basic colour names with a typical RGB value; a pixel gets the nearest name.
COLOURS = {
    "black": (20, 20, 20), "gray": (128, 128, 128), "white": (240, 240, 240), "red": (200, 40, 40),
    "orange": (240, 140, 40), "yellow": (235, 220, 70), "green": (60, 140, 60), "blue": (60, 90, 180),
    "purple": (130, 60, 160), "pink": (240, 160, 190), "brown": (120, 75, 45), "beige": (215, 195, 160),
}  # fmt: skip
MAIN_FRACTION = 0.15
FACTS_PX = 64


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """The classifier's result for one media. brightness: mean luma from 0 to 1."""

    probabilities: Floats
    colours: tuple[str, ...]
    brightness: float


def extract_features(network: Network, media: MediaInput, level: Level) -> ImageFeatures | None:
    """The features of one media; None when its bytes are not available, or cannot be decoded."""
    pictures = _frames(media, level.frames) if media.kind == "video" else _image(media)
    if not pictures:
        return None
    # the frames of a video are enough views
    plain = replace(level, crops=(1.0,), mirrored=False) if media.kind == "video" else level
    views = [view for picture in pictures for view in _views(picture, plain)]
    small = np.stack([_array(picture.resize((FACTS_PX, FACTS_PX))) for picture in pictures])
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    return ImageFeatures(network.probabilities(views), _colours(small), round(float(luma.mean()) / 255, 3))


def _image(media: MediaInput) -> list[Image.Image]:
    source = io.BytesIO(media.data) if media.data is not None else media.path
    if source is None:
        return []
    try:
        with Image.open(source) as opened:
            opened.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))  # a large JPEG is decoded small
            return [ImageOps.exif_transpose(opened).convert("RGB")]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return []


def _frames(media: MediaInput, count: int) -> list[Image.Image]:
    """Frames at even distances in time; none without the video library, or if it cannot read the file."""
    try:
        import av
    except ImportError:
        return []
    source = io.BytesIO(media.data) if media.data is not None else str(media.path)
    times_s = [(media.duration_s or 0.0) * (index + 0.5) / count for index in range(count)]
    pictures: list[Image.Image] = []
    try:
        with av.open(source, "r") as container:
            for frame in container.decode(video=0):
                if len(pictures) == count:
                    break
                if frame.time is None or frame.time >= times_s[len(pictures)]:
                    pictures.append(frame.to_image())  # type: ignore[no-untyped-call]
    except (av.FFmpegError, IndexError, ValueError):
        return pictures
    return pictures


def _views(picture: Image.Image, level: Level) -> list[Floats]:
    """The inputs of the network at this level: the crops, perhaps mirrored, scaled to a square."""
    views: list[Floats] = []
    for fraction in level.crops:
        view_image = _centre_crop(picture, fraction).resize(
            (level.side_px, level.side_px), Image.Resampling.BICUBIC
        )
        view = _array(view_image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
        views += [view, view[:, ::-1]] if level.mirrored else [view]
    return views


def _centre_crop(picture: Image.Image, fraction: float) -> Image.Image:
    if fraction == 1.0:
        return picture
    width, height = (max(1, round(size * fraction)) for size in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _array(picture: Image.Image) -> Floats:
    return np.asarray(picture, np.float32)


def _colours(pixels: Floats) -> tuple[str, ...]:
    """The names of the main colours of the pixels, at least one, the largest first."""
    palette = np.array(list(COLOURS.values()), np.float32)
    flat = pixels.reshape(-1, 1, 3)
    nearest = ((flat - palette) ** 2).sum(axis=2).argmin(axis=1)
    fractions = np.bincount(nearest, minlength=len(palette)) / len(flat)
    order = np.argsort(-fractions, kind="stable")[:3]
    main = [index for index in order if fractions[index] >= MAIN_FRACTION] or order[:1]
    names = list(COLOURS)
    return tuple(names[index] for index in main)


@dataclass(frozen=True)
class Scene:
    """The combined features of the media of one question."""

    media: Sequence[MediaInput]
    features: Sequence[ImageFeatures]

    @cached_property
    def probabilities(self) -> Floats | None:
        """The mean over the media that could be decoded; None without any."""
        if not self.features:
            return None
        mean: Floats = np.mean([one.probabilities for one in self.features], axis=0, dtype=np.float32)
        return mean

    @property
    def colours(self) -> list[str] | None:
        colours = dict.fromkeys(colour for one in self.features for colour in one.colours)
        return list(colours)[:4] or None

    @property
    def brightness(self) -> float | None:
        return (
            round(sum(s.brightness for s in self.features) / len(self.features), 3) if self.features else None
        )

    @property
    def only(self) -> MediaInput | None:
        """The media of a question about a single one; several media have no common size."""
        return self.media[0] if len(self.media) == 1 and self.features else None
