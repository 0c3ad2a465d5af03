"""Tokens of a request by the vendors' published formulas; the numbers and their sources are in tokens.toml.

Pure and cheap (a few microseconds): every request is counted. Estimates only: a bill is
computed from the usage in the reply.
"""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from math import ceil, floor, sqrt
from typing import Any, Final, NamedTuple, Protocol

from mavi_tasks.estimate.token_bounds import (
    MostForImage,
    MostForVideo,
    image_bound,
    other_image_rule,
    video_bound,
)


class Sized(Protocol):
    """What the formulas need to know of a media; None = could not be probed."""

    @property
    def kind(self) -> str: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def duration_s(self) -> float | None: ...


class UnknownMedia(NamedTuple):
    """The largest image and the longest video there may be behind a URL that was not read."""

    image_px: int = 8000  # the longest side; nova takes no more
    video_s: float = 3 * 3600.0


ImageTokens = Callable[[int, int], int]
VideoTokens = Callable[[int, int, float], int]


@dataclass(frozen=True, slots=True)
class Formula:
    """One rule of tokens.toml. The spreads are the factor that holds the true sum in 8 cases of 10."""

    models: tuple[str, ...]
    family_default: bool  # the model itself is not listed: its family's default is used
    image_spread: float
    video_spread: float
    note: str | None
    source: str
    image: ImageTokens
    video: VideoTokens
    video_frames: int | None  # the model takes no video: so many frames stand for it, as images
    largest_image: MostForImage
    largest_spread: float
    longest_video: MostForVideo
    other_rule: ImageTokens | None  # another reading of the documents, which may count more
    max_input: int | None  # tokens that the model reads at all; None = not known

    def media_tokens(self, media: Sized, frames: int | None = None, frame_px: int | None = None) -> int:
        """Tokens of one media; unknown sizes and durations take those of tokens.toml."""
        if media.kind != "video":
            return self.image(media.width or IMAGE_SIZE[0], media.height or IMAGE_SIZE[1])
        width, height = media.width or VIDEO_SIZE[0], media.height or VIDEO_SIZE[1]
        if frames is not None or self.video_frames is not None:
            width, height = _as_frame(width, height, frame_px or FRAME_PX)
        if frames is not None:
            return frames * self.image(width, height)
        return self.video(width, height, DURATION_S if media.duration_s is None else media.duration_s)

    def most_tokens(
        self, media: Sized, frames: int | None, frame_px: int | None, unknown: UnknownMedia
    ) -> float:
        """The most tokens that one media can count as, for a budget."""
        width, height = media.width, media.height
        if media.kind != "video":
            return self._most_of_image(width, height, unknown.image_px)
        frames = self.video_frames if frames is None else frames
        if frames is not None:
            return frames * self._most_of_frame(width, height, frame_px or FRAME_PX)
        duration_s = unknown.video_s if media.duration_s is None else media.duration_s
        return self.longest_video(duration_s, width, height) * self.video_spread

    def _most_of_image(self, width: int | None, height: int | None, longest_px: int) -> float:
        if width is None or height is None:
            return self.largest_image(longest_px) * self.largest_spread
        most = self.image(width, height) * self.image_spread
        return most if self.other_rule is None else max(most, self.other_rule(width, height))

    def _most_of_frame(self, width: int | None, height: int | None, frame_px: int) -> float:
        if width is None or height is None:
            return self._most_of_image(None, None, frame_px)
        wide, tall = ceil(width * WIDEST_PIXEL), ceil(height * WIDEST_PIXEL)
        sizes = (width, height), (wide, height), (width, tall)
        return max(self._most_of_image(*_as_frame(*size, frame_px), frame_px) for size in sizes)


WIDEST_PIXEL: Final = 1.5  # a DVD's 16:11; frames are sent with square pixels


