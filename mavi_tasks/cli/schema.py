"""`mavi schema`: the JSON Schema of a job, for editors."""

import argparse
import json

from mavi_tasks.common.screen import say


def options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "First line of a job: # yaml-language-server: $schema=job.schema.json"


def command(_: argparse.Namespace) -> int:
    from mavi_tasks.job.json_schema import job_schema

    say(json.dumps(job_schema(), indent=2))
    return 0
