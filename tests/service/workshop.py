"""The real service in a process of its own, with a run in miniature and heads of repositories that a file names."""

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
import pytest
import typer

from antidote_ci import records
from antidote_ci.cli.exit_codes import handle_exit
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import Policy, read_policy
from antidote_ci.records import Report
from antidote_ci.service.database import is_sqlite_too_old
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.run_store import RunRecord, list_runs
from antidote_ci.service.settings import RunSettings, ServiceSettings

needs_sqlite = pytest.mark.skipif(is_sqlite_too_old(), reason="the SQLite of this Python is too old for the queue")

STANDIN = Path(__file__).parent / "standin.py"
SECRET = "a secret of the tests, of 40 characters!!".replace(" ", "-")
HEADER = {"X-Webhook-Secret": SECRET}
PATIENCE = 20.0
Value = TypeVar("Value")


def commit(number: int) -> str:
    """A commit id."""
    return f"{number:040x}"


def payload(revision: str, repository: str = "org/model", **changes: Any) -> bytes:  # noqa: ANN401
    """What the Hub sends when main moves to a commit."""
    document = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": repository, "headSha": revision},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": None, "newSha": revision}],
        "webhook": {"id": "w", "version": 3},
    }
    return json.dumps(document | changes).encode()


def eventually(read: Callable[[], Value], patience: float = PATIENCE) -> Value:
    """What `read` gives once it gives something."""
    until = time.monotonic() + patience
    while not (value := read()):
        if time.monotonic() > until:
            raise AssertionError(f"still {value!r} after {patience} s")
        time.sleep(0.15)
    return value


@dataclass
class Workshop:
    """One service's folder, what its runs do, and where its repositories are."""

    folder: Path
    report: Report
    policy: str = ""
    """Of an antidote.toml."""
    database: str = ""
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    plan: dict[str, Any] = field(default_factory=lambda: {"seconds": 0.05, "codes": [0]})

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.write(report=records.to_json(self.report), plan=json.dumps(self.plan), heads="{}")

    def write(self, **files: str) -> None:
        """Replace files that a run or a look reads, each at once."""
        for name, text in files.items():
            part = self.folder / f"{name}.part"
            part.write_text(text)
            part.replace(self.folder / f"{name}.json")

    def runs(self, **plan: Any) -> None:  # noqa: ANN401
        """What runs do from now on: see `standin`."""
        self.plan |= plan
        self.write(plan=json.dumps(self.plan))

    def heads(self, **heads: str) -> None:
        """Where main is, by the name of the repository; `away`: the Hub is; `closed`: it refuses; `hang`: for ever."""
        self.write(heads=json.dumps(heads))

    @property
    def settings(self) -> RunSettings:
        """Of a service in this folder."""
        file = self.folder / "antidote.toml"
        file.write_text(self.policy)
        return settings_of(self.folder, read_policy(file))

    @property
    def database_url(self) -> str:
        return ServiceSettings(self.settings, SECRET, (), self.database).database_url

    def start(self) -> "Workshop":
        """Until it listens."""
        log = self.folder / "service.log"
        mark = log.stat().st_size if log.exists() else 0
        (self.folder / "antidote.toml").write_text(self.policy)
        environment = os.environ | {
            "ANTIDOTE_WEBHOOK_SECRET": SECRET,
            "ANTIDOTE_DATABASE": self.database,
            "ANTIDOTE_THRESHOLD": "0.99",
            "ANTIDOTE_JUDGE_KEY": "the key of a judge",
            "HF_TOKEN": "hf_of_the_tests_1234567890",
        }
        with log.open("ab") as file:
            command = [sys.executable, "-m", "tests.service.workshop", str(self.folder)]
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

        def listening() -> int:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.said(mark))
            assert found or self.process is None or self.process.poll() is None, self.said(mark)
            return int(found[1]) if found else 0

        self.port = eventually(listening)
        return self

    def said(self, mark: int = 0) -> str:
        """Its log."""
        return (self.folder / "service.log").read_bytes()[mark:].decode()

    def end(self, number: signal.Signals) -> int:
        """The service's exit code, once it has heard the signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Leave nothing running."""
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
        """As the Hub does."""
        headers = HEADER | ({"Webhook-Id": delivery} if delivery else {})
        return httpx2.post(
            self.url("/webhook"), content=payload(revision, repository), headers=headers, timeout=PATIENCE
        )

    def entries(self) -> list[RunRecord]:
        return list_runs(self.database_url)

    def outcomes(self) -> dict[str, RunOutcome]:
        """By commit, of what has ended."""
        return {entry.request.revision: entry.outcome for entry in self.entries() if entry.outcome is not None}

    def outcome(self, revision: str) -> RunOutcome:
        """Of a commit, once there is one."""
        return eventually(lambda: self.outcomes().get(revision))  # type: ignore[return-value]

    def ledger(self, what: str) -> list[dict[str, Any]]:
        """What became of the runs."""
        file = self.folder / "started.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]

    def started(self, revision: str) -> dict[str, Any]:
        """The latest start of a commit's run, once there is one."""
        starts = eventually(lambda: [each for each in self.ledger("start") if each["revision"] == revision])
        return starts[-1]


