"""What starts the workflow that `init` writes: its schedule, and the bridge from the Hub in docs/webhook.md."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml

from antidote_ci.cli.init import POLICY, WORKFLOW, render_workflow
from antidote_ci.service.events import decide_event, parse_event
from antidote_ci.service.records import IgnoredEvent
from demo.main_job import ADAPTER
from loopback_hub import LoopbackHub
from scripts.image_check import acting
from scripts.image_check.acting import JobResult
from scripts.image_check.expressions import fill, holds
from tests.service.hub_payloads import DOCUMENTED

ROOT = Path(__file__).parents[2]


def run_no_container(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    raise AssertionError("looking for a head starts no container")


class Schedule:
    """The workflow of a repository, whose schedule starts again and again."""

    def __init__(self, work: Path, hub: LoopbackHub) -> None:
        self.work, self.hub = work, hub
        self.repository = acting.write_repository(work, "")
        self.workflow: dict[str, Any] = yaml.safe_load((self.repository / WORKFLOW).read_text())

    def find_head(self, **variables: str) -> JobResult:
        environment = self.hub.environment | variables
        return acting.run_job(run_no_container, self.work, self.workflow, "head", {}, environment, scheduled=True)

    def will_evaluate(self, head: JobResult) -> bool:
        needs = {"head": {"outputs": head.outputs, "result": head.status}}
        contexts = {"needs": needs, "job": {"status": head.status}}
        return holds(self.workflow["jobs"]["evaluate"]["if"], contexts)

    def note_verdict(self, commit: str) -> None:
        """Run the step of the job `evaluate` that follows a verdict."""
        folders = acting.prepare_machine(self.work / "noting", self.repository)
        contexts = acting.create_contexts(folders, None, {})
        contexts["env"]["MODEL"] = ADAPTER
        contexts["steps"]["antidote"] = {"outputs": {"verdict": "fail", "source-sha": commit}}
        (step,) = (
            step
            for step in self.workflow["jobs"]["evaluate"]["steps"]
            if "cache/save" in step.get("uses", "") and step["with"]["path"] == POLICY
        )
        assert holds(step["if"], contexts)
        acting.run_step(run_no_container, self.work, folders, step, contexts, JobResult())


@pytest.fixture
def schedule() -> Iterator[Schedule]:
    with TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o711)  # pytest's folders are closed to the runner's user
        with LoopbackHub(work / "hub") as hub:
            hub.add_account("demo", acting.TOKEN, rights="read")
            yield Schedule(work, hub)


def push(hub: LoopbackHub, folder: Path, card: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(card)
    return hub.add(ADAPTER, folder)


def test_a_head_is_measured_until_its_verdict_is_noted(schedule: Schedule, tmp_path: Path) -> None:
    commit = push(schedule.hub, tmp_path / "model", "first")
    head = schedule.find_head()
    assert head.outputs == {"commit": commit, "measured": ""}
    assert schedule.will_evaluate(head)

    schedule.note_verdict(commit)
    measured = schedule.find_head()
    assert measured.outputs == {"commit": commit, "measured": "true"}
    assert not schedule.will_evaluate(measured)

    second = push(schedule.hub, tmp_path / "model", "second")
    assert schedule.find_head().outputs == {"commit": second, "measured": ""}
    schedule.note_verdict(second)
    assert not schedule.will_evaluate(schedule.find_head())

    (schedule.repository / POLICY).write_text("[gate]\nharmful_score = 0.2\n")
    assert schedule.will_evaluate(schedule.find_head()), "another policy decides anew"


def test_a_head_that_cannot_be_read_fails_the_run(schedule: Schedule, tmp_path: Path) -> None:
    missing = schedule.find_head()
    assert missing.status == "failure"
    assert not schedule.will_evaluate(missing)
    push(schedule.hub, tmp_path / "model", "first")
    assert schedule.find_head(HF_ENDPOINT="http://127.0.0.1:9").status == "failure"


def test_other_events_are_always_measured(schedule: Schedule) -> None:
    skipped = acting.run_job(run_no_container, schedule.work, schedule.workflow, "head", {}, {})
    assert skipped.status == "skipped"
    assert schedule.will_evaluate(skipped)


class GitHub(ThreadingHTTPServer):
    """Accepts dispatches, as https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dispatches)
        self.received: list[tuple[str, str, Any]] = []


class Dispatches(BaseHTTPRequestHandler):
    server: GitHub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, self.headers["Authorization"], body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


SECRET = "s" * 32


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, GitHub]]:
    """The program of docs/webhook.md, started as its Dockerfile does, and a GitHub that it reaches."""
    folder = tmp_path_factory.mktemp("bridge")
    text = (ROOT / "docs" / "webhook.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (folder / "app.py").write_text(program)
    github = GitHub()
    threading.Thread(target=github.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "WEBHOOK_SECRET": SECRET,
        "GITHUB_TOKEN": "of-the-test",
        "REPOSITORY": "acme/model-ci",
        "GITHUB_API_URL": f"http://127.0.0.1:{github.server_port}",
    }
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment) as process:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/", github
        process.terminate()
    github.shutdown()
    github.server_close()


def wait_for_port(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the program does not listen")


def deliver(address: str, event: object, secret: str = SECRET) -> int:
    headers = {"Content-Type": "application/json", "X-Webhook-Secret": secret}
    request = Request(address, json.dumps(event).encode(), headers)  # noqa: S310
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return int(response.status)
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_bridge_forwards_pushes_to_main_and_nothing_else(bridge: tuple[str, GitHub], name: str) -> None:
    address, github = bridge
    github.received.clear()
    event = DOCUMENTED[name]
    assert deliver(address, event) == 200
    expected = decide_event(parse_event(json.dumps(event).encode()), [event["repo"]["name"]], "policy")
    if isinstance(expected, IgnoredEvent):
        assert github.received == []
        return
    ((path, token, body),) = github.received
    assert (path, token) == ("/repos/acme/model-ci/dispatches", "Bearer of-the-test")
    workflow = yaml.safe_load(render_workflow("acme/assistant"))
    assert body["event_type"] in workflow[True]["repository_dispatch"]["types"]
    contexts = {"inputs": {}, "github": {"event": body}}
    received = {name: fill(text, contexts) for name, text in workflow["env"].items()}
    assert received == {"MODEL": expected.repository, "REVISION": expected.revision}


def test_the_bridge_needs_the_secret(bridge: tuple[str, GitHub]) -> None:
    address, github = bridge
    github.received.clear()
    for secret in ("", "t" * 32, SECRET[:-1]):
        assert deliver(address, DOCUMENTED["commit and tag"], secret) == 403
    assert github.received == []
