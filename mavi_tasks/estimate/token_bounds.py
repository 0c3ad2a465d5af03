"""The most tokens that a media can count as: what a budget holds back for it.

For a picture or a video of unknown size the most that its model counts for any, up to the largest there may
be. The numbers are those of tokens.toml.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from math import ceil, sqrt
from typing import Any, Final

Pixels = int
MostForImage = Callable[[Pixels], int]  # longest side -> tokens
MostForVideo = Callable[[float, int | None, int | None], int]  # seconds, width and height if known -> tokens

SMALLEST_CROP_PX: Final = 256
CROPS_ON_SHORT_SIDE: Final = 1.5


def _fixed(tokens: int) -> MostForImage:
    return lambda side_px: tokens


def _tiles(small_px: int, tile_px: int, tokens_per_tile: int) -> MostForImage:
    @cache
    def most(side_px: int) -> int:
        if side_px <= small_px:
            return tokens_per_tile
        return tokens_per_tile * max(crops(side_px, short_px, tile_px) for short_px in range(1, side_px + 1))

    return most


def crops(width: int, height: int, tile_px: int) -> int:
    """Tiles by the other rule in Gemini's documents: a tile is the shorter side / 1.5, from 256 to 768 px."""
    unit_px = min(tile_px, max(SMALLEST_CROP_PX, int(min(width, height) / CROPS_ON_SHORT_SIDE)))
    return -(-width // unit_px) * -(-height // unit_px)


def _scaled_tiles(
    fit_px: int, short_px: int, tile_px: int, base_tokens: int, tokens_per_tile: int
) -> MostForImage:
    def most(side_px: int) -> int:
        across, down = ceil(min(side_px, fit_px) / tile_px), ceil(min(side_px, short_px) / tile_px)
        return base_tokens + tokens_per_tile * across * down

    return most


def _patches(patch_px: int, max_patches: int, multiplier: float) -> MostForImage:
    return lambda side_px: ceil(min(max_patches, ceil(side_px / patch_px) ** 2) * multiplier)


def _grid(multiple_px: int, min_px: int, max_px: int, extra_tokens: int) -> MostForImage:
    def most(side_px: int) -> int:
        cells = min(max_px / multiple_px**2, (side_px / multiple_px + 1) ** 2)
        return ceil(max(cells, (sqrt(min_px) / multiple_px + 1) ** 2)) + extra_tokens

    return most


def _area_table(px: list[int], tokens: list[int]) -> MostForImage:
    return lambda side_px: tokens[-1]


def _per_second(
    fps: float, tokens_per_frame: int, audio_tokens_per_s: float = 0, max_frames: int | None = None
) -> MostForVideo:
    def most(duration_s: float, width: int | None, height: int | None) -> int:
        frames = max(1, ceil(duration_s * fps))
        return min(frames, max_frames or frames) * tokens_per_frame + ceil(duration_s) * ceil(
            audio_tokens_per_s
        )

    return most


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
) -> MostForVideo:
    def most(duration_s: float, width: int | None, height: int | None) -> int:
        steps = ceil(min(max(ceil(duration_s * fps), min_frames), max_frames) / frames_per_step)
        step_px = max(min(frame_max_px, total_max_px / steps), min_px * 1.05)
        if width is not None and height is not None:
            step_px = min(step_px, max(min_px * 1.05, (width + multiple_px) * (height + multiple_px)))
        return ceil(steps * step_px / multiple_px**2) + extra_tokens

    return most


IMAGE_BOUNDS: Final[Mapping[str, Callable[..., MostForImage]]] = {
    "fixed": _fixed,
    "tiles": _tiles,
    "scaled_tiles": _scaled_tiles,
    "patches": _patches,
    "grid": _grid,
    "area_table": _area_table,
}
VIDEO_BOUNDS: Final[Mapping[str, Callable[..., MostForVideo]]] = {
    "per_second": _per_second,
    "grid_video": _grid_video,
}


def other_image_rule(spec: Mapping[str, Any]) -> Callable[[int, int], int] | None:
    """Width and height of an image -> its tokens by another reading of the documents, if there is one."""
    if spec["method"] == "tiles":
        tile_px, tokens = spec["tile_px"], spec["tokens_per_tile"]
        return lambda width, height: tokens * crops(width, height, tile_px)
    if spec["method"] == "patches":  # cut at the cap, where strips end above whole patches
        patch_px, most, multiplier = spec["patch_px"], spec["max_patches"], spec["multiplier"]
        return lambda width, height: ceil(
            min(most, ceil(width / patch_px) * ceil(height / patch_px)) * multiplier
        )
    return None


def image_bound(spec: Mapping[str, Any]) -> MostForImage:
    """Longest side of an image -> the most tokens it can count as."""
    return lru_cache(maxsize=256)(IMAGE_BOUNDS[spec["method"]](**_numbers(spec)))


def video_bound(spec: Mapping[str, Any]) -> MostForVideo:
    """Length and size of a video -> the most tokens it can count as, sent as a video."""
    return VIDEO_BOUNDS[spec["method"]](**_numbers(spec))


def _numbers(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != "method"}
