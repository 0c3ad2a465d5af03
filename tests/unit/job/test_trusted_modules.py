"""A job's module runs only when its user has said so: by a flag, in their settings, or in the environment."""

import os
import sys

import pytest
from pydantic import TypeAdapter

from mavi_tasks.errors import InputError
from mavi_tasks.flows import tasks
from mavi_tasks.job import job_of, load_job, trusted_modules
from tests.support.gateways import mavi, write_job

RAN = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
PET = RAN + "from pydantic import BaseModel\nclass Pet(BaseModel):\n    animal: str\n"
MODEL = "gemini:gemini-2.5-flash"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    """A settings folder of the test's own; modules that it imports are forgotten."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("pet_module", "pet_package", "pet_folder"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    (folder / "pet_module.py").write_text(PET)
    for name in ("pet_package", "pet_folder"):
        (folder / name).mkdir()
        (folder / name / "pets.py").write_text(PET)
    (folder / "pet_package" / "__init__.py").write_text(RAN)
    return folder


def job_file(folder, schema="pet_module:Pet", **more):
    fields = {"manifest": "items.csv", "models": [MODEL], "prompts": "x", "gateway": "sandbox", **more}
    return write_job(folder, answer_schema=schema, **fields)


PLACES = {
    "pet_module:Pet": "pet_module.py",
    "pet_package.pets:Pet": "pet_package",
    "pet_folder.pets:Pet": "pet_folder",
}


@pytest.mark.parametrize(("schema", "place"), PLACES.items())
def test_a_module_beside_the_job_runs_only_when_it_is_trusted(folder, schema, place):
    path = job_file(folder, schema)
    with pytest.raises(InputError) as told:
        load_job(path)
    assert f"--trust-module {folder / place}" in str(told.value)
    assert not list(folder.rglob("ran"))
    trusted_modules.trust(str(folder / place), os.environ)
    assert load_job(path).answer_schema["properties"]["animal"]["type"] == "string"
    assert list(folder.rglob("ran"))


def test_a_list_in_the_environment_is_for_workers(folder, monkeypatch):
    monkeypatch.setenv("MAVI_TRUSTED_MODULES", f"other, {folder / 'pet_module.py'}")
    assert load_job(job_file(folder)).answer_schema is not None


def test_trust_in_one_folder_is_none_in_another(folder, tmp_path):
    trusted_modules.trust(str(folder / "pet_module.py"), os.environ)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    (theirs / "pet_module.py").write_text(PET)
    with pytest.raises(InputError, match="have not trusted"):
        load_job(job_file(theirs))
    assert not (theirs / "ran").exists()


def test_the_trusted_module_is_never_another_one_of_its_name(folder, tmp_path):
    (tmp_path / "other").mkdir()
    for place in (folder, tmp_path / "other"):
        (place / "pet_module.py").write_text(PET)
        trusted_modules.trust(str(place / "pet_module.py"), os.environ)
    load_job(job_file(folder))
    (tmp_path / "other" / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    with pytest.raises(InputError, match="another module pet_module is loaded already; rename"):
        load_job(job_file(tmp_path / "other"))


@pytest.mark.parametrize(
    "schema", ["json.decoder:JSONDecoder", "os:PathLike", "__main__:Pet", "antigravity:Pet"]
)
def test_an_installed_module_runs_only_when_it_is_trusted_by_its_name(folder, schema, monkeypatch):
    path = job_file(folder, schema)
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    with pytest.raises(InputError, match=r"have not trusted|no module"):
        load_job(path)
    assert "antigravity" not in sys.modules


def test_a_trusted_installed_module_must_hold_a_pydantic_class(folder):
    trusted_modules.trust("json.decoder", os.environ)
    with pytest.raises(InputError, match=r"must name a pydantic class; json\.decoder has none"):
        load_job(job_file(folder, "json.decoder:JSONDecoder"))


@pytest.mark.parametrize("entry", ["", "a-b", "no/such.py", "gone.py", "a b", "a..b"])
def test_what_is_no_module_is_not_remembered(entry):
    with pytest.raises(InputError, match="--trust-module"):
        trusted_modules.trust(entry, os.environ)


def test_a_module_given_in_python_needs_the_same(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="have not trusted"):
        job_of(manifest="items.csv", models=[MODEL], prompt="x", answer_schema="pet_module:Pet")
    assert not (folder / "ran").exists()


# -- a flow's parameter


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"answer_schema": "pet_module:Pet"}, "cannot name a Python class"),
        ({"answer_schema": "pet_module:Pet", "source": "{folder}/job.yaml"}, "cannot name a Python class"),
        ({"source": "{folder}/job.yaml"}, "source: cannot be given"),
    ],
)
def test_a_parameter_never_names_code(folder, more, problem):
    trusted_modules.trust(str(folder / "pet_module.py"), os.environ)  # even then
    fields = {"manifest": str(folder / "items.csv"), "models": [MODEL], "prompts": "x"}
    given = {name: value.format(folder=folder) for name, value in more.items()}
    with pytest.raises(InputError, match=problem):
        TypeAdapter(tasks.JobParameter).validate_python({**fields, **given})
    assert not (folder / "ran").exists()


def test_a_parameter_that_is_the_path_of_a_job_runs_only_trusted_modules(folder):
    read = TypeAdapter(tasks.JobParameter).validate_python
    with pytest.raises(InputError, match="have not trusted"):
        read(str(job_file(folder)))
    assert not (folder / "ran").exists()
    trusted_modules.trust(str(folder / "pet_module.py"), os.environ)
    assert read(str(job_file(folder))).answer_schema is not None


# -- the command line


def test_the_flag_is_needed_once(folder, tmp_path):
    path, settings = job_file(folder), {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    refused = mavi("plan", path, cwd=folder, **settings)
    assert refused.code == 2 and f"--trust-module {folder / 'pet_module.py'}" in refused.err
    assert not (folder / "ran").exists()
    assert mavi("plan", path, "--trust-module", "pet_module.py", cwd=folder, **settings).code == 0
    assert mavi("run", path, "--quiet", "--no-prefect", cwd=folder, **settings).code == 0
