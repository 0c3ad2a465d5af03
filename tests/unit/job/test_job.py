"""What a job promises: the file is read as it is written, the command line goes before it."""

import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import Columns, Gateway, Job, MediaOptions, ModelSpec, job_of, load_job, trusted_modules
from tests.support.gateways import REPOSITORY

MANIFESTS = REPOSITORY / "manifests"
MODEL = "gemini:gemini-2.5-flash"
SMALL = f"manifest: pets.csv\nmodels: [{MODEL}]\nprompts: {{q: What?}}\n"

DESIGN = """\
name: pets
manifest: pets.csv
columns: {media: media_url, id: item_id, prompt: prompt, truth: label}
prompts:
  label: "What animal is this {{ media.kind }}? Title: {{ title }}."
system: "Answer as JSON."
answer_schema: pet.schema.json
models:
  - gemini:gemini-2.5-flash
  - {model: "gpt:gpt-4o-mini", params: {temperature: 0}, frames: 8}
params: {temperature: 0.5, max_tokens: 300}
limits:
  "gemini:*": {requests_per_minute: 600, tokens_per_minute: 1e6, concurrency: 32}
  "*": {concurrency: 4}
retry: {attempts: 5, base_s: 1, cap_s: 32, deadline_s: 600}
budget_usd: 5.00
gateway: mavi
output: out/pets
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "pets.csv").write_text("media_url,title\nhttps://a.example/cat.jpg,Cat\n")
    (tmp_path / "pet.schema.json").write_text('{"type": "object", "properties": {"a": {"type": "string"}}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, text, name="pets.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(folder, text, overrides=None):
    with pytest.raises(InputError) as caught:
        load_job(written(folder, text), overrides)
    return caught.value.problems


# ---- what is read ----


def test_design_example_is_read_as_written(folder):
    job = load_job(written(folder, DESIGN))
    assert job.manifest == str(folder / "pets.csv")
    assert job.output == str(folder / "out/pets")
    assert job.answer_schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert [spec.model for spec in job.models] == ["gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"]
    assert job.models[1].frames == 8
    assert job.budget_usd == Decimal("5.00")
    assert (job.columns.media, job.columns.truth) == ("media_url", "label")
    assert job.gateway == Gateway(name="mavi")
    assert job.retry.deadline_s == 600


def test_own_params_of_a_model_go_before_the_jobs_and_null_takes_one_back(folder):
    job = load_job(written(folder, DESIGN))
    assert job.effective_params(job.models[0]) == {"temperature": 0.5, "max_tokens": 300}
    assert job.effective_params(job.models[1]) == {"temperature": 0, "max_tokens": 300}
    without = ModelSpec(model=MODEL, params={"max_tokens": None})
    assert job.effective_params(without) == {"temperature": 0.5}


def test_first_glob_that_fits_gives_the_limits(folder):
    job = load_job(written(folder, DESIGN))
    assert job.limits_for("gemini:gemini-2.5-pro").tokens_per_minute == 1_000_000
    assert job.limits_for("nova:us.amazon.nova-lite-v1:0").concurrency == 4
    assert load_job(written(folder, SMALL)).limits_for(MODEL).concurrency is None


def test_limit_that_fits_no_model_is_a_warning(folder):
    job = load_job(written(folder, SMALL + 'limits: {"gemni:*": {concurrency: 1}}\n'))
    assert job.warnings() == ["limits.gemni:*: matches no model of this job"]


def test_defaults_are_the_documented_ones(folder):
    job = load_job(written(folder, SMALL))
    assert (job.name, job.output) == ("pets", str(folder / "out/pets"))
    assert (job.gateway.name, job.runner, job.order, job.shard_size) == ("mavi", "threads", "manifest", 1000)
    assert (job.retry.attempts, job.retry.base_s, job.retry.cap_s) == (5, 1.0, 32.0)
    assert (job.repair, job.durability, job.equalise, job.budget_usd, job.limit) == (
        True, "group", None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written_as", "dollars"),
    [("5.00", "5"), ("5", "5"), ('"$5"', "5"), ('"5.5 USD"', "5.5"), ("0.000000000001", "0.000000000001")],
)
def test_budget_is_exact_dollars(folder, written_as, dollars):
    assert load_job(written(folder, SMALL + f"budget_usd: {written_as}\n")).budget_usd == Decimal(dollars)


def test_gateway_is_a_name_a_url_or_a_mapping(folder):
    def gateway(text):
        return load_job(written(folder, SMALL + f"gateway: {text}\n")).gateway

    assert gateway("sandbox").name == "sandbox"
    assert gateway("http://localhost:8000/v1/") == Gateway(name="custom", base_url="http://localhost:8000/v1")
    assert gateway("{base_url: https://h.example/v2, api_key_env: MY_API_KEY}").api_key_env == "MY_API_KEY"
    assert gateway("{base64: raw, nova_url: object}").name == "mavi"


def test_self_hosted_models_stand_beside_their_dialect(folder):
    text = (
        "manifest: pets.csv\nprompts: {q: What?}\nmodels: ['openai:llava']\n"
        "gateway: {base_url: http://localhost:8000/v1, dialect: openai}\n"
        "prices: {'openai:llava': {input_usd_per_mtok: 0.1, output_usd_per_mtok: '0.2'}}\n"
    )
    job = load_job(written(folder, text))
    assert job.models[0].model == "openai:llava"
    (price,) = job.extra_prices()
    assert price.price_id == "openai:llava@job:0.1/0.2"
    assert price.cost(1_000, 10).total_pico == 102_000_000  # 1000 * 0.1 / 1e6 + 10 * 0.2 / 1e6 dollars


def test_own_prices_are_taken_by_the_price_book(folder):
    from datetime import date

    from mavi_tasks.pricing import book

    rows = "prices: {'gemini:gemini-2.5-flash': {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}\n"
    job = load_job(written(folder, SMALL + rows))
    price = book.load_prices(job.extra_prices()).price(MODEL, date(2026, 11, 22))
    assert price.cost(1_000_000, 1_000_000).total_pico == 3 * 10**12  # 1 + 2 dollars


def test_own_price_in_tiers_is_that_of_the_same_rows_in_a_mapping(folder):
    from mavi_tasks.pricing.parse import prices_of

    tiers = [
        {"up_to_input_tokens": 1000, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2.5"},
        {"input_usd_per_mtok": "0.5", "output_usd_per_mtok": "1.25"},
    ]
    job = job_of(manifest="pets.csv", models=[MODEL], prompt="x", prices={MODEL: {"tiers": tiers}})
    assert job.extra_prices() == prices_of({MODEL: {"tiers": tiers}})


def test_answer_schema_may_be_inline_or_a_pydantic_class(folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    (folder / "pet_answers.py").write_text(
        "from pydantic import BaseModel\nclass Pet(BaseModel):\n    animal: str\n"
    )
    trusted_modules.trust(str(folder / "pet_answers.py"), os.environ)
    job = load_job(written(folder, SMALL + "answer_schema: pet_answers:Pet\n"))
    assert job.answer_schema["properties"]["animal"]["type"] == "string"
    inline = load_job(written(folder, SMALL + "answer_schema: {type: object}\n"))
    assert inline.answer_schema == {"type": "object"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7d", timedelta(days=7)),
        ("36h", timedelta(hours=36)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ],
)
def test_since_is_an_age_or_an_instant(folder, text, found):
    job = load_job(written(folder, SMALL + f"since: {text}\n"))
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert job.since_at(now) == (now - found if isinstance(found, timedelta) else found)


def test_anchors_and_merges_are_plain_yaml(folder):
    text = (
        "manifest: pets.csv\nprompts: {q: What?}\nmodels:\n"
        f"  - &a {{model: '{MODEL}', params: {{temperature: 0}}}}\n"
        "  - {<<: *a, model: 'gemini:gemini-2.5-pro'}\n"
    )
    assert load_job(written(folder, text)).models[1].params == {"temperature": 0}


# ---- the command line ----


def test_job_without_a_file(folder):
    job = job_of(manifest="pets.csv", models=[MODEL], prompt="What is it?")
    assert job.prompts == {"prompt": "What is it?"}
    assert (job.name, job.output, job.source) == ("pets", str(folder / "out/pets"), None)


def test_command_line_goes_before_the_file_with_its_paths_from_here(folder, monkeypatch):
    path = written(folder, DESIGN)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    given = {
        "limit": 3, "budget_usd": "2", "gateway": "sandbox",
        "output": "mine", "models": ["nova:us.amazon.nova-lite-v1:0"], "prompt": "Hi",
    }  # fmt: skip
    job = load_job(path, given)
    assert (job.limit, job.budget_usd, job.gateway.name) == (3, Decimal(2), "sandbox")
    assert job.output == str(folder / "elsewhere/mine")
    assert [spec.model for spec in job.models] == ["nova:us.amazon.nova-lite-v1:0"]
    assert job.prompts == {"prompt": "Hi"}
    assert job.manifest == str(folder / "pets.csv")


def test_another_base_url_never_passes_for_the_named_gateway(folder):
    path = written(folder, SMALL + "gateway: mavi\n")
    assert load_job(path, {"base_url": "http://localhost:1"}).gateway.name == "custom"


def test_problem_of_the_command_line_is_named_by_its_flag(folder):
    path = written(folder, SMALL)
    given = {"budget_usd": "a lot", "limit": 0, "models": ["gemni:x"], "base_url": "ftp://h"}
    with pytest.raises(InputError) as caught:
        load_job(path, given)
    told = "\n".join(caught.value.problems)
    assert "--budget-usd: 'a lot' must be dollars" in told
    assert "--limit: 0 must be a whole number > 0" in told
    assert "--model: 'gemni:x': unknown family 'gemni'; the nearest is 'gemini'" in told
    assert "--base-url: 'ftp://h' must be a URL" in told


# ---- as a parameter, and as a hash ----


def test_job_comes_back_from_json_the_same(folder):
    job = load_job(written(folder, DESIGN + "since: 7d\n"))
    again = Job.model_validate(json.loads(json.dumps(job.model_dump(mode="json"))))
    assert again == job
    assert again.hash() == job.hash()
    assert again.columns.named("truth")
    assert not load_job(written(folder, SMALL)).columns.named("media")


def test_job_of_plain_parameters_takes_paths_from_here(folder):
    job = Job.model_validate({"manifest": "pets.csv", "models": [MODEL], "prompts": "What?"})
    assert job.manifest == str(folder / "pets.csv")


def test_json_schema_tells_every_field_and_takes_the_short_forms(folder):
    schema = Job.model_json_schema()
    assert set(schema["required"]) == {"manifest", "models"}
    assert all("description" in field or "$ref" in field for field in schema["properties"].values()), schema
    assert {"type": "string"} in schema["properties"]["gateway"]["anyOf"]
    assert {"type": "string"} in schema["properties"]["models"]["items"]["anyOf"]
    import jsonschema

    jsonschema.validate(
        {"manifest": "p.csv", "models": [MODEL], "budget_usd": 5, "gateway": "sandbox"}, schema
    )


def test_hash_is_the_same_wherever_the_folder_lies(folder):
    one = load_job(written(folder, DESIGN)).hash()
    other = folder / "other"
    other.mkdir()
    for name in ("pets.csv", "pet.schema.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    assert load_job(written(other, DESIGN)).hash() == one
    assert load_job(written(other, DESIGN.replace("5.00", "5"))).hash() == one
    assert load_job(written(other, DESIGN.replace("5.00", "6"))).hash() != one


def test_signature_of_a_manifest_does_not_reach_the_hash():
    one, two = (
        job_of(manifest=f"https://h.example/pets.csv?sig={sign}", models=[MODEL], prompt="x").hash()
        for sign in "ab"
    )
    assert one == two


# ---- the examples ----


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_loads(path):
    assert load_job(path).models


def test_every_field_is_explained_in_its_example():
    from mavi_tasks.common.strict_model import StrictModel
    from mavi_tasks.job import sections

    text = (MANIFESTS / "every_field.yaml").read_text()
    kinds = [kind for kind in vars(sections).values() if isinstance(kind, type)]
    kinds = [Job, Columns, MediaOptions, *(kind for kind in kinds if issubclass(kind, StrictModel))]
    names = {name for kind in kinds for name in kind.model_fields} - {"source"}
    assert [name for name in sorted(names) if f"{name}:" not in text] == []


def test_options_of_media_count_in_the_hash_as_they_were_written(folder):
    """A new default of the media stage is not another job."""
    unset, null, given = (
        job_of(manifest="pets.csv", models=[MODEL], prompt="x", media=media)
        for media in ({}, {"max_frames": None}, {"max_frames": 64})
    )
    assert unset.media == null.media == given.media
    assert unset.hash() == null.hash() != given.hash()
    assert unset.model_dump()["media"]["max_frames"] is None


def test_every_media_option_but_true_and_false_may_be_null_in_the_json_schema():
    options = Job.model_json_schema()["$defs"]["MediaOptions"]["properties"]
    kinds = {name: option.get("type") for name, option in options.items()}
    assert {name for name, kind in kinds.items() if kind == "boolean"} == {
        "download", "allow_http", "allow_private", "allow_private_urls",
    }  # fmt: skip
    assert set(kinds.values()) == {"boolean", None}
    assert options["max_frames"]["anyOf"] == [
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 2**31 - 1}, {"type": "null"},
    ]  # fmt: skip
