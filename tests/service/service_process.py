"""The real service as a child process, with fake runs (fake_run.py) and repository heads that come from a file."""

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import typer

from antidote_ci import records
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import Policy, read_policy
from antidote_ci.records import Report
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.run_store import RunRecord, list_runs
from antidote_ci.service.settings import ServiceSettings

FAKE_RUN = Path(__file__).parent / "fake_run.py"
SECRET = "a-secret-of-the-tests,-of-40-characters!!"
HEADER = {"X-Webhook-Secret": SECRET}
TIMEOUT = 20.0
Value = TypeVar("Value")


def commit(number: int) -> str:
    """A commit id."""
    return f"{number:040x}"


def payload(revision: str, repository: str = "org/model", **changes: Any) -> bytes:  # noqa: ANN401
    """The payload of a push to the main branch."""
    document = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": repository, "headSha": revision},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": None, "newSha": revision}],
        "webhook": {"id": "w", "version": 3},
    }
    return json.dumps(document | changes).encode()


def eventually(read: Callable[[], Value], timeout: float = TIMEOUT) -> Value:
    """Wait until `read` returns a true value, and return it."""
    until = time.monotonic() + timeout
    while not (value := read()):
        if time.monotonic() > until:
            raise AssertionError(f"still {value!r} after {timeout} s")
        time.sleep(0.05)
    return value


