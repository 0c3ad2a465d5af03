"""Keys of artifacts: every job name makes one that Prefect takes."""

import pytest

from mavi_tasks.flows import artifacts


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("pets", "mavi-pets"),
        ("Pets & Co", "mavi-pets-co-"),
        ("猫", "mavi-"),
        ("nightly_2026.11", "mavi-nightly-2026-11"),
    ],
)
def test_every_job_name_makes_a_key_that_prefect_takes(name, key):
    made = artifacts.key("mavi", name)
    assert made.startswith(key) and set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_two_names_in_another_script_have_two_keys():
    assert artifacts.key("mavi", "猫") != artifacts.key("mavi", "犬")
