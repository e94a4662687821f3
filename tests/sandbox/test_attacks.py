"""A child of the sandbox that an attacker has taken over gains nothing: every attempt of `attacker` fails."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.sandbox import landlock
from tests.sandbox.attacker import SUCCEEDED
from tests.sandbox.settings import NOBODY

ROOT = Path(__file__).parents[2]
HARMLESS = {"signal by pipe", "execute_from_memory", "survive"}
"""Attempts whose system calls succeed. The scene checks that no signal arrives and that no process survives."""
NEVER = {"list_descriptors", "open_socket_by_x32_call", "type_into_terminal", "parent: environ"}
"""Attempts that fail without the sandbox too: nothing is inherited, and this machine or the parent prevents them."""
ROOT_USER = os.getuid() == 0

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or landlock.find_version() < landlock.SCOPE_VERSION,
    reason="the attempts are system calls of x86-64, and this kernel must have every protection",
)

Scene = Callable[[str], dict[str, Any]]


@pytest.fixture
def scene(tiny_llama: Path) -> Iterator[Scene]:
    """Runs `tests.sandbox.scene` in the given settings."""
    made = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True)  # noqa: S607
    folder = Path(made.stdout.strip())  # every user can reach it, unlike `tmp_path`

    def run(settings: str) -> dict[str, Any]:
        for name in ("model", "other"):
            shutil.copytree(tiny_llama, folder / name)
        if "nobody" in settings:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        command = [sys.executable, "-m", "tests.sandbox.scene", settings, str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
        if "OSError" in done.stderr and "mount" in done.stderr:
            pytest.skip("this process may not open the interpreter to another user")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads((folder / "scene.json").read_text())
        return report

    yield run
    shutil.rmtree(folder)


def slow(settings: str) -> Any:  # noqa: ANN401
    return pytest.param(settings, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "settings", ["control", "docker", *map(slow, ("nobody", "nobody,docker") if ROOT_USER else ())]
)
def test_a_child_gains_nothing(scene: Scene, settings: str) -> None:
    report = scene(settings)
    outcomes = report["outcomes"]
    assert len(outcomes) > 150, report["log"]
    assert {name for name, outcome in outcomes.items() if outcome == SUCCEEDED} == HARMLESS
    assert report["changes"] == []
    assert {"seccomp", "no capabilities", "no new privileges"} <= {*report["protections"]}
    assert f"Landlock {landlock.find_version()}" in report["protections"]
    assert ("network namespace" in report["protections"]) == ("docker" not in settings)
    if settings == "control" and ROOT_USER:
        # Without the sandbox every attempt succeeds, so each outcome above is due to it.
        assert {name for name, outcome in report["control"].items() if outcome != SUCCEEDED} == NEVER
        assert report["control_effects"] == [True, True]


@pytest.mark.slow
def test_a_kernel_without_landlock_protects_processes_and_sockets(scene: Scene) -> None:
    """The files of the user are then open, as docs/threat-model.md says."""
    report = scene("no-landlock")
    assert not any("Landlock" in name for name in report["protections"])
    outcomes = report["outcomes"]
    assert outcomes["read token"] == SUCCEEDED
    for name in ("server", "parent", "neighbour"):
        for attempt in ("environ", "memory", "read_memory_by_call", "trace", "steal_descriptor"):
            assert outcomes[f"{name}: {attempt}"] != SUCCEEDED
    for attempt in ("tcp", "udp", "Docker socket", "abstract socket", "listen", "set_up_ring", "token: chmod"):
        assert outcomes[attempt] != SUCCEEDED
