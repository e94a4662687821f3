"""A publish that is killed at a request and repeated by another process makes one complete commit."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from antidote_ci.hub.destination import Destination
from antidote_ci.records import DestinationMode
from loopback_hub import LoopbackHub
from loopback_hub.faults import HangUp
from tests.hub.campaign import (
    MODES,
    SHARDS,
    SOURCE,
    Material,
    client,
    find_violations,
    publish_once,
    to,
    write_material,
)

Moment = Literal["before", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "after")
SECONDS = 60
FEWEST_REQUESTS = 10

# Real processes of their own, started from one that has the client imported already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.hub.campaign"])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return write_material(tmp_path_factory.mktemp("material"))


def publishing(endpoint: str, cache: Path, destination: Destination, material: Material, run: int) -> None:
    """The target function of a process."""
    with client(endpoint, cache) as access:
        publish_once(destination, material, access, run)


def publish_in_a_process(
    hub: LoopbackHub,
    folder: Path,
    destination: Destination,
    material: Material,
    run: int,
    kill: tuple[Moment, int] | None,
) -> int | None:
    """The exit code of a process that publishes. `kill`: kill it before or after the Hub processes this request."""
    process = PROCESSES.Process(
        target=publishing, args=(hub.endpoint, folder / f"cache-{run}", destination, material, run)
    )
    started = threading.Event()
    earlier = len(hub.requests)

    def request_hook(moment: Moment, number: int, request: str) -> None:
        if kill == (moment, number - earlier):
            started.wait()
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            raise HangUp

    hub.request_hook = request_hook
    process.start()
    started.set()
    process.join(SECONDS)
    return process.exitcode


def killed_and_run_again(mode: DestinationMode, moment: Moment, number: int, material: Material, folder: Path) -> bool:
    """Whether the process was killed, that is, sent at least this number of requests."""
    with LoopbackHub(folder / "hub") as hub:
        destination = to(mode, hub.add(SOURCE, material.source))
        code = publish_in_a_process(hub, folder, destination, material, 1, (moment, number))
        assert code in (0, -signal.SIGKILL)
        assert find_violations(hub, destination, material, finished=code == 0) == []
        assert publish_in_a_process(hub, folder, destination, material, 2, None) == 0
        assert find_violations(hub, destination, material, finished=True) == []
    return code != 0


def undisturbed(mode: DestinationMode, material: Material, folder: Path) -> list[str]:
    """The requests of a publish that is not killed."""
    with LoopbackHub(folder / "hub") as hub:
        destination = to(mode, hub.add(SOURCE, material.source))
        assert publish_in_a_process(hub, folder, destination, material, 1, None) == 0
        assert find_violations(hub, destination, material, finished=True) == []
        return hub.requests


@pytest.mark.parametrize("mode", MODES)
def test_killed_at_requests_that_change_the_hub(mode: DestinationMode, material: Material, tmp_path: Path) -> None:
    requests = undisturbed(mode, material, tmp_path / "undisturbed")
    changing = [
        number
        for number, request in enumerate(requests, 1)
        if request.startswith("POST")
        and not request.endswith(("/batch", "/verify", "/validate-yaml", "/preupload/main"))
    ]
    assert len(changing) >= 2
    for number in changing:
        for moment in MOMENTS if "/commit/" in requests[number - 1] else MOMENTS[1:]:
            assert killed_and_run_again(mode, moment, number, material, tmp_path / f"{moment}-{number}"), requests[
                number - 1
            ]


UPLOAD = """
import sys
from pathlib import Path
import typer
from antidote_ci.cli.ending import handle_exit
from antidote_ci.hub.access import HubAccess
from tests.hub.campaign import Material, publish_once, to

try:
    with handle_exit():
        publish_once(to(sys.argv[1], sys.argv[2]), Material(Path(sys.argv[3])), HubAccess("hf_loopbackToken"), 1)
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_an_upload_to_a_slow_hub(number: signal.Signals, tmp_path: Path) -> None:
    """The client uploads in threads, which would take the rest of the files to the Hub first."""
    material = write_material(tmp_path / "material")
    for shard in SHARDS:
        (material.repaired(1) / shard).write_bytes(os.urandom(10_000_000))
    uploading, ended = threading.Event(), threading.Event()

    def request_hook(moment: Moment, _: int, request: str) -> None:
        if moment == "before" and request.startswith("PUT "):
            uploading.set()
            ended.wait(SECONDS)
            raise HangUp

    with LoopbackHub(tmp_path / "hub") as hub:
        hub.request_hook = request_hook
        commit = hub.add(SOURCE, material.source)
        environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", UPLOAD, "branch", commit, str(material.folder)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert uploading.wait(SECONDS)
            time.sleep(0.5)
            started = time.monotonic()
            process.send_signal(number)
            _, errors = process.communicate(timeout=SECONDS)
            assert time.monotonic() - started < 10  # 1.5 on an idle machine
            ended.set()
    assert process.returncode == 128 + number, errors


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_every_request(mode: DestinationMode, moment: Moment, material: Material, tmp_path: Path) -> None:
    survived = next(
        number
        for number in itertools.count(1)
        if not killed_and_run_again(mode, moment, number, material, tmp_path / str(number))
    )
    assert survived > FEWEST_REQUESTS
