"""What is wrong with a job is told in words, all at once, with its line or flag, and without secrets."""

import subprocess
import sys

import pydantic
import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job, load_job
from tests.unit.job.test_job import MODEL, SMALL, folder, problems, written

__all__ = ["folder"]  # a fixture

# ---- what is wrong ----

BAD = {
    "unknown key names the nearest": (
        "manifset: x\n",
        "pets.yaml:4: manifset: unknown key; did you mean manifest?",
    ),
    "a word from elsewhere": (
        "limits: {'*': {rpm: 5}}\n",
        "limits.*.rpm: unknown key; did you mean requests_per_min",
    ),
    "unknown key far from all": ("zzz: 1\n", "pets.yaml:4: zzz: unknown key; known are name, manifest"),
    "unknown key in columns": ("columns: {medai: x}\n", "columns.medai: unknown key; did you mean media?"),
    "key twice": ("prompts: {a: b}\n", "pets.yaml:4: prompts: duplicate key (first on line 3)"),
    "key twice inside": ("retry: {attempts: 1, attempts: 2}\n", "attempts: duplicate key"),
    "number as a word": (
        "limits:\n  'gemini:*':\n    requests_per_minute: fast\n",
        "pets.yaml:6: limits.gemini:*.requests_per_minute: 'fast' must be a number > 0",
    ),
    "true as a number": ("shard_size: true\n", "pets.yaml:4: shard_size: true must be a whole number"),
    "half a request": ("limit: 1.5\n", "limit: 1.5 must be a whole number > 0"),
    "no concurrency": (
        "limits: {'*': {concurrency: 0}}\n",
        "limits.*.concurrency: 0 must be a whole number > 0",
    ),
    "section as text": ("retry: often\n", "pets.yaml:4: retry: 'often' must be a mapping"),
    "limits of nothing": ("limits: {'*': }\n", "limits.*: must be a mapping"),
    "attempts out of range": (
        "retry: {attempts: 0}\n",
        "retry.attempts: 0 must be a whole number from 1 to 50",
    ),
    "cap under base": ("retry: {base_s: 9, cap_s: 1}\n", "retry: must have cap_s (1) of at least base_s (9)"),
    "endless deadline": ("retry: {deadline_s: .inf}\n", "retry.deadline_s: inf must be seconds > 0"),
    "budget as words": ("budget_usd: five\n", "budget_usd: 'five' must be dollars, for example 5.00"),
    "negative budget": ("budget_usd: -1\n", "budget_usd: -1 must be dollars > 0"),
    "zero budget": ("budget_usd: 0\n", "budget_usd: 0 would send nothing; leave it out"),
    "budget not a number": ("budget_usd: .nan\n", "budget_usd: nan must be dollars"),
    "endless budget": ("budget_usd: 10000000\n", "budget_usd: 10000000 must be at most 999999 dollars"),
    "budget too fine": ("budget_usd: 0.0000000000001\n", "must have at most 12 decimals"),
    "unknown gateway": (
        "gateway: sandbx\n",
        "gateway.name: 'sandbx' must be mavi or sandbox or custom; did you mean",
    ),
    "custom gateway nowhere": ("gateway: custom\n", "gateway: needs a base_url"),
    "base URL with a query": ("gateway: 'https://h/x?key=1'\n", "gateway.base_url: must end with its path"),
    "wrong scheme of the base URL": (
        "gateway: {base_url: 'ws://h'}\n",
        "'ws://h' must be a URL such as https://",
    ),
    "dialect without a server": ("gateway: {dialect: openai}\n", "gateway: needs a base_url"),
    "runner": (
        "runner: dusk\n",
        "runner: 'dusk' must be threads or processes or dask; did you mean dask?",
    ),
    "runner of an earlier version": (
        "runner: ray\n",
        "runner: 'ray' is no longer supported: give dask, or processes on one machine",
    ),
    "order": ("order: random\n", "order: 'random' must be manifest or newest"),
    "since": ("since: yesterday\n", "since: 'yesterday' must be a date"),
    "equalise": ("equalise: pixels\n", "equalise: 'pixels' must be frames"),
    "temperature out of range": (
        "params: {temperature: 7}\n",
        "params.temperature: 7 must be a number from 0 to 2",
    ),
    "unknown parameter": ("params: {temprature: 1}\n", "params.temprature: gemini knows no such parameter"),
    "streaming": ("params: {stream: true}\n", "params.stream: True must be false"),
    "params as a list": ("params: [1]\n", "params: must be a mapping"),
    "answer schema is missing": ("answer_schema: pets.schema.json\n", "did you mean pet.schema.json?"),
    "answer schema is no schema": (
        "answer_schema: {type: objekt}\n",
        "answer_schema: is not a valid JSON Schema: type",
    ),
    "answer schema of a text": ("answer_schema: {type: string}\n", "answer_schema: must describe an object"),
    "answer schema with a pattern that has no time bound": (
        "answer_schema: {type: object, properties: {a: {pattern: '(?=a)b'}}}\n",
        "answer_schema: properties.a.pattern: '(?=a)b': invalid perl operator: (?=; RE2 matches it",
    ),
    "answer schema that doubles": (
        "answer_schema: {type: object, allOf: " + "[{allOf: " * 4 + str([{}] * 1001) + "}]" * 4 + "}\n",
        "checks a value more than 1,000 times",
    ),
    "answer schema refers nowhere": (
        "answer_schema: {type: object, properties: {a: {$ref: '#/x'}}}\n",
        "#/x",
    ),
    "answer class is missing": (
        "answer_schema: no_such_module:Pet\n",
        "cannot be imported: there is no module no_such_module beside the job file, and none installed",
    ),
    "answer class is not trusted": (
        "answer_schema: json.decoder:JSONDecoder\n",
        "would run the code of json.decoder, which you have not trusted. If it may run, say so once:",
    ),
    "answer schema is empty": ("answer_schema: {}\n", "answer_schema: is empty"),
    "system as a number": ("system: 5\n", "system: 5 must be text; put it in quotes"),
    "output is a file": ("output: pets.csv\n", "output: 'pets.csv' is a file; a dataset is a folder"),
    "output on the web": ("output: https://h/x\n", "output: 'https://h/x' must be a folder or s3://"),
    "price too fine": (
        "prices: {'gpt:x': {input_usd_per_mtok: 0.1234567, output_usd_per_mtok: 1}}\n",
        "prices.gpt:x.input_usd_per_mtok: 0.1234567 must have at most 6 decimals",
    ),
    "prices without an output price": (
        "prices: {'gpt:x': {input_usd_per_mtok: 1}}\n",
        "prices.gpt:x: needs input_usd",
    ),
    "negative price": (
        "prices: {'gpt:x': {input_usd_per_mtok: -1, output_usd_per_mtok: 1}}\n",
        "prices.gpt:x.input_usd_per_mtok: -1 must be dollars >= 0",
    ),
    "mapped media without a root": ("media: {base_url: 'https://h'}\n", "media: needs root beside base_url"),
    "the source is ours": ("source: x\n", "source: unknown key"),
}


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
    "tabs": (
        "manifest: x\nretry:\n\tattempts: 1\n",
        "pets.yaml:3: a tab indents this line; YAML takes only spaces",
    ),
    "broken": ("manifest: x\nmodels: [a, b\nprompts: {\n", "pets.yaml:3: is not valid YAML"),
    "latin-1": ("manifest: x\nname: Kätzchen\n".encode("latin-1"), "pets.yaml:2: byte 0xe4 is not UTF-8"),
    "utf-16": ("manifest: x\n".encode("utf-16"), "pets.yaml: is UTF-16; save it as UTF-8"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "its aliases (&, *) expand without end",
    ),
    "a loop": ("manifest: &m [*m]\n", "its aliases (&, *) expand without end"),
    "an object": (
        "manifest: !!python/object/apply:os.system ['true']\nmodels: []\n",
        "pets.yaml:1: manifest",
    ),
    "two documents": (SMALL + "---\n" + SMALL, "pets.yaml:4: is not valid YAML"),
}


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
        "pets.yaml:1: manifest: 'pet.csv' not found in ",
    ),
    "a manifest of another world": (
        "manifest: ftp://h/x\nmodels: [gpt:x]\n",
        "must be a path, a glob, s3://",
    ),
    "a bare model": (
        "manifest: pets.csv\nmodels: [gemini-2.5-flash]\n",
        "models[0].model: 'gemini-2.5-flash'",
    ),
    "a model as a number": ("manifest: pets.csv\nmodels: [5]\n", "models[0]: 5 must be a mapping"),
    "a model twice": (
        "manifest: pets.csv\nmodels: [gpt:x, gpt:x]\n",
        "models[1]: gpt:x is already models[0]",
    ),
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
    "a dialect's family without it": (
        "manifest: pets.csv\nmodels: ['openai:x']\n",
        "needs a gateway of its own",
    ),
    "a template that does not end": (
        "manifest: pets.csv\nmodels: [gpt:x]\nprompts:\n  a: fine\n  b: '{{ x'\n",
        "pets.yaml:5: prompts.b: line 1: unexpected end of template",
    ),
    "a template that gives the answer away": (
        "manifest: pets.csv\nmodels: [gpt:x]\ncolumns: {truth: label}\nprompts: {a: 'A {{ label }}?'}\n",
        "pets.yaml:4: prompts.a: 'label' is the expected answer",
    ),
    "a prompt called row": (
        "manifest: pets.csv\nmodels: [gpt:x]\nprompts: {row: x}\n",
        "prompts.row: is reserved",
    ),
    "an empty prompt": (
        "manifest: pets.csv\nmodels: [gpt:x]\nprompts: {a: ''}\n",
        "prompts.a: '' must not be empty",
    ),
    "a prompt as a number": (
        "manifest: pets.csv\nmodels: [gpt:x]\nprompts: {a: 5}\n",
        "prompts.a: 5 must be text",
    ),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_bad_part_is_told_with_its_line(folder, case):
    text, wanted = BAD_PARTS[case]
    told = problems(folder, text)
    assert any(wanted in problem for problem in told), told


def test_all_problems_are_told_at_once_in_the_order_of_the_file(folder):
    text = (
        "manifest: nowhere.csv\nmodels: [gemni:x, {model: 'gpt:gpt-4o', params: {n: 0}}]\n"
        "prompts: {a: '{{'}\n"
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
    with pytest.raises(InputError, match=r"job file not found|is a folder"):
        load_job(folder / name)


def test_bad_job_costs_little_and_loads_nothing_heavy(folder):
    path = written(folder, SMALL + "wat: 1\n")
    code = (
        "import sys, pathlib\nfrom mavi_tasks.errors import InputError\nfrom mavi_tasks.job import load_job\n"
        f"try:\n    load_job(pathlib.Path({str(path)!r}))\nexcept InputError as e:\n    print(e)\n"
        "heavy = {'pandas', 'pyarrow', 'numpy', 'PIL', 'jsonschema', 'prefect', 'httpx', 'fsspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, heavy = done.stdout.splitlines()
    assert message.startswith("pets.yaml:4: wat: unknown key; known are name, manifest, columns, ")
    assert heavy == "[]"
