"""ISO media files (MP4, MOV, 3GP) by their boxes: is the file whole, how long and how large is the video.

Enough for plans and estimates without PyAV; and it sees a file cut short, which FFmpeg forgives.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

_MAX_BOXES: Final = 100_000
_MAX_HEADER_BYTES: Final = 64_000_000  # of moov: some hours of video have a few MB


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, and where its content starts and ends."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a video states; None = not stated."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


def is_whole(file: IO[bytes]) -> bool:
    """Whether every top-level box ends inside the file, and the header of the tracks is there."""
    size = file.seek(0, os.SEEK_END)
    kinds = set()
    for box in _boxes(file, 0, size):
        kinds.add(box.kind)
        if box.end > size:
            return False
    return bool(kinds & {b"moov", b"meta"})  # meta: pictures have no tracks


def header_of(file: IO[bytes]) -> Header:
    """Width, height and duration of the largest video track."""
    size = file.seek(0, os.SEEK_END)
    moov = next((box for box in _boxes(file, 0, size) if box.kind == b"moov"), None)
    if moov is None or moov.end > size or moov.end - moov.start > _MAX_HEADER_BYTES:
        return Header()
    duration_s, sizes = None, []
    for box in _boxes(file, moov.start, moov.end):
        if box.kind == b"mvhd":
            duration_s = _duration(_content(file, box, 32))
        elif box.kind == b"trak":
            sizes += [
                _size(_content(file, one, 96))
                for one in _boxes(file, box.start, box.end)
                if one.kind == b"tkhd"
            ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return Header(width or None, height or None, duration_s)


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[Box]:
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, skip = int.from_bytes(head[8:16], "big"), 16
        length = length or end - start  # 0: up to the end
        if length < skip:
            return
        yield Box(kind, start + skip, start + length)
        start += length


def _content(file: IO[bytes], box: Box, count: int) -> bytes:
    file.seek(box.start)
    return file.read(min(count, box.end - box.start)).ljust(count, b"\0")


def _duration(mvhd: bytes) -> float | None:
    if mvhd[0] == 1:
        scale, length = struct.unpack(">IQ", mvhd[20:32])
    else:
        scale, length = struct.unpack(">II", mvhd[12:20])
    unknown = length in (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    return None if unknown or not scale else length / scale


def _size(tkhd: bytes) -> tuple[int, int]:
    at = 88 if tkhd[0] == 1 else 76
    width, height = struct.unpack(">II", tkhd[at : at + 8])
    return width >> 16, height >> 16
