"""Fixtures: a service for a test that ends it, and one that the tests of a module share."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.samples import REPAIRED
from tests.service.service_process import Repository, ServiceProcess


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that is not started yet."""
    process = ServiceProcess(tmp_path / "service", REPAIRED)
    yield process
    process.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A running service, shared by a module."""
    process = ServiceProcess(tmp_path_factory.mktemp("running") / "service", REPAIRED)
    yield process.start()
    process.close()


@pytest.fixture
def repository(running: ServiceProcess, request: pytest.FixtureRequest) -> Repository:
    """A new repository on the shared service. Its runs are short and pass."""
    running.plan.clear()
    running.runs(seconds=0.05, codes=[0])
    name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name.removeprefix("test_"))
    return Repository(running, name[-60:].strip("_-"))
