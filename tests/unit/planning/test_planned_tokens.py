"""What the budget holds back for a request, as the plan counts it."""

import pytest

from mavi_tasks.job import job_of
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import open_context
from mavi_tasks.planning.planner import make_plan
from tests.support.media_files import clip

pytest.importorskip("av")

FRAME = 765  # 1024 x 576 to gpt-4o: 85 + 4 tiles of 170


def planned(tmp_path, **fields):
    """The one request of a plan for a video of 60 s, 1280 x 720; nothing is sent."""
    (tmp_path / "media").mkdir()
    clip(tmp_path / "media" / "one.mp4", seconds=60, size=(1280, 720), fps=1)
    job = job_of(
        manifest=str(tmp_path / "media"),
        output=str(tmp_path / "out"),
        prompt="What?",
        gateway="sandbox",
        **fields,
    )
    plan = make_plan(open_context(job, resolve_endpoint(job.gateway, {})))
    (request,) = [one for shards in plan.shards.values() for one in spool.read(shards)]
    plan.discard()
    return request


def test_frames_a_second_are_held_back_for_as_they_are_sent(tmp_path):
    request = planned(tmp_path, models=[{"model": "gpt:gpt-4o", "fps": 1}])
    assert request.tokens >= 60 * FRAME
    assert request.max_input_tokens >= 60 * FRAME


def test_no_more_frames_are_held_back_for_than_the_job_allows(tmp_path):
    request = planned(tmp_path, models=[{"model": "gpt:gpt-4o", "fps": 1}], media={"max_frames": 10})
    assert 10 * FRAME <= request.tokens < 11 * FRAME


def test_equal_frames_are_held_back_for_too(tmp_path):
    request = planned(tmp_path, models=["gpt:gpt-4o"], equalise="frames", media={"default_frames": 12})
    assert 12 * FRAME <= request.tokens < 13 * FRAME
