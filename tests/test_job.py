"""What a job file promises: the design's own example is read; whatever is wrong is told, all at once, by line."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pydantic
import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import Gateway, Job, ModelSpec, job_of, load_job

MANIFESTS = Path(__file__).parent.parent / "manifests"
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
    assert job.warnings() == ["limits.gemni:*: fits none of the models of this job"]


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
    assert gateway("{base_url: https://h.example/v2, api_key_env: MY_KEY}").api_key_env == "MY_KEY"
    assert gateway("{base64: raw, nova_url: object}").name == "mavi"


def test_self_hosted_models_stand_beside_their_dialect(folder):
    text = (
        "manifest: pets.csv\nprompts: {q: What?}\nmodels: ['openai:llava']\n"
        "gateway: {base_url: http://localhost:8000/v1, dialect: openai}\n"
        "prices: {'openai:llava': {input_usd_per_mtok: 0.1, output_usd_per_mtok: '0.2'}}\n"
    )
    job = load_job(written(folder, text))
    assert job.models[0].model == "openai:llava"
    assert job.extra_prices() == {"openai:llava": {"input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.2"}}


def test_own_prices_are_taken_by_the_price_book(folder):
    from datetime import date

    from mavi_tasks import pricing

    rows = "prices: {'gemini:gemini-2.5-flash': {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}\n"
    job = load_job(written(folder, SMALL + rows))
    price = pricing.book(job.extra_prices()).price(MODEL, date(2026, 11, 22))
    assert price.cost(1_000_000, 1_000_000).total_pico == 3 * 10**12  # 1 + 2 dollars


def test_answer_schema_may_be_inline_or_a_pydantic_class(folder):
    (folder / "pet_answers.py").write_text(
        "from pydantic import BaseModel\nclass Pet(BaseModel):\n    animal: str\n"
    )
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
        "limit": 3, "budget_usd": "2", "gateway": "sandbox", "output": "mine", "models": ["nova:x"], "prompt": "Hi",
    }  # fmt: skip
    job = load_job(path, given)
    assert (job.limit, job.budget_usd, job.gateway.name) == (3, Decimal(2), "sandbox")
    assert job.output == str(folder / "elsewhere/mine")
    assert ([spec.model for spec in job.models], job.prompts) == (["nova:x"], {"prompt": "Hi"})
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


# ---- what is wrong ----

BAD = {
    "unknown key names the nearest": ("manifset: x\n", "pets.yaml:4: manifset: unknown key; did you mean manifest?"),
    "a word from elsewhere": ("limits: {'*': {rpm: 5}}\n", "limits.*.rpm: unknown key; did you mean requests_per_min"),
    "unknown key far from all": ("zzz: 1\n", "pets.yaml:4: zzz: unknown key; known are name, manifest"),
    "unknown key in columns": ("columns: {medai: x}\n", "columns.medai: unknown key; did you mean media?"),
    "key twice": ("prompts: {a: b}\n", "pets.yaml:4: prompts: is written twice (first in line 3)"),
    "key twice inside": ("retry: {attempts: 1, attempts: 2}\n", "attempts: is written twice"),
    "number as a word": (
        "limits:\n  'gemini:*':\n    requests_per_minute: fast\n",
        "pets.yaml:6: limits.gemini:*.requests_per_minute: 'fast' must be a number > 0",
    ),
    "true as a number": ("shard_size: true\n", "pets.yaml:4: shard_size: true must be a whole number"),
    "half a request": ("limit: 1.5\n", "limit: 1.5 must be a whole number > 0"),
    "no concurrency": ("limits: {'*': {concurrency: 0}}\n", "limits.*.concurrency: 0 must be a whole number > 0"),
    "section as text": ("retry: often\n", "pets.yaml:4: retry: 'often' must be a mapping"),
    "limits of nothing": ("limits: {'*': }\n", "limits.*: must be a mapping"),
    "attempts out of range": ("retry: {attempts: 0}\n", "retry.attempts: 0 must be a whole number from 1 to 50"),
    "cap under base": ("retry: {base_s: 9, cap_s: 1}\n", "retry: must have cap_s (1) of at least base_s (9)"),
    "endless deadline": ("retry: {deadline_s: .inf}\n", "retry.deadline_s: inf must be seconds > 0"),
    "budget as words": ("budget_usd: five\n", "budget_usd: 'five' must be dollars, for example 5.00"),
    "negative budget": ("budget_usd: -1\n", "budget_usd: -1 must be dollars > 0"),
    "zero budget": ("budget_usd: 0\n", "budget_usd: 0 would send nothing; leave it out"),
    "budget not a number": ("budget_usd: .nan\n", "budget_usd: nan must be dollars"),
    "budget too fine": ("budget_usd: 0.0000000000001\n", "must have at most 12 decimals"),
    "unknown gateway": ("gateway: sandbx\n", "gateway.name: 'sandbx' must be mavi or sandbox or custom; did you mean"),
    "custom gateway nowhere": ("gateway: custom\n", "gateway: needs a base_url"),
    "base URL with a query": ("gateway: 'https://h/x?key=1'\n", "gateway.base_url: must end with its path"),
    "wrong scheme of the base URL": ("gateway: {base_url: 'ws://h'}\n", "'ws://h' must be a URL such as https://"),
    "dialect without a server": ("gateway: {dialect: openai}\n", "gateway: needs a base_url"),
    "runner": ("runner: dusk\n", "runner: 'dusk' must be threads or processes or dask or ray; did you mean dask?"),
    "order": ("order: random\n", "order: 'random' must be manifest or newest"),
    "since": ("since: yesterday\n", "since: 'yesterday' must be a date"),
    "equalise": ("equalise: pixels\n", "equalise: 'pixels' must be frames"),
    "temperature out of range": ("params: {temperature: 7}\n", "params.temperature: 7 must be a number from 0 to 2"),
    "unknown parameter": ("params: {temprature: 1}\n", "params.temprature: gemini knows no such parameter"),
    "streaming": ("params: {stream: true}\n", "params.stream: True must be false"),
    "params as a list": ("params: [1]\n", "params: must be a mapping"),
    "answer schema is missing": ("answer_schema: pets.schema.json\n", "did you mean pet.schema.json?"),
    "answer schema is no schema": ("answer_schema: {type: objekt}\n", "answer_schema: is no valid JSON Schema: type"),
    "answer schema of a text": ("answer_schema: {type: string}\n", "answer_schema: must describe an object"),
    "answer schema refers nowhere": ("answer_schema: {type: object, properties: {a: {$ref: '#/x'}}}\n", "#/x"),
    "answer class is missing": ("answer_schema: no_such_module:Pet\n", "cannot be imported: ModuleNotFoundError"),
    "answer class is none": ("answer_schema: json:JSONDecoder\n", "must name a pydantic class; json has none"),
    "answer schema is empty": ("answer_schema: {}\n", "answer_schema: is empty"),
    "system as a number": ("system: 5\n", "system: 5 must be text; put it in quotes"),
    "output is a file": ("output: pets.csv\n", "output: 'pets.csv' is a file; a dataset is a folder"),
    "output on the web": ("output: https://h/x\n", "output: 'https://h/x' must be a folder or an s3://"),
    "prices without an output price": ("prices: {'gpt:x': {input_usd_per_mtok: 1}}\n", "prices.gpt:x: needs input_usd"),
    "negative price": (
        "prices: {'gpt:x': {input_usd_per_mtok: -1, output_usd_per_mtok: 1}}\n",
        "prices.gpt:x.input_usd_per_mtok: -1 must be dollars >= 0",
    ),
    "mapped media without a root": ("media: {base_url: 'https://h'}\n", "media: needs root beside base_url"),
    "the source is ours": ("source: x\n", "source: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_job_is_told_in_words(folder, case):
    more, wanted = BAD[case]
    told = problems(folder, SMALL + more)
    assert any(wanted in problem for problem in told), told
    assert len(told) == 1, told


BAD_WHOLE = {
    "empty": ("", "pets.yaml: is empty"),
    "only a comment": ("# soon\n", "pets.yaml: is empty"),
    "a list": ("- a\n- b\n", "pets.yaml: must be a mapping"),
    "a text": ("just words", "pets.yaml: must be a mapping"),
    "tabs": ("manifest: x\nretry:\n\tattempts: 1\n", "pets.yaml:3: a tab indents this line; YAML takes only spaces"),
    "broken": ("manifest: x\nmodels: [a, b\nprompts: {\n", "pets.yaml:3: is not valid YAML"),
    "latin-1": ("manifest: x\nname: Kätzchen\n".encode("latin-1"), "pets.yaml:2: byte 0xe4 is not UTF-8"),
    "utf-16": ("manifest: x\n".encode("utf-16"), "pets.yaml: is UTF-16; save it as UTF-8"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        "its aliases (&, *) expand without end",
    ),
    "a loop": ("manifest: &m [*m]\n", "its aliases (&, *) expand without end"),
    "an object": ("manifest: !!python/object/apply:os.system ['true']\nmodels: []\n", "pets.yaml:1: manifest"),
    "two documents": (SMALL + "---\n" + SMALL, "pets.yaml:4: is not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_WHOLE)
def test_file_that_is_no_job_is_told_in_words(folder, case):
    text, wanted = BAD_WHOLE[case]
    told = problems(folder, text)
    assert any(wanted in problem for problem in told), told


BAD_PARTS = {
    "no manifest": ("models: [gpt:x]\n", "pets.yaml:1: manifest: is missing"),
    "no models": ("manifest: pets.csv\n", "pets.yaml:1: models: is missing"),
    "an empty list of models": ("manifest: pets.csv\nmodels: []\n", "pets.yaml:2: models: must not be empty"),
    "a manifest that is not there": (
        "manifest: pet.csv\nmodels: [gpt:x]\n",
        "pets.yaml:1: manifest: 'pet.csv' is not there",
    ),
    "a manifest of another world": ("manifest: ftp://h/x\nmodels: [gpt:x]\n", "must be a path, a glob, s3://"),
    "a bare model": ("manifest: pets.csv\nmodels: [gemini-2.5-flash]\n", "models[0].model: 'gemini-2.5-flash'"),
    "a model as a number": ("manifest: pets.csv\nmodels: [5]\n", "models[0]: 5 must be a mapping"),
    "a model twice": ("manifest: pets.csv\nmodels: [gpt:x, gpt:x]\n", "models[1]: gpt:x is already models[0]"),
    "a key of a model": (
        "manifest: pets.csv\nmodels:\n- model: gpt:x\n  parms: {}\n",
        "pets.yaml:4: models[0].parms: unknown key; did you mean params?",
    ),
    "frames and fps": (
        "manifest: pets.csv\nmodels: [{model: gpt:x, frames: 1, fps: 1}]\n",
        "pets.yaml:2: models[0]: must have frames or fps, not both",
    ),
    "own params of a model": (
        "manifest: pets.csv\nmodels:\n- model: gpt:x\n  params:\n    top_p: 2\n",
        "pets.yaml:5: models[0].params.top_p: 2 must be a number from 0 to 1",
    ),
    "a family of another dialect": (
        "manifest: pets.csv\nmodels: ['gpt:x']\ngateway: {base_url: 'http://h', dialect: openai}\n",
        "models[0].model: 'gpt:x' must be openai:NAME",
    ),
    "a dialect's family without it": ("manifest: pets.csv\nmodels: ['openai:x']\n", "needs a gateway of its own"),
    "a template that does not end": (
        "manifest: pets.csv\nmodels: [gpt:x]\nprompts:\n  a: fine\n  b: '{{ x'\n",
        "pets.yaml:5: prompts.b: line 1: unexpected end of template",
    ),
    "a template that gives the answer away": (
        "manifest: pets.csv\nmodels: [gpt:x]\ncolumns: {truth: label}\nprompts: {a: 'Is it a {{ label }}?'}\n",
        "pets.yaml:4: prompts.a: 'label' is the expected answer",
    ),
    "a prompt called row": ("manifest: pets.csv\nmodels: [gpt:x]\nprompts: {row: x}\n", "prompts.row: is taken"),
    "an empty prompt": ("manifest: pets.csv\nmodels: [gpt:x]\nprompts: {a: ''}\n", "prompts.a: '' must not be empty"),
    "a prompt as a number": ("manifest: pets.csv\nmodels: [gpt:x]\nprompts: {a: 5}\n", "prompts.a: 5 must be text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PARTS)
def test_bad_part_is_told_with_its_line(folder, case):
    text, wanted = BAD_PARTS[case]
    told = problems(folder, text)
    assert any(wanted in problem for problem in told), told


def test_all_problems_are_told_at_once_in_the_order_of_the_file(folder):
    text = (
        "manifest: nowhere.csv\nmodels: [gemni:x, {model: 'gpt:y', params: {n: 0}}]\nprompts: {a: '{{'}\n"
        "params: {temperature: 9}\nbudget_usd: none\nretry: {attempts: x}\nwat: 1\n"
    )
    told = problems(folder, text)
    assert [int(problem.split(":")[1]) for problem in told] == [1, 2, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("key", ["api_key", "key", "token", "API-KEY"])
def test_key_in_a_file_is_refused_and_not_repeated(folder, key):
    told = problems(folder, SMALL + f"gateway: {{base_url: 'https://h', {key}: sk-mavi-secret}}\n")
    assert "never write a key in a file" in told[0]
    assert "secret" not in str(told)


def test_secrets_are_never_shown(folder):
    for gateway in ("{base_url: 'https://u:hunter2@h'}", "{base_url: 'https://h', api_key_env: sk-hunter2}"):
        told = problems(folder, SMALL + f"gateway: {gateway}\n")
        assert "hunter2" not in str(told)
    with pytest.raises(pydantic.ValidationError) as caught:
        Job.model_validate({"manifest": "pets.csv", "models": [MODEL], "gateway": "https://u:hunter2@h"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_job_that_cannot_be_opened_is_told(folder, name):
    with pytest.raises(InputError, match=r"there is no such file|is a folder"):
        load_job(folder / name)


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
    from mavi_tasks import job_sections

    text = (MANIFESTS / "every_field.yaml").read_text()
    sections = [kind for kind in vars(job_sections).values() if isinstance(kind, type)]
    sections = [kind for kind in [Job, *sections] if issubclass(kind, job_sections.Section)]
    names = {name for kind in sections for name in kind.model_fields} - {"source"}
    assert [name for name in sorted(names) if f"{name}:" not in text] == []


def test_media_options_are_those_of_the_media_stage():
    from mavi_tasks.job import MediaOptions
    from mavi_tasks.media import MediaOptions as Stage

    assert set(MediaOptions.model_fields) <= set(Stage.__dataclass_fields__)


def test_bad_job_costs_little_and_loads_nothing_heavy(folder):
    path = written(folder, SMALL + "wat: 1\n")
    code = (
        "import sys, pathlib\nfrom mavi_tasks.errors import InputError\nfrom mavi_tasks.job import load_job\n"
        f"try:\n    load_job(pathlib.Path({str(path)!r}))\nexcept InputError as e:\n    print(e)\n"
        "heavy = {'pandas', 'pyarrow', 'numpy', 'PIL', 'jsonschema', 'prefect', 'httpx', 'fsspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["pets.yaml:4: wat: unknown key; known are name, manifest, columns, prompts, "
        "system, answer_schema, gateway, params, models, limits, retry, budget_usd, max_cost_per_item_usd, media, "
        "equalise, repair, durability, prices, limit, since, order, runner, shard_size, output", "[]"]  # fmt: skip
