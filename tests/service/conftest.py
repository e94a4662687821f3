"""A service of its own for a test that ends it, and one for those that only use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.samples import REPAIRED
from tests.service.workshop import Repository, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Not started yet."""
    there = Workshop(tmp_path / "workshop", REPAIRED)
    yield there
    there.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """One that serves the tests of a module."""
    there = Workshop(tmp_path_factory.mktemp("running") / "workshop", REPAIRED)
    yield there.start()
    there.close()


@pytest.fixture
def repository(running: Workshop, request: pytest.FixtureRequest) -> Repository:
    """One that no other test has, of the service that runs; its runs are short and pass."""
    running.plan.clear()
    running.runs(seconds=0.05, codes=[0])
    return Repository(running, request.node.name.removeprefix("test_")[:60])
