"""The first job of a folder, as text with comments, and the schema of its answers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from mavi_tasks import providers
from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.job.job import Job
from mavi_tasks.job.json_schema import DIALECT

JOB: Final = "job.yaml"
JOB_SCHEMA: Final = "job.schema.json"
ANSWER_SCHEMA: Final = "answer.schema.json"
FRAMES: Final = 8  # of a video, for models that take only images
TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": ["string", "null"]},
    "integer": {"type": ["integer", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "list": {"type": "array", "items": {"type": "string"}},
}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def answer_schema(fields: Sequence[str]) -> dict[str, Any]:
    """The schema of an object with these fields, each NAME (text), NAME:TYPE or NAME:THIS|THAT.

    Each may be null, and a list empty: a model that cannot tell should not have to make a value up.
    Raises InputError for a field that is none of these.
    """
    properties: dict[str, Any] = {}
    for field in fields:
        name, _, kind = field.partition(":")
        if not _NAME.fullmatch(name):
            raise InputError(f"--field {field!r}: must begin with a name of letters, digits and _")
        if name in properties:
            raise InputError(f"--field {field!r}: {name} is there already")
        properties[name] = _type(field, kind)
    return {"$schema": DIALECT, "type": "object", "properties": properties, "required": list(properties)}


def _type(field: str, kind: str) -> dict[str, Any]:
    choices = [choice.strip() for choice in kind.split("|")]
    if len(choices) > 1 and all(choices) and len(set(choices)) == len(choices):
        return {"type": ["string", "null"], "enum": [*choices, None]}
    if (kind or "text") in TYPES:
        return dict(TYPES[kind or "text"])
    near = nearest(kind, TYPES, 0.5)
    raise InputError(
        f"--field {field!r}: the type must be {', '.join(TYPES)}, or choices as calm|lively"
        + (f"; did you mean {near}?" if near else "")
    )


def question(fields: Sequence[str]) -> str:
    """What is asked when the user gives no question of their own."""
    names = ", ".join(field.partition(":")[0] for field in fields)
    return "What does this {{ media.kind }} show?" + (f" Give: {names}." if names else "")


def spec(model: str) -> dict[str, Any]:
    """A model with what it needs to take videos: frames, when its family takes only images."""
    family = providers.FAMILIES.get(model.partition(":")[0])
    takes_videos = family is None or "video" in family.routes
    return {"model": model} if takes_videos else {"model": model, "frames": FRAMES}


def job_text(job: Job, manifest: str) -> str:
    """The job as a file with comments; loaded from its folder, it is the same job.

    job: with a name, one prompt, models, a budget, a gateway by name or URL, and perhaps an answer schema.
    manifest: as it is written in the file.
    """
    (prompt,) = job.prompts.values()
    return _TEXT.format(
        job_schema=JOB_SCHEMA,
        file=JOB,
        name=_scalar(job.name),
        manifest=_scalar(manifest),
        prompt=_quoted(prompt),
        schema=_WITH_FIELDS if job.answer_schema else _WITHOUT_FIELDS,
        models="\n".join(map(_model, job.models)),
        budget=f"{job.budget_usd:f}",
        gateway=_scalar(job.gateway.base_url or job.gateway.name),
    )


def _model(spec: Any) -> str:
    if spec.frames is None:
        return f"  - {_scalar(spec.model)}"
    named = f"model: {_quoted(spec.model)}, frames: {spec.frames}"
    return f"  - {{{named}}}   # takes images only: frames of a video"


def _scalar(text: str) -> str:
    """A text as YAML, quoted where it must be; always one line."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=1 << 30).removesuffix("...\n").rstrip("\n")
    return plain if "\n" not in plain else _quoted(text)


def _quoted(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30)).rstrip("\n")


_WITH_FIELDS: Final = f"""\
# The answers become typed columns, in out/labels.
answer_schema: {ANSWER_SCHEMA}"""
_WITHOUT_FIELDS: Final = f"""\
# Answers are text. With the JSON Schema of an object they become typed columns, in out/labels:
# answer_schema: {ANSWER_SCHEMA}"""
_TEXT: Final = """\
# yaml-language-server: $schema={job_schema}
# Editors complete and explain this file by {job_schema} (made by `mavi schema`).
#   mavi plan {file}      what it would send and cost; nothing is sent
#   mavi run {file}       runs it; again: goes on where it stopped, and never pays twice
name: {name}

# What to label: CSV, TSV, JSONL, Parquet, a folder, a glob ("photos/**/*.jpg") or s3://bucket/prefix/.
# A table needs a column media_url. A column truth is the expected answer; models never see it.
manifest: {manifest}

# What to ask of each item. Columns of the manifest can be used, as {{{{ title }}}}.
prompts:
  label: {prompt}

{schema}

# Which models to ask; `mavi models` lists all with their prices.
models:
{models}
params: {{temperature: 0, max_tokens: 300}}

# Dollars, never exceeded: a request in flight counts at its largest possible cost.
budget_usd: {budget}

# sandbox: embedded, no key, no cost, answers are simulated. To ask the real models: `gateway: mavi`, with
# MAVI_API_KEY in the environment or in a file .env of the folder where you call mavi.
gateway: {gateway}

# The dataset: a folder of Parquet, or s3://bucket/prefix.
output: out
"""
