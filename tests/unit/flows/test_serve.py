"""Deployments of a prefect.yaml, in this repository and in a folder that has only the wheel."""

import subprocess
import sys

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.flows import serve
from tests.support.gateways import REPOSITORY, environment

OWN_YAML = """
deployments:
  - {name: pets, entrypoint: mavi_tasks.flows.label.label_media, parameters: {job: jobs/pets.yaml}}
  - {name: spend, entrypoint: "mavi_tasks/flows/costs.py:report_costs", parameters: {datasets: [out/pets]}}
  - {name: own, entrypoint: "flows/nightly.py:nightly"}
"""


OWN_FLOW = "from prefect import flow\n\n\n@flow(name='nightly')\ndef nightly() -> None: ...\n"


def test_a_folder_with_a_flows_package_of_its_own_can_be_served(tmp_path):
    """The wheel alone is installed: module paths name its flows, and its own package stays its own."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    (tmp_path / "flows" / "nightly.py").write_text(OWN_FLOW)
    (tmp_path / "prefect.yaml").write_text(OWN_YAML)
    code = (
        "from pathlib import Path\nfrom mavi_tasks.flows.serve import deployments\n"
        "print(*(one.entrypoint for one in deployments(Path('prefect.yaml'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "mavi_tasks.flows.label.label_media",
        "mavi_tasks.flows.costs.report_costs",
        "flows.nightly.nightly",
    ]


@pytest.mark.parametrize(("only", "safe"), [(["pets", "spend"], "1"), (["own", "pets"], "None")])
def test_runs_take_modules_from_the_folder_only_when_it_holds_their_flow(tmp_path, only, safe):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nightly.py").write_text(OWN_FLOW)
    (tmp_path / "base64.py").write_text("raise SystemExit('planted')")
    (tmp_path / "prefect.yaml").write_text(OWN_YAML.replace("flows/nightly.py", "mine/nightly.py"))
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom mavi_tasks.flows import serve\n"
        "sys.path.append(os.getcwd())\n"
        f"serve.keep_this_folder_out_of_runs(serve.deployments(Path('prefect.yaml'), {only}))\n"
        "print(os.environ.get('PYTHONSAFEPATH'))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout.split() == [safe], done.stderr


def test_an_unknown_deployment_is_reported_with_those_there_are(monkeypatch):
    with pytest.raises(InputError, match="nightly-label, weekly-bake-off, daily-costs"):
        serve.deployments(REPOSITORY / "prefect.yaml", ["nightly"])
