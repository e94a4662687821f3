"""Tiny real checkpoints for every test. They are shared: a test that writes takes a copy with `copy_of`."""

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.thinking import write_thinking_model
from tests.trained_pair import write_trained_pair

# The same examples on every machine, without time limits; `--hypothesis-profile=default` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CopyOf = Callable[[Path], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the whole commands of `tests/` and `tests/pipeline/` first: short tests fill the workers at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("tests", "pipeline"))


def pytest_collection_finish() -> None:
    """Exclude the collected tests and torch from garbage collection, because they stay to the end."""
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
    return write_once(tmp_path_factory, "trained", write_trained_pair)


@pytest.fixture(scope="session")
def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full checkpoint that thinks before it answers: see `write_thinking_model`."""
    return write_once(tmp_path_factory, "thinking", write_thinking_model)


def write_once(tmp_path_factory: pytest.TempPathFactory, name: str, write: Callable[[Path], Path]) -> Path:
    """Training takes seconds, so the workers of pytest-xdist share the folder that `write` fills."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            write(shared / f"{name}.partial").rename(folder)
    return folder


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all tests that do not end it: importing torch in a child takes seconds."""
    with Sandbox(tmp_path_factory.mktemp("child") / "log", None) as running:
        yield running


@pytest.fixture
def copy_of(tmp_path: Path) -> CopyOf:
    """Copies a folder; each copy is writable and separate."""

    def copy(folder: Path) -> Path:
        copies = len(list(tmp_path.glob("copy-*")))
        return shutil.copytree(folder, tmp_path / f"copy-{copies}" / folder.name)

    return copy
