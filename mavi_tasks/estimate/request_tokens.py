"""Input tokens of one request: what is expected, and what a budget holds back for it.

One answer for the plan, the estimate and the budget: they must agree on how many frames of a video are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

from mavi_tasks.estimate.token_formulas import (
    DURATION_S,
    TEXT_SPREAD,
    Formula,
    Sized,
    formula_of,
    text_tokens,
)

UNKNOWN_PICTURE_TOKENS: Final = 16_384  # what Qwen2.5-VL makes of its largest picture


class RequestTokens(NamedTuple):
    """`expected` by the published formula; `at_most`: times its declared spread."""

    expected: int
    at_most: int


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """How many frames of a video are sent to one model: so many, or `fps` a second; else the video itself.

    max_frames: the most that `fps` takes of one video. max_images: the most images in one request, which its
    media divide among them.
    """

    frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    max_images: int | None = None

    def count(self, duration_s: float, media_count: int = 1) -> int | None:
        """Frames of a video of this length, one of so many media; None when the video is sent as it is."""
        if self.frames is not None or self.fps is None:
            return self.frames
        frames, most = max(1, ceil(duration_s * self.fps)), self._most(media_count)
        return frames if most is None else min(frames, most)

    def at_most(self, duration_s: float | None, media_count: int = 1) -> int | None:
        """The same as an upper bound: of a video of unknown length, all frames that may be sent."""
        if duration_s is None and self.frames is None and self.fps is not None:
            return self._most(media_count) or self.count(DURATION_S, media_count)
        return self.count(DURATION_S if duration_s is None else duration_s, media_count)

    def _most(self, media_count: int) -> int | None:
        images = None if self.max_images is None else max(1, self.max_images // media_count)
        return min((most for most in (self.max_frames, images) if most is not None), default=None)


NO_FRAMES: Final = FrameSampling()


def request_tokens(
    model: str,
    media_items: Sequence[Sized],
    text_chars: int,
    *,
    sampling: FrameSampling = NO_FRAMES,
    unknown_s: float | None = None,
) -> RequestTokens:
    """Input tokens of one request.

    `text_chars` counts system, prompt and schema together. unknown_s: the length that a budget assumes for
    videos of unknown length. Of a family without a formula the text alone is expected, and at most as many
    tokens for each picture as any model that is widely served counts.
    """
    formula = formula_of(model)
    expected, at_most = text_tokens(text_chars), text_tokens(text_chars) * TEXT_SPREAD
    for media in media_items:
        frames = most_frames = None
        if media.kind == "video":
            known_s = media.duration_s
            frames = sampling.count(DURATION_S if known_s is None else known_s, len(media_items))
            most_frames = sampling.at_most(unknown_s if known_s is None else known_s, len(media_items))
        if formula is None:
            at_most += UNKNOWN_PICTURE_TOKENS * (most_frames or 1)
            continue
        expected += formula.media_tokens(media, frames)
        at_most += _most_tokens(formula, media, most_frames, unknown_s)
    return RequestTokens(expected, ceil(at_most))


def _most_tokens(formula: Formula, media: Sized, frames: int | None, unknown_s: float | None) -> float:
    spread = formula.video_spread if media.kind == "video" and frames is None else formula.image_spread
    return formula.media_tokens(media, frames, unknown_s) * spread
