"""The Job itself, read from a file or made of values."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mavi_tasks.common.field_types import PositiveInt, Seconds, Text, one_of, wrong
from mavi_tasks.common.strict_model import StrictModel
from mavi_tasks.errors import InputError
from mavi_tasks.job import error_messages, validators
from mavi_tasks.job.sections import Gateway, Limits, ModelPrice, ModelSpec, Retry
from mavi_tasks.job.types import Budget, ShardSize, Share, Since
from mavi_tasks.job.yaml_document import Document
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.media.options import MediaOptions
from mavi_tasks.pricing.price import Price


def _supported_runner(value: Any) -> Any:
    if value == "ray":
        raise wrong("is no longer supported: give dask, or processes on one machine")
    return value


Order = Annotated[Literal["manifest", "newest"], BeforeValidator(one_of("manifest", "newest"))]
OnBadRow = Annotated[Literal["skip", "stop"], BeforeValidator(one_of("skip", "stop"))]
Runner = Annotated[
    Literal["threads", "processes", "dask"],
    BeforeValidator(one_of("threads", "processes", "dask")),
    BeforeValidator(_supported_runner),
]
MAX_MODELS: Final = 500
BY_PREFECT: Final = ("dask",)  # runners that need a Prefect flow
Store = Annotated[Literal["file", "redis", "prefect"], BeforeValidator(one_of("file", "redis", "prefect"))]
Durability = Annotated[Literal["group", "os", "always"], BeforeValidator(one_of("group", "os", "always"))]


def _spec(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


def _gateway(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {"base_url": value} if "://" in value else {"name": value}


class Job(StrictModel):
    """Everything that one run needs: what users write in a job file, validated and with absolute paths.

    Build it with `load_job` or `job_of`, which raise InputError with all problems at once; `Job(...)` itself
    raises pydantic's ValidationError. Relative paths are relative to the job file, else to the current
    folder. A job never changes; `model_copy(update=...)` makes another one, unchecked.
    budget_usd and max_cost_per_item_usd are exact dollars (Decimal), None = no limit. workers None = one for
    each processor. limit None = all items.
    """

    flags: ClassVar[Mapping[str, str]] = {"output": "--out", "models": "--model", "manifest": "manifest"}

    source: str | None = Field(default=None, description="The job file this came from; leave it empty")
    name: Text = Field(
        default="", validate_default=False, description="Shown in the dataset; default: the manifest's"
    )
    manifest: Text = Field(
        description="CSV, TSV, JSONL, Parquet, .txt, a folder, a glob, s3://, gs://, https://"
    )
    columns: Columns = Field(
        default_factory=lambda: Columns(), description="Which column of the manifest holds what"
    )
    prompts: dict[str, Text] = Field(
        default_factory=dict,
        description="Jinja2 template by name; without any, the manifest's prompt column is sent",
    )
    system: Text | None = Field(default=None, description="The system message, sent with every request")
    answer_schema: Annotated[
        dict[str, Any] | None,
        BeforeValidator(lambda value: value, json_schema_input_type=dict[str, Any] | str | None),
    ] = Field(default=None, description="JSON Schema: inline, a file, or module:Class of a trusted module")
    gateway: Annotated[Gateway, BeforeValidator(_gateway, json_schema_input_type=str | Gateway)] = Field(
        default_factory=lambda: Gateway(), description="mavi, sandbox, a base URL, or a mapping"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="temperature, max_tokens, ... for all")
    prices: dict[str, ModelPrice] = Field(default_factory=dict, description="Your own prices, by model")
    allow_unknown_model: bool = Field(
        default=False, description="Send models that are in no price table; their cost is unknown"
    )
    models: Annotated[
        list[ModelSpec],
        Field(min_length=1),
        BeforeValidator(lambda value: value, json_schema_input_type=list[str | ModelSpec]),
    ] = Field(description="family:name, or a mapping with its own params and frames")
    limits: dict[str, Limits] = Field(
        default_factory=dict, description="By glob on the model; first match wins"
    )
    retry: Retry = Field(
        default_factory=lambda: Retry(), description="How often and how long a request is attempted"
    )
    budget_usd: Budget | None = Field(
        default=None, description="Never exceeded, calls in flight at their worst case"
    )
    max_cost_per_item_usd: Budget | None = Field(
        default=None, description="A request that may cost more is skipped"
    )
    media: MediaOptions = Field(
        default_factory=lambda: MediaOptions(), description="How media are read and sent"
    )
    equalise: Annotated[Literal["frames"], BeforeValidator(one_of("frames"))] | None = Field(
        default=None, description="frames: every model gets the same frames of a video"
    )
    repair: bool = Field(default=True, description="Send once more when an answer does not fit the schema")
    durability: Durability = Field(
        default="group",
        description="What a loss of power may cost: group, at most a second; os; always, nothing",
    )
    ship_every_s: Seconds | None = Field(
        default=None, description="Publish so often; for s3:// output on machines whose disk is not kept"
    )
    limit: PositiveInt | None = Field(default=None, description="Only the first so many items")
    since: Since | None = Field(default=None, description="Only media newer than a date or an age (7d)")
    order: Order = Field(default="manifest", description="newest: the newest media first")
    on_bad_row: OnBadRow = Field(
        default="skip", description="stop: a row that cannot be asked ends the run before it sends anything"
    )
    max_bad_share: Share = Field(
        default=0.05, description="A run stops when more of the rows cannot be asked; 1 = never"
    )
    max_skipped_share: Share = Field(
        default=1, description="A run that skipped more of its requests ends with exit status 3"
    )
    runner: Runner = Field(
        default="threads",
        description="Who sends: this process, processes of this machine, a Dask cluster",
    )
    workers: PositiveInt | None = Field(
        default=None, description="How many processes; default: one for each processor"
    )
    shared_limits: Store = Field(
        default="file", description="Where workers share limits and budget: file is for one machine only"
    )
    shard_size: ShardSize = Field(default=1000, description="Requests of one Prefect task")
    output: Text = Field(
        default="", validate_default=False, description="The dataset's folder; default: out/<name>"
    )

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        """Without a name or an output, they follow from the file."""
        if not isinstance(value, Mapping):
            return value
        given = {key: item for key, item in value.items() if item is not None or key not in cls.model_fields}
        source, manifest = given.get("source"), given.get("manifest")
        name = (
            Path(source).stem if source else validators.stem(manifest) if isinstance(manifest, str) else "job"
        )
        given.setdefault("name", name)
        given.setdefault("output", f"out/{given['name']}")
        return given

    @field_validator("manifest")
    @classmethod
    def _there(cls, value: str, info: ValidationInfo) -> str:
        return validators.manifest(value, _base(info))

    @field_validator("output")
    @classmethod
    def _folder(cls, value: str, info: ValidationInfo) -> str:
        return validators.output(value, _base(info))

    @field_validator("prompts", mode="before", json_schema_input_type=str | dict[str, str])
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value

    @field_validator("prompts")
    @classmethod
    def _templates(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        found = validators.Found()
        validators.prompt_names(value, found)
        validators.templates(value, info.data.get("columns"), found)
        found.raise_any()
        return value

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _schema(cls, value: Any, info: ValidationInfo) -> Any:
        return validators.schema(value, _base(info))

    @field_validator("media")
    @classmethod
    def _root(cls, value: MediaOptions, info: ValidationInfo) -> MediaOptions:
        if value.root is None:
            return value
        return value.model_copy(update={"root": validators.path(value.root, _base(info))})

    @field_validator("models", mode="before")
    @classmethod
    def _specs(cls, value: Any, info: ValidationInfo) -> Any:
        """Each model on its own, so that a problem of one does not hide those of the others."""
        items = [value] if isinstance(value, str | Mapping | ModelSpec) else value
        if not isinstance(items, list | tuple):
            return value
        if len(items) > MAX_MODELS:
            raise wrong(f"has {len(items):,} models; at most {MAX_MODELS} are asked in one job")
        found, specs = validators.Found(), {}
        for index, item in enumerate(items):
            try:
                specs[index] = ModelSpec.model_validate(_spec(item))
            except ValidationError as problem:
                found.add_all(problem, (index,))
        _check_together(specs, info.data, found)
        found.raise_any()
        return list(specs.values())

    @field_validator("prices")
    @classmethod
    def _priced(cls, value: dict[str, ModelPrice]) -> dict[str, ModelPrice]:
        found = validators.Found()
        for model in value:
            if problem := validators.model_problem(model):
                found.add((model,), problem, model)
        found.raise_any()
        return value

    def effective_params(self, spec: ModelSpec) -> dict[str, Any]:
        """The job's params with the model's own over them; None removes a parameter."""
        return _effective(self.params, spec)

    def limits_for(self, model: str) -> Limits:
        """The limits of the first glob that matches the model; all None when no glob matches."""
        fitting = (limits for glob, limits in self.limits.items() if fnmatchcase(model, glob))
        return next(fitting, Limits())

    def since_at(self, now: datetime) -> datetime | None:
        """The instant after which media count as new; an age is counted back from `now`."""
        return now - self.since if isinstance(self.since, timedelta) else self.since

    def extra_prices(self) -> list[Price]:
        """The job's own prices, for `load_prices`."""
        return [price.of_model(model) for model, price in self.prices.items()]

    def warnings(self) -> list[str]:
        """What is allowed, but most likely a mistake."""
        models = [spec.model for spec in self.models]
        unused = [glob for glob in self.limits if not any(fnmatchcase(model, glob) for model in models)]
        return [f"limits.{glob}: matches no model of this job" for glob in unused]

    def hash(self) -> str:
        """sha256 of what the user wrote, the same in whatever folder the job is; holds no secret."""
        written = self.model_dump(mode="json", exclude={"source"})
        base = Path(self.source).parent if self.source else None
        written["manifest"] = _moved(self.manifest, base)
        written["output"] = _moved(self.output, base)
        written["media"]["root"] = _moved(self.media.root or "", base)
        return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()


