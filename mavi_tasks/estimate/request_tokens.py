"""Input tokens of one request: what is expected, and what a budget holds back for it.

One answer for the plan, the estimate and the budget: they must agree on how many frames of a video are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

from mavi_tasks.estimate.token_formulas import (
    DURATION_S,
    Sized,
    UnknownMedia,
    formula_of,
    text_tokens,
)

UNKNOWN_PICTURE_TOKENS: Final = 57_803  # the largest picture to the model that counts most: gpt-4o-mini


class RequestTokens(NamedTuple):
    """`expected` by the published formula; `at_most`: what a budget holds back for."""

    expected: int
    at_most: int


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """How many frames of a video are sent to one model: so many, or `fps` a second; else the video itself.

    max_frames: the most that `fps` takes of one video. max_images: the most images in one request, which its
    media divide among them. frame_px: the longest side of a frame, None = that of tokens.toml.
    """

    frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    max_images: int | None = None
    frame_px: int | None = None

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
ANY_MEDIA: Final = UnknownMedia()


def request_tokens(
    model: str,
    media_items: Sequence[Sized],
    text_chars: int,
    *,
    text_bytes: int | None = None,
    sampling: FrameSampling = NO_FRAMES,
    unknown: UnknownMedia = ANY_MEDIA,
) -> RequestTokens:
    """Input tokens of one request.

    `text_chars` counts system, prompt and schema together; `text_bytes` all that is sent besides media, in
    UTF-8 (None: as many as characters). unknown: what a budget assumes for media of unknown size. Of a
    family without a formula the text alone is expected, and at most as many tokens for each picture as the
    model that counts most.
    """
    formula = formula_of(model)
    expected, at_most = text_tokens(text_chars), float(text_chars if text_bytes is None else text_bytes)
    for media in media_items:
        frames = most_frames = None
        if media.kind == "video":
            known_s = media.duration_s
            frames = sampling.count(DURATION_S if known_s is None else known_s, len(media_items))
            most_frames = sampling.at_most(known_s, len(media_items))
        if formula is None:
            at_most += UNKNOWN_PICTURE_TOKENS * (most_frames or 1)
            continue
        expected += formula.media_tokens(media, frames, sampling.frame_px)
        at_most += formula.most_tokens(media, most_frames, sampling.frame_px, unknown)
    most = ceil(at_most)
    if formula is not None and formula.max_input is not None:
        most = min(most, formula.max_input)
    return RequestTokens(expected, most)
