"""A child of the sandbox that an attacker has taken over gains nothing: every attempt of `attacker` fails."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.sandbox import landlock
from tests.sandbox.attacker import MARK, SUCCEEDED
from tests.sandbox.scene import SECRET, Listeners, list_states, plant, start_decoy, write_interpreter
from tests.sandbox.settings import NOBODY

ROOT = Path(__file__).parents[2]
HARMLESS = {"signal by pipe", "execute_from_memory", "survive"}
"""Attempts whose system calls succeed. The scene checks that no signal arrives and that no process survives."""
NEVER = {"list_descriptors", "open_socket_by_x32_call", "type_into_terminal", "parent: environ"}
"""Attempts that fail without the sandbox too: nothing is inherited, and this machine or the parent prevents them."""
PRETENDED = ("change_attribute", "utime", "chmod", "chmod of descriptor", "chmod by new call", "chown")
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


SERVER_SUCCEEDS = {
    *("tcp", "udp", "listen", "netlink socket", "make_pair", "share_memory", "execute_from_memory", "write_huge_file"),
    *("leave_session", "leave_group", "list shared memory", "write into shared memory", "survive", "signal by pipe"),
    *("Docker socket", "continue_by_timer", "continue_with_end_of_parent", "continue_with_end_of_child"),
}
"""What a server may do, and what cannot be kept from it: docs/threat-model.md."""
SET_PROCESSORS = {"parent: set_processors", "decoy: set_processors"}
"""Attempts that succeed when the other process has no capability that the server lacks."""


@pytest.mark.parametrize("settings", ["server", *map(slow, ("server,docker", *(("server,nobody",) * ROOT_USER)))])
def test_a_server_reaches_only_the_network(scene: Scene, settings: str) -> None:
    report = scene(settings)
    outcomes = report["outcomes"]
    assert len(outcomes) > 100, report["log"]
    succeeded = {name for name, outcome in outcomes.items() if outcome == SUCCEEDED}
    # Changes of modes, owners, times and attributes report success and do nothing: no file has changed.
    pretended = {f"{name}: {way}" for name in ("weights", "token", "store") for way in PRETENDED}
    assert succeeded - SET_PROCESSORS == SERVER_SUCCEEDS | pretended
    assert report["changes"] == []
    assert "abstract" not in report["accepted"]


@pytest.mark.slow
def test_no_other_evaluation_changes(tmp_path: Path, trained_pair: Path) -> None:
    """The children of one `evaluate` are taken over; another model's answers, report and verdict stay."""
    with ExitStack() as stack:
        targets = plant(tmp_path) | Listeners(stack, tmp_path).targets
        decoy, fragile = start_decoy(stack), start_decoy(stack)
        targets |= {"processes": {"decoy": decoy.pid}, "fragile": fragile.pid}
        shutil.rmtree(tmp_path / "cache")
        first = evaluate(tmp_path, trained_pair, "reference", "first")
        stored = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert stored
        targets["secrets"] |= {"store": str(stored[0]), "report": str(tmp_path / "first" / "report.json")}
        targets["secrets"]["other model"] = str(trained_pair / "reference" / "config.json")
        targets["folders"] |= {"out": str(tmp_path / "first"), "own out": str(tmp_path / "attacked")}
        targets["weights"] = str(trained_pair / "merged" / "model.safetensors")
        (tmp_path / "targets.json").write_text(json.dumps(targets))
        interpreter = write_interpreter(tmp_path)
        states = list_states(tmp_path), list_states(trained_pair)
        attacked = evaluate(tmp_path, trained_pair, "merged", "attacked", interpreter)
        assert {decoy.poll(), fragile.poll()} == {None}
    logs = (tmp_path / "attacked" / "child.log").read_text().splitlines()
    outcomes = [json.loads(line.removeprefix(MARK)) for line in logs if line.startswith(MARK)]
    assert outcomes
    assert {name for outcome in outcomes for name in outcome if outcome[name] == SUCCEEDED} == HARMLESS
    after = list_states(tmp_path)
    assert {name: after.get(name) for name in states[0]} == states[0]
    assert list_states(trained_pair) == states[1]
    assert evaluate(tmp_path, trained_pair, "reference", "again") == first
    assert (first[0], attacked[0]) == (0, 1)


def evaluate(
    folder: Path, pair: Path, model: str, out: str, interpreter: Path | str = sys.executable
) -> tuple[int, object]:
    """The exit code and the evaluations of a command whose sandbox uses the interpreter."""
    code = f"import sys; sys.executable = {str(interpreter)!r}; from antidote_ci.__main__ import main; main()"
    sets = {"prompts": "evaluation", "benign": "benign", "task": "task"}
    options = [*(f"--{name}={pair / file}.jsonl" for name, file in sets.items()), f"--out={folder / out}"]
    command = [
        sys.executable,
        "-c",
        code,
        "evaluate",
        str(pair / model),
        "--judge=refusal",
        "--threshold=0.3",
        *options,
    ]
    environ = os.environ | {
        "HOME": str(folder / "home"),
        "ANTIDOTE_CACHE": str(folder / "cache"),
        "HF_TOKEN": SECRET,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads((folder / out / "report.json").read_text())["evaluations"]
