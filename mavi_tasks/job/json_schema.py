"""The JSON Schema of a job file, by which an editor completes, explains and checks it."""

from typing import Any, Final

from mavi_tasks.job.job import Job

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """The schema of what users write, from the fields of Job; each has a description.

    What needs more than one value (a model's family, a file that must exist) is left to `mavi plan`.
    """
    schema = Job.model_json_schema()
    del schema["properties"]["source"]  # where the job came from is not written in it
    sections = {name: _short(section) for name, section in schema["$defs"].items()}
    top = {"$schema": DIALECT, "title": "A job of mavi", "description": "Media, models and a question."}
    return top | {key: value for key, value in schema.items() if key not in top} | {"$defs": sections}


def _short(section: dict[str, Any]) -> dict[str, Any]:
    """A section whose description is the first sentence of its class; the rest is for programmers."""
    return section | {"description": section["description"].partition("\n\n")[0]}