@dataclass(frozen=True)
class Repository:
    """One of a service's repositories, with commits that no other has."""

    workshop: Workshop
    name: str

    def commits(self, count: int) -> list[str]:
        return [hashlib.sha1(f"{self.name} {n}".encode(), usedforsecurity=False).hexdigest() for n in range(count)]

    def moves_to(self, head: str) -> None:
        """Main, without a word of it."""
        self.workshop.heads(**{self.name: head})

    def deliver(self, revision: str, delivery: str | None = None) -> httpx2.Response:
        """With an id that is this repository's."""
        named = f"{self.name} {delivery}" if delivery else None
        return self.workshop.deliver(revision, named, f"org/{self.name}")

    def outcome(self, revision: str) -> RunOutcome:
        return self.workshop.outcome(revision)

    def ends(self, *revisions: str) -> list[str]:
        """The states in which these commits ended."""
        found = self.workshop.outcomes()
        return [found[revision].state for revision in revisions]

    def starts(self) -> list[str]:
        """The commits that were run, in order."""
        mine = f"org/{self.name}"
        return [each["revision"] for each in self.workshop.ledger("start") if each["arguments"][1] == mine]


def settings_of(folder: Path, policy: Policy) -> RunSettings:
    """Runs in miniature, and short pauses."""
    command = (sys.executable, "-I", "-S", str(STANDIN), str(folder), policy.sha256())
    return RunSettings(policy, folder / "service", command=command, pauses=(0.1, 0.1))


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no mere corpse."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def look(folder: Path) -> Callable[[RunRequest], RunTask | NewerCommit | RunOutcome]:
    """A Hub of two answers, by the file."""

    def looked(order: RunRequest) -> RunTask | NewerCommit | RunOutcome:
        head = json.loads((folder / "heads.json").read_text()).get(order.repository.partition("/")[2], order.revision)
        if head == "hang":
            time.sleep(3600)
        if head == "away":
            raise InfrastructureError("the Hub is away", passing=True)
        if head == "closed":
            raise InfrastructureError("it is gated")
        if head == "gone":
            return RunOutcome("gone", f"{order.repository} is not there")
        return (
            RunTask(order, "run") if head == order.revision else NewerCommit(dataclasses.replace(order, revision=head))
        )

    return looked


def main(folder: Path) -> int:
    """The service's own process."""
    from antidote_ci.cli.serve import exit_process
    from antidote_ci.service.uvicorn_server import run_service

    settings = settings_of(folder, read_policy(folder / "antidote.toml"))
    serving = ServiceSettings(
        settings, os.environ["ANTIDOTE_WEBHOOK_SECRET"], ("org/*",), os.environ["ANTIDOTE_DATABASE"], port=0
    )
    try:
        with handle_exit() as talk:
            run_service(serving, talk, look(folder))
    except typer.Exit as end:
        exit_process(end.exit_code)
        return end.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
