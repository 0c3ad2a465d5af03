"""Checks of a job that need more than one value: files on disk, families, schemas, templates."""

import glob
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mavi_tasks import providers
from mavi_tasks.common.field_types import wrong
from mavi_tasks.common.regular_file import read_text
from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.job import trusted_modules
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.prompts.templates import template_problems
from mavi_tasks.providers import schema_dialects

MAX_SCHEMA_BYTES: Final = 1_000_000
REMOTE: Final = ("s3://", "gs://", "https://", "http://")

# The only families of a dialect. All others speak the MAVI contract.
_DIALECT_FAMILIES: Final[Mapping[str, frozenset[str]]] = {"openai": frozenset({"openai"})}
_DIALECT_ONLY: Final = frozenset().union(*_DIALECT_FAMILIES.values())

Loc = tuple[str | int, ...]


class Found:
    """Problems found by one validator, each at its own place, to be raised together."""

    def __init__(self) -> None:
        self._lines: list[InitErrorDetails] = []

    def add(self, loc: Loc, text: str, value: Any, *, job_loc: Loc | None = None) -> None:
        """A problem at `loc` below the validated field, or at `job_loc` from the top of the job."""
        error = PydanticCustomError("wanted", "{text}", {"text": text, "loc": job_loc})
        self._lines.append(InitErrorDetails(type=error, loc=loc, input=value))

    def add_all(self, error: ValidationError, loc: Loc) -> None:
        for line in error.errors(include_url=False):
            context = {"text": line["msg"], **(line.get("ctx") or {})}
            kind = PydanticCustomError(line["type"], "{text}", context)
            self._lines.append(InitErrorDetails(type=kind, loc=(*loc, *line["loc"]), input=line["input"]))

    def raise_any(self) -> None:
        if self._lines:
            raise ValidationError.from_exception_data("Job", self._lines)


def model_problem(value: str) -> str | None:
    """What is wrong with the name of a model; None when it is family:name of a family we know.

    Families that only a dialect knows pass: they are checked against the gateway.
    """
    try:
        family, _ = providers.split(value)
        if family not in _DIALECT_ONLY:
            providers.family_of(value)
    except InputError as problem:
        return ": " + str(problem).partition(": ")[2]
    return None


def unknown_model(model: str) -> str | None:
    """What to do about a name that no model of its family has: most often it is misspelt. None when known."""
    if providers.is_known(model):
        return None
    near = providers.nearest_model(model)
    meant = f"did you mean {near}?" if near else "see `mavi models`."
    return (
        f": no such model; {meant} To send it all the same give its price under `prices`, or "
        "--allow-unknown-model (`allow_unknown_model: true`): its cost is unknown then"
    )


def fits_dialect(model: str, dialect: str) -> str | None:
    """What the model must be when this gateway does not serve it; None when it does."""
    family = model.partition(":")[0]
    families = _DIALECT_FAMILIES.get(dialect)
    if families is not None and family not in families:
        return f"must be {' or '.join(sorted(families))}:NAME, because the gateway's dialect is {dialect}"
    if families is None and family in _DIALECT_ONLY:
        return f"needs a gateway of its own: gateway: {{base_url: ..., dialect: {family}}}"
    return None


