"""The job that `mavi init` writes is the job that was asked for, whatever the texts in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.errors import InputError
from mavi_tasks.job import job_of, load_job, starter

FLASH, MINI = "gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"


def loaded(folder, *, manifest="pets.csv", **fields):
    """The job as it was made, and as its text reads."""
    folder.mkdir(exist_ok=True)
    (folder / manifest).write_text("media_url\n")
    given = {
        "name": "pets",
        "prompt": "What?",
        "models": [starter.spec(FLASH)],
        "budget_usd": "1.00",
        **fields,
    }
    job = job_of(manifest=folder / manifest, gateway="sandbox", output=folder / "out", **given)
    (folder / starter.ANSWER_SCHEMA).write_text('{"type": "object"}')
    (folder / starter.JOB).write_text(starter.job_text(job, manifest), "utf-8")
    return job, load_job(folder / starter.JOB)


def test_models_that_take_only_images_get_frames(tmp_path):
    made, read = loaded(tmp_path, models=[starter.spec(FLASH), starter.spec(MINI)])
    assert [(spec.model, spec.frames) for spec in read.models] == [(FLASH, None), (MINI, 8)]
    assert read.models == made.models


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)


@given(prompt=TEXTS.filter(lambda text: not {"{", "#"} & set(text)), name=TEXTS)
def test_any_text_is_read_as_it_was_written(tmp_path_factory, prompt, name):
    made, read = loaded(tmp_path_factory.mktemp("job"), prompt=prompt, name=name)
    assert list(read.prompts.values()) == list(made.prompts.values()) == [prompt]
    assert read.name == name


@pytest.mark.parametrize(
    "manifest", ["it's.csv", "a: b.csv", "# x.csv", "no.csv", "2026-11-22.csv", "x #y.csv"]
)
def test_any_name_of_a_manifest_is_read_as_it_is(tmp_path, manifest):
    made, read = loaded(tmp_path, manifest=manifest)
    assert read.manifest == made.manifest


@pytest.mark.parametrize("prompt", ["two\nlines", "{{ title }}: 'it'", "%TAG !", "---", "tab\there", "\\n"])
def test_templates_and_lines_are_kept(tmp_path, prompt):
    _, read = loaded(tmp_path, prompt=prompt)
    assert list(read.prompts.values()) == [prompt]


@pytest.mark.parametrize("budget", ["1", "0.000001", "1e2", "$5.00", "999999"])
def test_a_budget_is_kept(tmp_path, budget):
    made, read = loaded(tmp_path, budget_usd=budget)
    assert read.budget_usd == made.budget_usd


def test_fields_are_typed_and_may_be_null():
    schema = starter.answer_schema(["animal", "legs:integer", "mood:calm|lively", "tags:list"])
    assert schema["properties"] == {
        "animal": {"type": ["string", "null"]},
        "legs": {"type": ["integer", "null"]},
        "mood": {"type": ["string", "null"], "enum": ["calm", "lively", None]},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    assert schema["required"] == ["animal", "legs", "mood", "tags"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["legs:int"], "--field 'legs:int': the type must be .*; did you mean integer\\?"),
        (["two words"], "--field 'two words': must begin with a name"),
        ([":text"], "must begin with a name"),
        (["a", "a:list"], "--field 'a:list': a is there already"),
        (["mood:calm|"], "the type must be"),
        (["mood:calm|calm"], "the type must be"),
    ],
)
def test_a_field_that_is_none_is_told(fields, said):
    with pytest.raises(InputError, match=said):
        starter.answer_schema(fields)