def _base(info: ValidationInfo) -> Path:
    source = info.data.get("source")
    return Path(source).parent if source else Path.cwd()


def _effective(params: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    return {name: value for name, value in {**params, **spec.params}.items() if value is not None}


def _moved(path: str, base: Path | None) -> str:
    """A path as seen from the job file; a URL without its query, which may hold a signature."""
    if "://" in path:
        return path.partition("?")[0]
    return Path(os.path.relpath(path, base)).as_posix() if base and path else path


def _check_together(specs: Mapping[int, ModelSpec], job: Mapping[str, Any], found: validators.Found) -> None:
    """Problems that need the rest of the job: duplicates, the gateway's dialect, the families' params."""
    first: dict[str, int] = {}
    gateway: Gateway = job.get("gateway") or Gateway()
    shared: dict[tuple[str, ...], list[str]] = {}
    for index, spec in specs.items():
        earlier = first.setdefault(spec.model, index)
        if earlier != index:
            found.add((index,), f"{spec.model} is already models[{earlier}]; list a model once", None)
        if wanted := validators.fits_dialect(spec.model, gateway.dialect):
            found.add((index, "model"), wanted, spec.model)
        elif not _may_be_unknown(spec.model, job) and (problem := validators.unknown_model(spec.model)):
            found.add((index, "model"), problem, spec.model)
        params = _effective(job.get("params") or {}, spec)
        for problem in validators.params_problems(spec.model, params, job.get("answer_schema")):
            field, _, text = problem.partition(": ")
            name = field.removeprefix("params.")
            if name in spec.params:
                found.add((index, "params", name), ": " + text, None)
            elif field != "answer_schema":  # reported where it is written, once for all models
                shared.setdefault((name, text), []).append(spec.model)
    for (name, text), models in shared.items():
        found.add((), f": {text} (for {', '.join(dict.fromkeys(models))})", None, job_loc=("params", name))


def _may_be_unknown(model: str, job: Mapping[str, Any]) -> bool:
    """Whether the user said so, or gave a price. Prices that are wrong themselves are told instead."""
    return bool(job.get("allow_unknown_model")) or model in job.get("prices", (model,))


def load_job(path: Path, overrides: Mapping[str, Any] | None = None) -> Job:
    """Read a job file (YAML). Raises InputError with all its problems, each with its line.

    overrides: values that replace those of the file, by field, also `prompt` (one template) and `base_url`
    (of the gateway); a value of None changes nothing. Their paths are relative to the current folder.
    """
    path = Path(path)
    document = Document(path)
    problems = list(document.problems)
    raw = document.values | {"source": str(path.resolve())}
    if "source" in document.values:
        problems.append(
            f"{path.name}:{document.line(('source',))}: source: unknown key; did you mean manifest?"
        )
    flags = _override(raw, overrides or {})
    return _validated(raw, path.name, document, flags, problems)


def job_of(**fields: Any) -> Job:
    """A job without a file: `manifest=`, `models=`, `prompt=`, `output=` and any other field of Job.

    A value of None is as if it was not given. Paths are relative to the current folder. Raises InputError
    with all problems, each named by its flag on the command line, such as `--model`.
    """
    raw: dict[str, Any] = {}
    return _validated(raw, "", None, _override(raw, fields), [])


def _override(raw: dict[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Replace values of the file by the given ones; returns the flag of each field."""
    flags: dict[str, str] = {}
    for key, value in given.items():
        if value is None:
            continue
        field, put = _ALIASES.get(key, (key, lambda _, value: value))
        raw[field] = put(raw.get(field), value)
        flags[field] = Job.flags.get(key, "--" + key.replace("_", "-"))
    return flags


def _here(_: Any, value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return validators.path(text, Path.cwd()) if isinstance(text, str) and text.strip() else text


def _with_base_url(written: Any, base_url: Any) -> dict[str, Any]:
    """Another base URL is another gateway, whose answers must not count as MAVI's; a sandbox stays one."""
    others = dict(written) if isinstance(written, Mapping) else {"name": written}
    name = "sandbox" if others.get("name") == "sandbox" else "custom"
    return {**others, "name": name, "base_url": base_url}


# Fields that have another name or form on the command line.
_ALIASES: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "prompt": ("prompts", lambda _, text: {"prompt": text}),
    "base_url": ("gateway", _with_base_url),
    "output": ("output", _here),
    "manifest": ("manifest", _here),
}


def _validated(
    raw: dict[str, Any], file: str, document: Document | None, flags: Mapping[str, str], problems: list[str]
) -> Job:
    try:
        job = Job.model_validate(raw)
    except ValidationError as error:
        problems += error_messages.problems(error, Job, file, document, flags)
    if problems:
        raise InputError(problems)
    return job
