"""The public Python API: what it exports, where it works, what it returns."""

import asyncio
import subprocess
import sys
import threading
import types
from decimal import Decimal
from typing import Literal

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import BaseModel

import mavi_tasks as mavi
from tests.support.gateways import environment

MODEL = "gemini:gemini-2.5-flash"


class Pet(BaseModel):
    animal: Literal["cat", "dog"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", (20 + n, 20), (80 * n, 0, 90)).save(folder / f"{n}.jpg")
    return folder


def labelled(photos, manifest=None, **more):
    given = {"models": MODEL, "gateway": "sandbox", "out": photos.parent / "out", **more}
    return mavi.label(photos if manifest is None else manifest, "What is it?", **given)


def job(photos, name, **more):
    fields = {"manifest": str(photos), "models": [MODEL], "prompts": {"p": "What is it?"}}
    return mavi.Job(**fields, gateway="sandbox", output=str(photos.parent / name), **more)


# -- the names


def test_all_imports_are_exported():
    assert list(mavi.__all__) == sorted(mavi.__all__)
    for name in mavi.__all__:
        assert getattr(mavi, name) is not None, name


def test_every_public_name_is_listed_by_dir():
    assert set(mavi.__all__) <= set(dir(mavi))


def test_every_public_function_and_class_says_what_it_gives():
    undocumented = [name for name in mavi.__all__ if not getattr(mavi, name).__doc__]
    assert undocumented == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        mavi.lable  # noqa: B018


def test_the_packages_compare_and_costs_do_not_hide_the_functions():
    code = (
        "import mavi_tasks.compare.sheet, mavi_tasks.costs.cube, mavi_tasks as mavi\n"
        "assert callable(mavi.compare) and callable(mavi.costs)\n"
        "from mavi_tasks import compare, costs\nassert callable(compare) and callable(costs)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, mavi_tasks\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (
        set(done.stdout.split()) & {"pandas", "pyarrow", "numpy", "pydantic", "asyncio", "prefect"} == set()
    )


# -- where a run works


def test_a_folder_is_labelled_in_a_plain_script(photos):
    run = labelled(photos)
    assert (run.status, len(run.df), run.cost_usd > 0) == ("finished", 3, True)
    assert run.df["cost_usd"].sum() == run.cost_usd
    assert run.report.total("answered") == 3
    assert labelled(photos).report.total("already_answered") == 3


def test_run_works_inside_a_running_loop(photos):
    async def cell():
        return mavi.run(job(photos, "out"))

    assert asyncio.run(cell()).report.total("answered") == 3


def test_run_works_on_a_thread_that_is_not_the_main_one(photos):
    results = []
    thread = threading.Thread(target=lambda: results.append(mavi.run(job(photos, "out"))))
    thread.start()
    thread.join()
    assert results[0].report.total("answered") == 3


def test_several_runs_go_on_at_once(photos):
    async def both():
        return await asyncio.gather(mavi.arun(job(photos, "a")), mavi.arun(job(photos, "b")))

    assert [result.report.total("answered") for result in asyncio.run(both())] == [3, 3]


def test_a_cancelled_run_keeps_its_answers(photos):
    slow = {"name": "sandbox"}

    async def cancelled(base_url):
        fields = {"manifest": str(photos), "models": [MODEL], "prompts": {"p": "?"}}
        slow["base_url"] = base_url
        made = mavi.Job(**fields, gateway=slow, output=str(photos.parent / "out"))
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_progress(progress):
            loop.call_soon_threadsafe(started.set)

        task = asyncio.create_task(mavi.arun(made, on_progress=on_progress))
        await started.wait()
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with mavi.Sandbox(latency_s=1) as gateway:
        asyncio.run(cancelled(gateway.base_url))
    assert mavi.dataframe(photos.parent / "out", "runs")["status"].tolist() == ["interrupted"]
    assert len(mavi.dataframe(photos.parent / "out")) == 3


# -- what is given


@pytest.mark.parametrize("as_rows", [list, pd.DataFrame, pa.Table], ids=["list", "dataframe", "arrow"])
def test_rows_are_taken_as_a_manifest(photos, as_rows):
    paths = sorted(photos.glob("*.jpg"))
    rows = {"item_id": ["a", "b", "c"], "media_url": [str(path) for path in paths]}
    given = {
        list: paths,
        pd.DataFrame: pd.DataFrame(rows),
        pa.Table: pa.table(rows),
    }[as_rows]
    run = labelled(photos, given)
    names = [str(path) for path in paths] if as_rows is list else ["a", "b", "c"]
    assert sorted(run.df["item_id"]) == names
    assert labelled(photos, given).report.total("already_answered") == 3


def test_a_relative_reference_in_a_list_is_relative_to_the_current_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert sorted(labelled(photos, ["0.jpg", "1.jpg"]).df["item_id"]) == ["0.jpg", "1.jpg"]


def test_a_manifest_of_another_kind_is_refused(photos):
    with pytest.raises(mavi.InputError, match="int is not a path, a list of references, a DataFrame"):
        labelled(photos, 7)


def test_a_pydantic_class_makes_typed_labels(photos):
    run = labelled(photos, schema=Pet)
    assert set(run.df["animal"]) <= {"cat", "dog"}
    assert list(run.labels.columns[:3]) == ["item_id", "prompt_id", "model"]
    assert "animal" in run.labels
    assert len(run.labels) == 3
    assert len(mavi.dataframe(run, "labels")) == 3


def test_without_a_schema_there_are_no_labels(photos):
    assert len(labelled(photos).labels) == 0


def test_a_plan_says_what_would_be_sent_and_cost(photos):
    plan = mavi.plan(job(photos, "out"))
    assert (plan.to_send, list(plan.refused)) == (3, [])
    assert Decimal(0) < plan.cost_usd.p10 <= plan.cost_usd.p90
    assert plan.to_json()["requests"] == 3
    assert not (photos.parent / "out").exists()


def test_every_problem_of_the_arguments_is_an_input_error(photos):
    with pytest.raises(mavi.InputError, match=r"^models: .*the nearest is 'gemini'"):
        labelled(photos, models="gemni:gemini-2.5-flash")


# -- what comes back


def test_progress_ends_with_everything_done(photos):
    seen = []
    labelled(photos, on_progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (3, 3, 0)
    assert seen[-1].cost_usd > 0


def test_an_error_in_on_progress_does_not_end_a_paid_run(photos, caplog):
    def broken(progress):
        raise ZeroDivisionError

    assert labelled(photos, on_progress=broken).report.total("answered") == 3
    assert "on_progress failed" in caplog.text


def test_a_notebook_shows_pictures_and_escapes_what_models_and_manifests_say(photos):
    rows = {"item_id": ["<script>x</script>"], "media_url": [str(photos / "0.jpg")]}
    run = labelled(photos, pa.table(rows), name="<b>pets</b>")
    page = run._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;x" in page
    assert "<b>pets</b>" not in page and "data:image/webp;base64," in page


def test_datasets_are_compared_and_added_up(photos, tmp_path):
    run = labelled(photos, models=[MODEL, "gpt:gpt-4o-mini"])
    compared = mavi.compare([run])
    assert len(compared.to_json()["models"]) == 2
    assert "<html" in compared.write_html(tmp_path / "pages" / "models.html").read_text()
    spend = mavi.costs([run], by=["model"])
    assert spend.total_usd == run.cost_usd
    assert repr(spend).startswith(f"<Spend ${spend.total_usd:f}, ")
    assert "<html" in spend.write_html(tmp_path / "pages" / "costs.html").read_text()


def test_price_is_exact():
    found = mavi.price("gemini:gemini-2.5-flash", input_tokens=1000, output_tokens=10)
    assert found == Decimal("0.000325")  # 1000*0.30/1e6 + 10*2.50/1e6


def test_a_table_that_is_not_there_is_refused(photos):
    with pytest.raises(mavi.InputError, match="must be results or attempts or runs or labels"):
        mavi.dataframe(photos, "answers")


def test_a_notebook_cell_shows_one_line_that_is_updated(photos, monkeypatch):
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html)

    kernel = types.SimpleNamespace(kernel=object())
    ipython = types.SimpleNamespace(get_ipython=lambda: kernel)
    display = types.SimpleNamespace(HTML=str, display=lambda html, display_id: Handle())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    labelled(photos)
    assert "3/3 done, 0 failed" in shown[-1]