def params_problems(model: str, params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[str]:
    """What the model's family says against these parameters; empty for a family without rules."""
    family = providers.FAMILIES.get(model.partition(":")[0])
    return [] if family is None else family.check(params, schema, providers.KNOWN_PARAMS)


def path(text: str, base: Path) -> str:
    """An absolute path, with ~ expanded; buckets and URLs stay as they are."""
    if "://" in text:
        return text
    return str((base / Path(text).expanduser()).resolve())


def manifest(text: str, base: Path) -> str:
    """The manifest's absolute path, glob or URL; it must exist when it lies on this machine."""
    if "://" in text:
        if not text.startswith(REMOTE):
            raise wrong("must be a path, a glob, s3://, gs:// or https://")
        return text
    if "\0" in text:
        raise wrong("must be a path")
    found = base / Path(text).expanduser()
    if found.exists():
        return str(found.resolve())
    if glob.has_magic(text):
        return str(base.resolve() / Path(text).expanduser())
    raise wrong(_not_found(found))


def _not_found(missing: Path) -> str:
    folder = missing.parent
    if not folder.is_dir():
        return f"not found: there is no folder {folder}"
    near = nearest(missing.name, [p.name for p in folder.iterdir()])
    return f"not found in {folder}" + (f"; did you mean {near}?" if near else "")


def output(text: str, base: Path) -> str:
    """The dataset's absolute folder, or a bucket prefix."""
    if "://" in text and (not text.startswith("s3://") or text[5:6] in ("", "/") or "?" in text):
        raise wrong("must be a folder or s3://BUCKET/PREFIX")
    if "\0" in text:
        raise wrong("must be a folder")
    found = Path(path(text, base)) if "://" not in text else None
    if found is not None and found.exists() and not found.is_dir():
        raise wrong("is a file; a dataset is a folder")
    return str(found) if found is not None else text


def stem(manifest: str) -> str:
    """A short name for a manifest: the file's, or the folder's above a glob."""
    last = ""
    for part in re.split(r"[\\/]+", urlsplit(manifest).path if "://" in manifest else manifest):
        if glob.has_magic(part):
            break
        last = part if part not in ("", ".", "..") else last
    return last.removesuffix(".gz").rpartition(".")[0] or last or "job"


def schema(value: Any, base: Path) -> dict[str, Any] | None:
    """A JSON Schema (2020-12) whose answers are objects; from a mapping, a file or a pydantic class."""
    if value is None:
        return None
    if isinstance(value, str):
        found = (
            _class_schema(value, base) if trusted_modules.names_a_class(value) else _file_schema(value, base)
        )
    else:
        found = value
    if not isinstance(found, Mapping):
        raise wrong("must be a JSON Schema (a mapping), a file that holds one, or module:Class")
    if not found:
        raise wrong("is empty; leave it out to take any answer")
    _valid(found)
    return dict(found)


def _valid(found: Mapping[str, Any]) -> None:
    from mavi_tasks.labels import schema_problem  # loads jsonschema

    if problem := schema_problem(found):
        raise wrong(problem)
    if problems := schema_dialects.problems(found):
        raise wrong(": " + "; ".join(text.removeprefix("answer_schema: ") for text in problems))
    if not schema_dialects.is_object(found):
        raise wrong("must describe an object: write `type: object` at its top")


def _file_schema(text: str, base: Path) -> Any:
    file = Path(path(text, base))
    try:
        if file.stat().st_size > MAX_SCHEMA_BYTES:
            raise wrong("is too large for a schema")
        return json.loads(read_text(file, "utf-8-sig"))
    except FileNotFoundError:
        raise wrong(_not_found(file)) from None
    except OSError as problem:
        raise wrong(f"cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise wrong("is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise wrong(f"is not valid JSON: line {problem.lineno}: {problem.msg}") from None
    except RecursionError:
        raise wrong("is nested too deeply") from None


def _class_schema(text: str, base: Path) -> Any:
    from pydantic import BaseModel

    module_name, _, class_name = text.partition(":")
    module = trusted_modules.imported(module_name, base, os.environ)
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        raise wrong(f"must name a pydantic class; {module_name} has " + _models_of(module, BaseModel))
    return found.model_json_schema()


def _models_of(module: Any, base: type) -> str:
    names = [
        n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, base) and c is not base
    ]
    return ", ".join(sorted(names)) or "none"


def prompt_names(prompts: Mapping[str, str], found: Found) -> None:
    """Names of prompts become a column: `row` is reserved for the prompts of the manifest itself."""
    for name in prompts:
        if name == "row":
            found.add((name,), "is reserved for the prompts of the manifest itself", None)
        elif not name.strip() or not name.isprintable() or len(name) > 100:
            found.add((name,), "must be a short name of printable characters", None)


def templates(prompts: Mapping[str, str], columns: Columns | None, found: Found) -> None:
    """Templates that cannot be compiled, or that would show the expected answer."""
    for name, text in template_problems(prompts, columns):
        found.add((name,), text, None)
