"""Shared fixtures: tiny checkpoints, made once per session. A test that writes to one takes a copy."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.trained_pair import write_trained_pair

# The same examples on every machine and without deadline; `--hypothesis-profile=default` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CopyOf = Callable[[Path], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow modules in `tests/` first, so that parallel processes end at about the same time."""
    items.sort(key=lambda item: len(item.path.parts))


def pytest_collection_finish() -> None:
    """Exclude the imported modules and the collected tests from garbage collection, which saves time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use an answer cache for the test session only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTIDOTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full checkpoint, one file, bfloat16, tied embeddings."""
    return tiny.write_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A LoRA adapter for `tiny_llama`, rank 4."""
    return tiny.write_tiny_adapter(tmp_path_factory.mktemp("tiny") / "adapter", tiny_llama)


@pytest.fixture(scope="session")
def trained_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `reference`, `adapter`, `merged` and four JSONL prompt sets: see `write_trained_pair`."""
    return write_trained_pair(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all tests, because it takes seconds to start."""
    with Sandbox(tmp_path_factory.mktemp("child") / "log") as running:
        yield running


@pytest.fixture
def copy_of(tmp_path: Path) -> CopyOf:
    """Returns a new writable copy of a folder."""

    def copy(folder: Path) -> Path:
        copies = len(list(tmp_path.glob("copy-*")))
        return shutil.copytree(folder, tmp_path / f"copy-{copies}" / folder.name)

    return copy
