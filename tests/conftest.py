"""Tiny real checkpoints for every test. Made once a session; a test that writes takes a copy."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.trained_pair import write_trained_pair

# A change is judged by the same examples on every machine, however busy; `--hypothesis-profile=default` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CopyOf = Callable[[Path], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs, which lie in `tests/` itself, come first: what is left when one process ends is short then."""
    items.sort(key=lambda item: len(item.path.parts))


def pytest_collection_finish() -> None:
    """Thousands of tests and torch stay to the end: nobody need look for garbage among them again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Answers computed by a test session are neither taken from the owner's cache nor left in it."""
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
    """For tests of what a child computes: one for all of them, since it takes seconds to start."""
    with Sandbox(tmp_path_factory.mktemp("child") / "log") as running:
        yield running


@pytest.fixture
def copy_of(tmp_path: Path) -> CopyOf:
    """A writable copy of a folder, each time another."""

    def copy(folder: Path) -> Path:
        copies = len(list(tmp_path.glob("copy-*")))
        return shutil.copytree(folder, tmp_path / f"copy-{copies}" / folder.name)

    return copy
