"""The table of skipped requests that a plan, a run, a status and a comparison all show: by model and code."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypedDict


class Skip(TypedDict):
    """How many requests of one model were skipped for one reason, and the way out."""

    model: str
    code: str
    rows: int
    why: str
    what_to_do: str


_READ_HERE: Final = "set it if mavi may read the media and send it inline, or give a public URL"

# code: (why, what to do). The codes themselves are in `error_code` of the rows, details in `error_message`.
CODES: Final[Mapping[str, tuple[str, str]]] = {
    # the row
    "row_malformed": ("row that cannot be read", "correct the line that error_message names"),
    "item_id_empty": ("empty item id", "fill the cell, or leave the column out"),
    "item_id_bad": ("item id that is no short text", "give a text of at most 1,000 characters"),
    "duplicate_item_id": ("item id of an earlier row", "give each row its own id"),
    "truth_bad": ("expected answer that cannot be kept", "write it as text or JSON"),
    "prompt_empty": ("empty prompt", "fill the cell that the prompt needs"),
    "prompt_failed": ("prompt that the row cannot fill", "fill the cell, or write {{ name or '' }}"),
    "too_dear": ("may cost more than allowed", "raise max_cost_per_item_usd, or lower max_tokens"),
    # its media
    "media_missing": ("missing file", "put the file there, or correct the path"),
    "media_empty": ("empty file or cell", "fill the cell, or replace the file"),
    "media_broken": ("damaged or cut file", "replace the file"),
    "media_changed": ("file that changed meanwhile", "run again when it is complete"),
    "media_not_a_file": ("no regular file", "name a file, not a folder"),
    "media_scheme": ("unknown kind of reference", "give a path, http(s), s3, gs or a data URL"),
    "media_bad_url": ("reference that cannot be read", "correct the cell"),
    "media_kind_unknown": ("neither image nor video", "replace the file; for URLs add a media_kind column"),
    "media_format": ("format that the model does not take", "convert it to JPEG, PNG or MP4"),
    "media_too_large": ("too large", "give a smaller file or a public URL, or set frames"),
    "media_too_long": ("video that is too long", "cut it, or raise media.max_video_s"),
    "media_timeout": ("too slow to decode", "replace the file, or raise media.decode_timeout_s"),
    # what its model takes
    "media_not_taken": ("kind of media that the model does not take", "ask another model"),
    "text_not_taken": ("no media, which the model needs", "ask another model"),
    "media_mixed": ("images and videos in one item", "split the item, or set frames: 8"),
    "media_too_many": ("too many media", "split the item, or set fewer frames"),
    "video_needs_frames": ("video needs frames", "set frames: 8 on the model"),
    "video_needs_url": ("video needs a URL", "set media.root and media.base_url, or frames: 8"),
    "video_needs_extra": ("video support is not installed", "pip install 'mavi-tasks[video]'"),
    # how it is reached
    "media_private_url": ("private URL", "set media.download and media.allow_private, or give a public URL"),
    "download_off": ("media.download is off", _READ_HERE),
    "download_insecure": ("media.allow_http is off", "give an https URL, or set it"),
    "download_private": ("media.allow_private is off", "give a public URL, or set it"),
    "download_failed": ("download failed", "see error_message; run again"),
    "s3_needs_extra": ("file system is not installed", "install what error_message names"),
    "sign_failed": ("no presigned URL", "check the credentials of the store"),
}  # fmt: skip


def table(counts: Mapping[tuple[str, str], int]) -> list[Skip]:
    """The rows of the table, of counts by (model, code): a model's together, the most frequent first."""
    found: list[Skip] = []
    for (model, code), rows in sorted(counts.items(), key=lambda one: (one[0][0], -one[1], one[0][1])):
        why, what_to_do = CODES.get(code, (code.replace("_", " "), "see error_message"))
        if rows:
            found.append({"model": model, "code": code, "rows": rows, "why": why, "what_to_do": what_to_do})
    return found


def by_model(counts: Iterable[tuple[str, Mapping[str, int]]]) -> list[Skip]:
    """The table of counts by code, for each model."""
    return table({(model, code): rows for model, codes in counts for code, rows in codes.items()})


def total(skips: Sequence[Skip]) -> int:
    """How many requests were skipped."""
    return sum(one["rows"] for one in skips)


def sentence(skips: Sequence[Skip]) -> str:
    """`9 skipped: 3 empty file or cell, 2 damaged or cut file, 4 video needs a URL`; empty without any."""
    whys: dict[str, int] = {}
    for one in skips:
        whys[one["why"]] = whys.get(one["why"], 0) + one["rows"]
    said = ", ".join(f"{rows:,} {why}" for why, rows in sorted(whys.items(), key=lambda one: -one[1]))
    return f"{total(skips):,} skipped: {said}" if whys else ""