def _as_frame(width: int, height: int, frame_px: int) -> tuple[int, int]:
    """The size of a frame as the media stage sends it."""
    scale = min(1.0, frame_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def formula_of(model: str) -> Formula | None:
    """The formula of a model, its family's default when it is not listed, None for an unknown family."""
    return _formula(model)


def input_tokens(
    model: str, media_items: Sequence[Sized], text_chars: int, *, frames: int | None = None
) -> int | None:
    """Input tokens of one request by the published formula, None for an unknown family.

    `text_chars` counts system, prompt and schema together (see the function of that name); `frames` is how
    many frames stand for each video. Unknown sizes count as 1024x768 images and 30 s of 1280x720 video.
    """
    formula = _formula(model)
    if formula is None:
        return None
    total = text_tokens(text_chars)
    for media in media_items:
        total += formula.media_tokens(media, frames)
    return total


def text_tokens(chars: int) -> int:
    """Tokens of so many characters, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)


def text_chars(*texts: str | None) -> int:
    """Characters as the token rule counts them: a CJK character counts as three, None as nothing."""
    return sum(_chars(text) for text in texts if text)


def text_bytes(*texts: str | None) -> int:
    """Bytes of these texts in UTF-8: no tokenizer makes more tokens of them."""
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts if text)


_CJK = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"  # ideographs, kana, hangul, full width
    "\U0001f000-\U0001faff\U00020000-\U0003ffff]"  # emoji, rare ideographs
)


def _chars(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text) + (CJK_CHARS - 1) * len(_CJK.findall(text))


def size_bucket(media: Sized) -> int:
    """How large a media is, in six steps of four: media of one bucket cost about alike."""
    if media.kind == "video":
        return bisect_left(_SECONDS, DURATION_S if media.duration_s is None else media.duration_s)
    return bisect_left(_PIXELS, (media.width or IMAGE_SIZE[0]) * (media.height or IMAGE_SIZE[1]))


_SECONDS = (8, 32, 128, 512, 2048)
_PIXELS = (75_000, 300_000, 1_200_000, 4_800_000, 19_200_000)


# ---- images


def _fixed(tokens: int) -> ImageTokens:
    return lambda width, height: tokens


def _tiles(small_px: int, tile_px: int, tokens_per_tile: int) -> ImageTokens:
    def count(width: int, height: int) -> int:
        if width <= small_px and height <= small_px:
            return tokens_per_tile
        return ceil(width / tile_px) * ceil(height / tile_px) * tokens_per_tile

    return count


def _scaled_tiles(
    fit_px: int, short_px: int, tile_px: int, base_tokens: int, tokens_per_tile: int
) -> ImageTokens:
    """Fit into a square, shrink the shorter side, count tiles. Nothing is ever enlarged."""

    def count(width: int, height: int) -> int:
        scale = min(1.0, fit_px / max(width, height))
        scale = min(scale, short_px / min(width, height))
        across, down = ceil(round(width * scale, 6) / tile_px), ceil(round(height * scale, 6) / tile_px)
        return base_tokens + tokens_per_tile * across * down

    return count


def _patches(patch_px: int, max_patches: int, multiplier: float) -> ImageTokens:
    """Patches of the image, shrunk so that whole patches stay under the cap, times a multiplier."""

    def count(width: int, height: int) -> int:
        patches = ceil(width / patch_px) * ceil(height / patch_px)
        if patches > max_patches:
            scale = sqrt(patch_px * patch_px * max_patches / (width * height))
            across, down = width * scale / patch_px, height * scale / patch_px
            # A strip thinner than one patch keeps one patch: the published rule would divide by zero there.
            scale = min(max(1, floor(across)) / across, max(1, floor(down)) / down)
            patches = min(max_patches, ceil(round(across * scale, 6)) * ceil(round(down * scale, 6)))
        return ceil(patches * multiplier)

    return count


def _fit_grid(width: int, height: int, multiple: int, min_px: float, max_px: float) -> tuple[int, int]:
    """Width and height in grid cells, after rounding to multiples within the pixel bounds."""
    across, down = max(1, round(width / multiple)), max(1, round(height / multiple))
    area = across * down * multiple * multiple
    if area > max_px:
        shrink = sqrt(width * height / max_px)
        return max(1, floor(width / shrink / multiple)), max(1, floor(height / shrink / multiple))
    if area < min_px:
        grow = sqrt(min_px / (width * height))
        return ceil(width * grow / multiple), ceil(height * grow / multiple)
    return across, down


def _grid(multiple_px: int, min_px: int, max_px: int, extra_tokens: int) -> ImageTokens:
    def count(width: int, height: int) -> int:
        across, down = _fit_grid(width, height, multiple_px, min_px, max_px)
        return across * down + extra_tokens

    return count


def _area_table(px: list[int], tokens: list[int]) -> ImageTokens:
    """Between the vendor's examples by area, in straight lines; the first and the last bound the rest."""

    def count(width: int, height: int) -> int:
        area = min(max(width * height, px[0]), px[-1])
        for left, right, low, high in zip(px, px[1:], tokens, tokens[1:], strict=False):
            if area <= right:
                return round(low + (high - low) * (area - left) / (right - left))
        return tokens[-1]

    return count


# ---- videos


def _per_second(
    fps: float, tokens_per_frame: int, audio_tokens_per_s: float = 0, max_frames: int | None = None
) -> VideoTokens:
    """Frames at a fixed rate, fewer a second above the cap, plus the sound."""

    def count(width: int, height: int, duration_s: float) -> int:
        frames = max(1, ceil(duration_s * fps))
        if max_frames is not None:
            frames = min(frames, max_frames)
        return frames * tokens_per_frame + ceil(duration_s * audio_tokens_per_s)

    return count


def _grid_video(
    multiple_px: int,
    fps: float,
    min_frames: int,
    max_frames: int,
    frames_per_step: int,
    min_px: int,
    frame_max_px: int,
    total_max_px: int,
    extra_tokens: int,
) -> VideoTokens:
    """Frames on a grid, two sharing one step; the pixel cap of the whole video makes long ones coarser."""

    def count(width: int, height: int, duration_s: float) -> int:
        frames = min(max(ceil(duration_s * fps), min_frames), max_frames)
        steps = ceil(frames / frames_per_step)
        max_px = max(min(frame_max_px, total_max_px / steps), min_px * 1.05)
        across, down = _fit_grid(width, height, multiple_px, min_px, max_px)
        return steps * across * down + extra_tokens

    return count


IMAGE_METHODS: Mapping[str, Callable[..., ImageTokens]] = {
    "fixed": _fixed,
    "tiles": _tiles,
    "scaled_tiles": _scaled_tiles,
    "patches": _patches,
    "grid": _grid,
    "area_table": _area_table,
}
VIDEO_METHODS: Mapping[str, Callable[..., VideoTokens]] = {
    "per_second": _per_second,
    "grid_video": _grid_video,
}


# ---- the data file


def _load() -> dict[str, Any]:
    return tomllib.loads(files("mavi_tasks.estimate").joinpath("tokens.toml").read_text(encoding="utf-8"))


def _frames_video(image: ImageTokens, frames: int) -> VideoTokens:
    return lambda width, height, duration_s: frames * image(width, height)


def _no_video(duration_s: float, width: int | None, height: int | None) -> int:
    """Of a model that takes no video: its frames are counted."""
    return 0


def _numbers(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != "method"}


def _formula_from(rule: Mapping[str, Any]) -> Formula:
    # Media of one library share few sizes: remembering them makes a request cost about a microsecond.
    image = lru_cache(maxsize=4096)(IMAGE_METHODS[rule["image"]["method"]](**_numbers(rule["image"])))
    video_spec, is_frames = rule["video"], rule["video"]["method"] == "frames"
    video = (
        _frames_video(image, video_spec["frames"])
        if is_frames
        else VIDEO_METHODS[video_spec["method"]](**_numbers(video_spec))
    )
    image_spread, video_spread = rule["spread"]
    # Tiles are counted by both rules of the documents: nothing is left to doubt in a listed model.
    sure = rule["image"]["method"] == "tiles" and not rule.get("family_default", False)
    return Formula(
        models=tuple(rule["models"]),
        family_default=rule.get("family_default", False),
        image_spread=image_spread,
        video_spread=video_spread,
        note=rule.get("note"),
        source=rule["source"],
        image=image,
        video=video,
        video_frames=video_spec["frames"] if is_frames else None,
        largest_image=image_bound(rule["image"]),
        longest_video=_no_video if is_frames else video_bound(video_spec),
        largest_spread=1.0 if sure else image_spread,
        other_rule=other_image_rule(rule["image"]),
        max_input=rule.get("max_input"),
    )


DATA = _load()
IMAGE_SIZE: tuple[int, int] = (DATA["defaults"]["image_width"], DATA["defaults"]["image_height"])
VIDEO_SIZE: tuple[int, int] = (DATA["defaults"]["video_width"], DATA["defaults"]["video_height"])
DURATION_S: float = DATA["defaults"]["video_duration_s"]
FRAME_PX: int = DATA["defaults"]["frame_px"]
SIZE_SPREAD: float = DATA["defaults"]["size_spread"]
CHARS_PER_TOKEN: int = DATA["text"]["chars_per_token"]
CJK_CHARS: int = DATA["text"]["cjk_chars"]
TEXT_SPREAD: float = DATA["text"]["spread"]
FORMULAS: tuple[Formula, ...] = tuple(_formula_from(rule) for rule in DATA["rule"])


@lru_cache(maxsize=1024)
def _formula(model: str) -> Formula | None:
    return _first(formula for formula in FORMULAS if any(fnmatchcase(model, glob) for glob in formula.models))


def _first(formulas: Iterable[Formula]) -> Formula | None:
    return next(iter(formulas), None)
