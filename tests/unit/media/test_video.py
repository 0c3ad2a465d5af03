"""Frames by time out of videos of every kind, and what hostile ones end in."""

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mavi_tasks.media import Delivery, MediaOptions, Refusal, identify, mp4, route_for
from mavi_tasks.media.local_files import RefusedError
from mavi_tasks.media.video import Sampling, frames_of
from tests.support.gateways import REPOSITORY
from tests.support.media_files import IMAGES_ONLY, Family, clip, deliver, found, opened

CONTAINERS = [("mp4", "mpeg4"), ("mov", "mpeg4"), ("mkv", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4")]
CONTAINERS += [("ts", "mpeg2video"), ("flv", "flv"), ("wmv", "wmv2"), ("mpg", "mpeg1video")]


def greys(done: object) -> list[int]:
    assert isinstance(done, Delivery), done
    return [opened(part.data).convert("L").resize((1, 1)).getpixel((0, 0)) for part in done.parts]


def refused(outcome: object) -> str:
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_frames_are_spread_evenly_over_the_video(tmp_path, suffix, codec):
    path = clip(tmp_path / f"a.{suffix}", seconds=8, fps=25, codec=codec)
    done = deliver([identify(path)], IMAGES_ONLY, frames=4)
    expected = [32, 96, 159, 223]  # brightness in the middle of each quarter
    assert all(abs(grey - wanted) < 12 for grey, wanted in zip(greys(done), expected, strict=True)), greys(
        done
    )
    assert (done.frames_sent, done.input_mode, done.parts[0].mime) == (4, "frames", "image/jpeg")
    assert done.duration_s == pytest.approx(8, abs=0.3)


def test_seeking_over_a_long_video_gives_the_same_frames(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=60, fps=5)
    got = greys(deliver([identify(path)], IMAGES_ONLY, frames=6))
    assert all(abs(grey - (index + 0.5) * 255 / 6) < 12 for index, grey in enumerate(got)), got


def test_fps_asks_for_as_many_frames_as_the_video_is_long(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=5)
    assert deliver([identify(path)], IMAGES_ONLY, fps=1).frames_sent == 5
    assert deliver([identify(path)], IMAGES_ONLY, fps=30).frames_sent == 10  # all that the family takes
    assert deliver([identify(path)], IMAGES_ONLY, fps=30, options=MediaOptions(max_frames=3)).frames_sent == 3


def test_equalise_without_a_number_gives_the_default(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=5)
    assert deliver([identify(path)], IMAGES_ONLY, equalise=True).frames_sent == 8


def test_a_video_with_fewer_frames_than_asked_for_gives_those_it_has(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=3, fps=1)
    assert deliver([identify(path)], IMAGES_ONLY, frames=10).frames_sent == 3


def test_frames_are_no_larger_than_asked_for(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=1, size=(640, 360))
    done = deliver([identify(path)], IMAGES_ONLY, frames=2, options=MediaOptions(frame_px=320))
    assert (done.width, done.height) == (320, 180)


def test_frames_too_many_for_one_body_are_made_smaller(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=2, size=(640, 360))
    plain = deliver([identify(path)], IMAGES_ONLY, frames=4)
    image = replace(IMAGES_ONLY.routes["image"], max_inline_bytes=800)  # of 10 images, 8,000 bytes
    small = deliver([identify(path)], Family("small", image=image), frames=4)
    assert plain.media_bytes > 8_000 >= small.media_bytes
    assert small.width < plain.width


def test_a_turned_video_gives_upright_frames(tmp_path):
    import av

    plain, turned = clip(tmp_path / "a.mp4", size=(160, 80)), tmp_path / "turned.mp4"
    with av.open(plain) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    done = deliver([identify(str(turned))], IMAGES_ONLY, frames=2)
    assert (done.width, done.height) == (80, 160)


def test_a_header_that_claims_ten_hours_is_refused_or_not_believed(tmp_path):
    path = Path(clip(tmp_path / "a.mkv", seconds=2))
    data = bytearray(path.read_bytes())
    at = data.find(b"\x44\x89\x88") + 3  # Duration, a double in milliseconds
    data[at : at + 8] = struct.pack(">d", 36_000_000.0)
    path.write_bytes(data)
    media = found(identify(str(path)))
    assert media.duration_s == pytest.approx(36_000)
    assert refused(route_for([media], IMAGES_ONLY, frames=4)) == "media_too_long"
    done = deliver([media], IMAGES_ONLY, frames=4, options=MediaOptions(max_video_s=100_000))
    assert (done.frames_sent, done.duration_s) == (4, pytest.approx(2, abs=0.1))
    assert greys(done) == sorted(greys(done))
    assert greys(done)[-1] > 200


def test_a_video_without_frames_is_broken(tmp_path):
    path = Path(clip(tmp_path / "a.mkv", seconds=1))
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    assert refused(identify(str(path))) == "media_broken"


def test_a_video_whose_frames_are_noise_is_broken(tmp_path):
    path = Path(clip(tmp_path / "a.webm", seconds=2, codec="libvpx"))
    data = bytearray(path.read_bytes())
    start = data.find(b"\x1f\x43\xb6\x75") + 12
    data[start:] = b"\xaa" * (len(data) - start)
    path.write_bytes(data)
    unit = identify(str(path))
    outcome = unit if isinstance(unit, Refusal) else deliver([unit], IMAGES_ONLY, frames=3)
    assert refused(outcome) == "media_broken"


def test_a_cut_recording_without_an_index_gives_frames_of_what_is_there(tmp_path):
    path = Path(clip(tmp_path / "a.mkv", seconds=10, fps=10))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    done = deliver([identify(str(path))], IMAGES_ONLY, frames=4)
    assert done.frames_sent == 4
    assert done.duration_s < 9


def test_sound_without_pictures_is_no_video(tmp_path):
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        frame.planes[0].update(bytes(1600))
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    outcome = identify(str(path))
    assert refused(outcome) == "media_kind_unknown"
    assert "sound" in outcome.reason


def test_decoding_ends_at_its_deadline(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=2)
    ticks = iter(range(1000))
    how = Sampling(frames=4, fps=None, max_frames=4, max_px=100, max_bytes=10**6)
    with Path(path).open("rb") as file, pytest.raises(RefusedError) as caught:
        frames_of(file, "video/mp4", how, MediaOptions(decode_timeout_s=5), clock=lambda: next(ticks))
    assert caught.value.refusal.code == "media_timeout"


def test_a_playlist_named_as_a_video_is_never_followed(tmp_path):
    clip(tmp_path / "secret.mp4")
    playlist = tmp_path / "a.mp4"
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n"
    )
    assert refused(identify(str(playlist))) == "media_kind_unknown"
    concat = tmp_path / "b.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.mp4\n")
    assert refused(identify(str(concat))) == "media_kind_unknown"


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_the_boxes_alone_tell_size_and_length(tmp_path, suffix):
    path = clip(tmp_path / f"a.{suffix}", seconds=3, size=(320, 200))
    with Path(path).open("rb") as file:
        assert mp4.is_whole(file)
        header = mp4.header_of(file)
    assert (header.width, header.height, header.duration_s) == (320, 200, pytest.approx(3))


def test_without_pyav_videos_are_known_and_sent_but_frames_are_refused_with_the_command(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=3)
    code = f"""
import sys
sys.modules["av"] = None  # as if it were not installed
from mavi_tasks.media import identify, route_for
from tests.support.media_files import deliver, IMAGES_ONLY, EVERYTHING
media = identify({path!r})
print(media.width, media.duration_s, route_for([media], EVERYTHING).input_mode)
refusal = route_for([media], IMAGES_ONLY, frames=4)
print(refusal.code, refusal.reason)
"""
    root = REPOSITORY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.splitlines()[0] == "160 3.0 inline", done.stderr
    assert done.stdout.splitlines()[1].startswith("video_needs_extra")
    assert "pip install 'mavi-tasks[video]'" in done.stdout
