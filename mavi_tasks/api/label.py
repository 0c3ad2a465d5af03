"""Label media with one call: a job made of arguments."""

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.api.manifest import is_path, write_manifest
from mavi_tasks.api.progress import OnProgress
from mavi_tasks.api.results import RunResult
from mavi_tasks.api.run import run
from mavi_tasks.errors import InputError
from mavi_tasks.job import Columns, Job, Limits, ModelSpec, job_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    import pyarrow as pa
    from pydantic import BaseModel

    from mavi_tasks.sandbox import Sandbox

ARGUMENTS: Final = {"model": "models", "answer_schema": "schema"}  # where `label` has another name
NAME: Final = "label"  # of a job whose manifest has no name


def label(
    manifest: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | pd.DataFrame | pa.Table",
    prompt: str | Mapping[str, str] | None,
    *,
    models: str | Sequence[str | ModelSpec],
    schema: "Mapping[str, Any] | str | os.PathLike[str] | type[BaseModel] | None" = None,
    gateway: "str | Mapping[str, Any] | Sandbox" = "mavi",
    params: Mapping[str, Any] | None = None,
    limits: "Mapping[str, Limits | Mapping[str, Any]] | None" = None,
    budget_usd: Decimal | float | str | None = None,
    out: str | os.PathLike[str] | None = None,
    retry_invalid: bool = False,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> RunResult:
    """Send every item to every model, and return the answers with what they cost.

        run = mavi.label("photos/*.jpg", "What animal is this?", models="gemini:gemini-2.5-flash", schema=Pet)
        run.df[["media_uri", "animal", "cost_usd"]]

    manifest: a file (CSV, JSONL, Parquet, ...), folder, glob or URL; a list of references; or a DataFrame or
    Arrow table with the media in `media_url`. Local references in rows are relative to the current folder.
    prompt: a Jinja template over the item's columns, several by name, or None for the manifest's own column.
    models: family:name, one or several. schema: a JSON Schema, the path of one, or a pydantic model class;
    None takes answers as text. gateway: "mavi", "sandbox" (free, on this machine), a base URL, a Sandbox, or
    the fields of a job's gateway; the key comes from MAVI_API_KEY. params: temperature, max_tokens, ... for
    all models. limits: by glob on the model; None discovers them. budget_usd: never exceeded, requests in
    flight at their worst case; None has no bound. out: the dataset's folder or s3:// URL, where a second call
    goes on; None is out/<name>. retry_invalid and on_progress: as in `run`. fields: any other field of a Job.
    Raises InputError with every problem before anything is sent.
    """
    job = job_of_arguments(
        manifest,
        prompt,
        models=[models] if isinstance(models, str) else list(models),
        answer_schema=_schema(schema),
        gateway=_gateway(gateway),
        params=None if params is None else dict(params),
        limits=None if limits is None else dict(limits),
        budget_usd=budget_usd if budget_usd is None else str(budget_usd),
        output=None if out is None else os.fspath(out),
        **fields,
    )
    return run(job, retry_invalid=retry_invalid, on_progress=on_progress)


def job_of_arguments(manifest: Any, prompt: str | Mapping[str, str] | None, **fields: Any) -> Job:
    """The job; rows are written as its manifest. Raises InputError."""
    if not is_path(manifest):
        name = fields.setdefault("name", NAME)
        output = fields["output"] = fields.get("output") or f"out/{name}"
        columns = Columns.model_validate(fields.get("columns") or {})
        manifest = write_manifest(manifest, output, columns.media, columns.id)
    prompts = {"prompts": dict(prompt)} if isinstance(prompt, Mapping) else {"prompt": prompt}
    try:
        return job_of(manifest=os.fspath(manifest), **prompts, **fields)
    except InputError as error:
        raise InputError(map(_named_by_argument, error.problems)) from error


def _named_by_argument(problem: str) -> str:
    """A problem that begins with an option of the command line, beginning with `label`'s argument."""
    option, colon, text = problem.partition(":")
    if not option.startswith("--"):
        return problem
    name = option.removeprefix("--").replace("-", "_")
    return ARGUMENTS.get(name, name) + colon + text


def _schema(schema: Any) -> Any:
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return schema.model_json_schema()
    if isinstance(schema, Mapping):
        return dict(schema)
    return os.path.abspath(schema) if isinstance(schema, os.PathLike) else schema


def _gateway(gateway: Any) -> Any:
    if hasattr(gateway, "base_url"):  # a Sandbox that serves
        return {"name": "sandbox", "base_url": gateway.base_url}
    return dict(gateway) if isinstance(gateway, Mapping) else gateway
