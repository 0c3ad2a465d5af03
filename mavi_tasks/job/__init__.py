"""The job: what users write, validated, with every path resolved and all problems reported at once.

job = load_job(Path("pets.yaml"))
job = job_of(manifest="pets.csv", models=["gemini:gemini-2.5-flash"], prompt="What is it?")

    yaml_document    YAML, with the line of every key
    json_schema      the JSON Schema of a job file, for editors
    types            field types; sections: the parts of a job; job: the whole
    validators       checks that need more than one value
    error_messages   each problem in one line
    endpoint         which gateway answers, and with which key; trusted_hosts: which hosts may get it
    env_file         keys from the .env of a folder, and what it may not say
    trusted_modules  which modules a job may import; trust_file: where the user says so
"""

from mavi_tasks.job.job import BY_PREFECT, Job, job_of, load_job
from mavi_tasks.job.sections import (
    Gateway,
    Limits,
    ModelPrice,
    ModelSpec,
    Retry,
)
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.media.options import MediaOptions

__all__ = [
    "BY_PREFECT",
    "Columns",
    "Gateway",
    "Job",
    "Limits",
    "MediaOptions",
    "ModelPrice",
    "ModelSpec",
    "Retry",
    "job_of",
    "load_job",
]
