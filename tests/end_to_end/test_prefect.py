"""The same job as a Prefect flow and without: one dataset, and no key or answer in what Prefect stores."""

import asyncio
import json

import pytest
from PIL import Image

from mavi_tasks.schema import RESULTS
from tests.support.gateways import ALL_FAMILIES, KEY, mavi, remote_sandbox, rows, write_job

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

# What tells one run from another; everything else must be equal.
OF_THE_RUN = {"run_id", "started_at", "finished_at", "latency_s", "wait_s", "response_id", "run_date"}


@pytest.fixture(scope="module")
def both(prefect_server, tmp_path_factory):
    """The job's folder, with `flow` and `plain` datasets; and all that Prefect knows of the flow run."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "media").mkdir()
    for n in range(6):  # two of them are the same picture
        Image.new("RGB", (30 + n % 5, 20), (n % 5 * 50, 9, 9)).save(folder / "media" / f"{n}.jpg")
    with remote_sandbox(media_root=folder / "media") as gateway:
        lines = ["item_id,media_url,colour", *(f"m{n},media/{n}.jpg,red" for n in range(6))]
        lines += [f"u{n},{gateway.media_url}/{n}.jpg,blue" for n in range(3)]
        (folder / "items.csv").write_text("\n".join(lines))
        job = write_job(
            folder,
            manifest="items.csv",
            prompts={"a": "Is it {{ colour }}?", "b": "What is it?"},
            models=ALL_FAMILIES,
            gateway={"base_url": gateway.base_url},
            media={"allow_private_urls": True},
            shard_size=5,
        )
        for name, more in (("flow", {"PREFECT_API_URL": prefect_server}), ("plain", {})):
            done = mavi("run", job, "--json", "--quiet", "--out", folder / name, **more)
            assert done.code == 0, done.err
    return folder, asyncio.run(known_to_prefect())


async def known_to_prefect():
    """Every parameter, state, artifact and log line that the server holds, as text."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        flows = await client.read_flow_runs()
        tasks = await client.read_task_runs()
        kept = [*flows, *tasks, *await client.read_artifacts(), *await client.read_logs()]
    return [json.dumps(one.model_dump(mode="json"), default=str) for one in kept]


def comparable(folder, table, left_out):
    names = [name for name in RESULTS.names if name not in left_out]
    found = rows(folder, table)
    return sorted(json.dumps({k: v for k, v in row.items() if k in names}, default=str) for row in found)


def test_the_same_rows_come_with_prefect_and_without(both):
    folder, _ = both
    by_flow, plain = (comparable(folder / name, "results", OF_THE_RUN) for name in ("flow", "plain"))
    assert len(plain) == 9 * 2 * 4
    assert by_flow == plain


def test_the_same_attempts_come_with_prefect_and_without(both):
    folder, _ = both
    told = "request_key, model, outcome, http_status, input_tokens, output_tokens, cost_usd, exposure_usd"
    by_flow, plain = (sorted(map(str, rows(folder / name, "attempts", told))) for name in ("flow", "plain"))
    assert by_flow == plain
    assert len(plain) < 9 * 2 * 4  # the same picture was asked once


def test_prefect_stores_no_key_and_no_answer(both):
    folder, known = both
    assert any("label-media" in text or "label " in text for text in known)
    answers = {row["answer"] for row in rows(folder / "flow", columns="answer")}
    for text in known:
        assert KEY not in text
        assert not any(answer in text for answer in answers if len(answer) > 12)