@dataclass
class ServiceProcess:
    """A service with its folder. Files in the folder control its runs and repository heads."""

    folder: Path
    report: Report
    policy: str = ""
    """Content of antidote.toml."""
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    plan: dict[str, Any] = field(default_factory=lambda: {"seconds": 0.05, "codes": [0]})

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.write(report=records.to_json(self.report), plan=json.dumps(self.plan), heads="{}", listed="{}")

    def write(self, **files: str) -> None:
        """Replace JSON files in the folder atomically."""
        for name, text in files.items():
            part = self.folder / f"{name}.part"
            part.write_text(text)
            part.replace(self.folder / f"{name}.json")

    def runs(self, **plan: Any) -> None:  # noqa: ANN401
        """Set what later runs do: see fake_run.py."""
        self.plan |= plan
        self.write(plan=json.dumps(self.plan))

    def heads(self, **heads: str) -> None:
        """Set the head of each repository: a commit, or one of

        `away` (the Hub is unreachable), `closed` (the repository is gated), `gone`, `hang` (the request never returns).
        """
        self.write(heads=json.dumps(heads))

    def lists(self, **heads: str) -> None:
        """Set the heads of all allowed models, which the service reads at its start.

        `away=""`: the Hub is away. `broken=""`: reading them raises an exception that nobody expects.
        """
        self.write(listed=json.dumps(heads))

    @property
    def settings(self) -> ServiceSettings:
        file = self.folder / "antidote.toml"
        file.write_text(self.policy)
        return settings_of(self.folder, read_policy(file))

    def start(self) -> "ServiceProcess":
        """Start the service and wait until it listens."""
        log = self.folder / "service.log"
        mark = log.stat().st_size if log.exists() else 0
        (self.folder / "antidote.toml").write_text(self.policy)
        environment = os.environ | {
            "ANTIDOTE_WEBHOOK_SECRET": SECRET,
            "ANTIDOTE_THRESHOLD": "0.99",
            "ANTIDOTE_JUDGE_KEY": "the key of a judge",
            "HF_TOKEN": "hf_of_the_tests_1234567890",
        }
        with log.open("ab") as file:
            command = [sys.executable, "-m", "tests.service.service_process", str(self.folder)]
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

        def listening() -> int:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.said(mark))
            assert found or self.process is None or self.process.poll() is None, self.said(mark)
            return int(found[1]) if found else 0

        self.port = eventually(listening)
        return self

    def said(self, mark: int = 0) -> str:
        """The log of the service."""
        return (self.folder / "service.log").read_bytes()[mark:].decode()

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the service and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def close(self) -> None:
        """Kill the service and its runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for entry in self.ledger("start"):
            try:
                os.kill(entry["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def deliver(self, revision: str, delivery: str | None = None, repository: str = "org/model") -> httpx2.Response:
        """Send a delivery as the Hub does."""
        headers = HEADER | ({"Webhook-Id": delivery} if delivery else {})
        return httpx2.post(
            self.url("/webhook"), content=payload(revision, repository), headers=headers, timeout=TIMEOUT
        )

    def entries(self) -> list[RunRecord]:
        return list_runs(self.folder / "service" / "queue.sqlite")

    def outcomes(self) -> dict[str, RunOutcome]:
        """Commit -> outcome, of the requests that have ended."""
        return {entry.request.revision: entry.outcome for entry in self.entries() if entry.outcome is not None}

    def outcome(self, revision: str) -> RunOutcome:
        """Wait for the outcome of a commit."""
        return eventually(lambda: self.outcomes().get(revision))  # type: ignore[return-value]

    def ledger(self, what: str) -> list[dict[str, Any]]:
        """The lines that fake runs wrote about an event: start, end or terminated."""
        file = self.folder / "started.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]

    def started(self, revision: str) -> dict[str, Any]:
        """Wait for a run of this commit to start, and return its latest start."""
        starts = eventually(lambda: [start for start in self.ledger("start") if start["revision"] == revision])
        return starts[-1]


@dataclass(frozen=True)
class Repository:
    """A repository with commits of its own, on a shared service."""

    service: ServiceProcess
    name: str

    def commits(self, count: int) -> list[str]:
        return [hashlib.sha1(f"{self.name} {n}".encode(), usedforsecurity=False).hexdigest() for n in range(count)]

    def moves_to(self, head: str) -> None:
        """Move the main branch without a delivery."""
        self.service.heads(**{self.name: head})

    def deliver(self, revision: str, delivery: str | None = None) -> httpx2.Response:
        """Send a delivery, with an id that is unique to this repository."""
        named = f"{self.name} {delivery}" if delivery else None
        return self.service.deliver(revision, named, f"org/{self.name}")

    def outcome(self, revision: str) -> RunOutcome:
        return self.service.outcome(revision)

    def ends(self, *revisions: str) -> list[str]:
        """The outcome states of these commits."""
        outcomes = self.service.outcomes()
        return [outcomes[revision].state for revision in revisions]

    def starts(self) -> list[str]:
        """The commits whose runs were started, in order."""
        starts = self.service.ledger("start")
        return [start["revision"] for start in starts if start["arguments"][1] == f"org/{self.name}"]


def settings_of(folder: Path, policy: Policy) -> ServiceSettings:
    """Settings with fake runs and short retry pauses."""
    command = (sys.executable, "-I", "-S", str(FAKE_RUN), str(folder), policy.sha256())
    return ServiceSettings(
        policy, folder / "service", ("org/*",), SECRET, port=0, command=command, retry_pauses=(0.1, 0.1)
    )


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def head_inspector(folder: Path) -> Callable[[RunRequest], RunTask | NewerCommit | RunOutcome]:
    """An inspector that reads heads.json instead of asking the Hub."""

    def inspect(request: RunRequest) -> RunTask | NewerCommit | RunOutcome:
        heads = json.loads((folder / "heads.json").read_text())
        head = heads.get(request.repository.partition("/")[2], request.revision)
        if head == "hang":
            time.sleep(3600)
        if head == "away":
            raise InfrastructureError("the Hub is away", passing=True)
        if head == "closed":
            raise InfrastructureError("it is gated")
        if head == "gone":
            return RunOutcome("gone", f"{request.repository} does not exist")
        if head != request.revision:
            return NewerCommit(dataclasses.replace(request, revision=head))
        return RunTask(request, "run")

    return inspect


def head_reader(folder: Path, policy: str) -> Callable[[], list[RunRequest]]:
    """A reader of the heads in listed.json. While the Hub is away, each call leaves a line in reads.txt."""

    def read() -> list[RunRequest]:
        listed = json.loads((folder / "listed.json").read_text())
        if "broken" in listed:
            raise KeyError("sha")
        if "away" in listed:
            with (folder / "reads.txt").open("a") as file:
                file.write("read\n")
            raise InfrastructureError("the Hub is away", passing=True)
        return [RunRequest(f"org/{name}", head, policy) for name, head in listed.items()]

    return read


def main(folder: Path) -> None:
    """Main function of the service process."""
    from antidote_ci.cli.ending import handle_exit
    from antidote_ci.service.uvicorn_server import run_service

    settings = settings_of(folder, read_policy(folder / "antidote.toml"))

    try:
        with handle_exit():
            run_service(settings, head_inspector(folder), head_reader(folder, settings.policy_sha256))
    except typer.Exit as end:
        sys.exit(end.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
