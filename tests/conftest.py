"""What tests of several modules share."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Read by Prefect when it is imported: no test says anything to anybody.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
    os.environ.pop(name, None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile everything anew

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def prefect_server():
    """The API URL of a Prefect server of this test session, on a database of its own; started once.

    Flows called in this process use it by themselves; give the URL to other processes as PREFECT_API_URL.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        url = PREFECT_API_URL.value()
        with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
            yield url
