"""What a flow takes as its job, and what it refuses to hand to Prefect."""

import pytest
from pydantic import TypeAdapter

from mavi_tasks.errors import InputError
from mavi_tasks.flows import tasks
from mavi_tasks.job import job_of, load_job
from tests.support.gateways import ALL_FAMILIES, REPOSITORY

MODEL = ALL_FAMILIES[0]
SECRET = "a1b2c3d4e5f6"


def job_for(library, **more):
    fields = {"models": [MODEL], "prompt": "Which word?", "gateway": "sandbox"}
    return job_of(**{"manifest": str(library), "output": str(library.parent / "out"), **fields, **more})


def test_a_signed_manifest_is_refused_before_prefect_stores_it(tmp_path):
    signed = f"https://bucket.s3.amazonaws.com/items.csv?X-Amz-Signature={SECRET}&X-Amz-Expires=60"
    with pytest.raises(InputError, match=r"manifest: may hold a signature.*plain text") as told:
        tasks.refuse_secrets(job_for(tmp_path, manifest=signed))
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "url", ["https://host/items.csv?version=3", "s3://bucket/library/", "https://h/a%20b.csv"]
)
def test_a_url_without_secrets_is_taken(tmp_path, url):
    tasks.refuse_secrets(job_for(tmp_path, manifest=url))


def test_a_job_file_can_stand_for_the_job():
    read = TypeAdapter(tasks.JobParameter).validate_python
    assert read(str(REPOSITORY / "manifests/quickstart.yaml")) == load_job(
        REPOSITORY / "manifests/quickstart.yaml"
    )
