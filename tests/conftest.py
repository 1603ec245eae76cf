"""Fixtures of all tests: the servers, each started once where a test asks for it."""

import pytest

pytest.register_assert_rewrite("tests.contract.object_store")
pytest_plugins = ["tests.servers.s3", "tests.servers.kafka", "tests.servers.gateway"]
