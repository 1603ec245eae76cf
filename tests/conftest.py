"""Fixtures of all tests: the servers, each started once where a test asks for it."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Here and not beside some tests: a law takes the settings that are in force when its file is read. Laws are checked for what they say,
# not for how fast a busy machine is; and where a run decides about a change, it decides the same again.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ)
settings.load_profile("laws")
pytest.register_assert_rewrite("tests.contract.object_store")
pytest_plugins = ["tests.servers.s3", "tests.servers.kafka", "tests.servers.gateway"]
