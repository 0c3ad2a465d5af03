"""The JSON Schema of a job: what editors check and explain while a job is written."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from mavi_tasks.cli.main import main
from mavi_tasks.job.json_schema import job_schema
from tests.support.gateways import REPOSITORY

FILE = REPOSITORY / "docs" / "job.schema.json"
EXAMPLES = sorted((REPOSITORY / "manifests").glob("*.yaml"))
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")
RENEW = "docs/job.schema.json is not of today's fields; make it again: mavi schema > docs/job.schema.json"


class Loader(yaml.SafeLoader):
    """YAML as editors read it: 1e6 is a number, a date is text."""


Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+$"), list("0123456789")
)


def checked(text):
    """The problems of a job's text, as an editor shows them."""
    validator = jsonschema.Draft202012Validator(job_schema())
    return [error.message for error in validator.iter_errors(yaml.load(text, Loader))]


def fields(schema, where="job"):
    """Every field of a schema and of its sections, with its place."""
    for name, field in schema.get("properties", {}).items():
        yield f"{where}.{name}", field
    for name, section in schema.get("$defs", {}).items():
        yield from fields(section, name)


def test_the_file_that_editors_read_is_what_mavi_schema_prints(capsys):
    assert main(["schema"]) == 0
    assert FILE.read_text("utf-8") == capsys.readouterr().out, RENEW


def test_every_field_has_a_description():
    lacking = [where for where, field in fields(job_schema()) if not field.get("description")]
    assert lacking == [], f'give each of them Field(..., description="..."): {lacking}'


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(job_schema())
    assert "source" not in job_schema()["properties"]
    assert json.loads(FILE.read_text("utf-8"))["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits_and_names_the_schema(path):
    text = path.read_text("utf-8")
    named = MODELINE.search(text)
    assert named, f"{path.name} needs the line: # yaml-language-server: $schema=../docs/job.schema.json"
    assert (path.parent / Path(named[1])).resolve() == FILE
    assert checked(text) == []


@pytest.mark.parametrize(
    "line",
    [
        "modles: [gemini:gemini-2.5-flash]",
        "budget_usd: true",
        "runner: ray",
        "limits: {'*': {concurrency: fast}}",
        "retry: {attempts: 0}",
        "media: {max_frames: -1}",
    ],
)
def test_an_editor_sees_what_is_wrong(line):
    start = "manifest: pets.csv\nmodels: [gemini:gemini-2.5-flash]\n"
    assert checked(start) == []
    assert checked(start + line) != []


@pytest.mark.parametrize(
    "line", ["prompts: What is it?", "gateway: sandbox", "since: 2026-11-22", "limit: null"]
)
def test_short_forms_fit(line):
    assert checked(f"manifest: pets.csv\nmodels: [gemini:gemini-2.5-flash]\n{line}\n") == []
