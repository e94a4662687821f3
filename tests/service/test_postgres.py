"""A real Postgres that is down at the start, goes away, and comes back."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.policy import Policy
from antidote_ci.report.console import Console
from antidote_ci.service import database
from antidote_ci.service.authentication import MIN_SECRET_LENGTH, WEBHOOK_VARIABLE
from antidote_ci.service.settings import RunSettings, ServiceSettings
from antidote_ci.service.uvicorn_server import run_service
from benchmarks.webhook import ledger, plan
from benchmarks.webhook.messages import Message
from benchmarks.webhook.plan import Delivery
from benchmarks.webhook.postgres import Postgres, postgres
from benchmarks.webhook.service import LIVE, READY
from benchmarks.webhook.storm import Arena, arena

PLAN = plan.make(40, 4, 0, seed=1)
PATIENCE = 30.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres() as running:
        if running is None:
            pytest.skip("there is no initdb under /usr/lib/postgresql")
        yield running


def posted(there: Arena, message: Message) -> int:
    """The status of the answer."""
    connection = HTTPConnection("127.0.0.1", there.service.port, timeout=PATIENCE)
    connection.request("POST", "/webhook", message.body, dict(message.headers))
    status = connection.getresponse().status
    connection.close()
    return status


def valid(number: int) -> Delivery:
    return [each for each in PLAN.deliveries if each.kind == "valid" and each.commit == 0][number]


def test_down_at_the_start(server: Postgres, tmp_path: Path) -> None:
    server.stop()
    options = ["--repository", "org/*", "--folder", str(tmp_path), "--database", server.url, "--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "antidote_ci", "serve", *options],
        env={**os.environ, WEBHOOK_VARIABLE: "s" * MIN_SECRET_LENGTH},
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    said = ended.stderr.decode()
    assert ended.returncode == InfrastructureError.exit_code, said
    assert "error: " in said
    assert f"127.0.0.1:{server.port}" in said
    assert "Traceback" not in said


def test_a_second_service_of_a_database(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take up what the other is at."""
    monkeypatch.setattr(database, "SECONDS_TO_FREE", 0.0)
    second = ServiceSettings(RunSettings(Policy(), tmp_path), "s" * MIN_SECRET_LENGTH, ("org/*",), server.url)
    said: list[str] = []
    with (
        database.lock_database(server.url, said.append),
        pytest.raises(ConfigurationError, match="another service works with the database"),
        database.lock_database(server.url, said.append),
    ):
        pass
    assert [line.partition(":")[0] for line in said] == ["another service has the database"]
    with (
        database.lock_database(server.url, said.append),
        pytest.raises(ConfigurationError, match="another service works"),
    ):
        run_service(second, Console())
    assert not (tmp_path / "policy.toml").exists()


def test_the_hold_on_a_database_ends_with_its_connection(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SECONDS_TO_FREE", 0.0)
    with database.lock_database(server.url, print):
        with pytest.raises(ConfigurationError), database.lock_database(server.url, print):
            pass
        server.stop()
        server.start()
        with database.lock_database(server.url, print):
            pass


def test_away_and_back(server: Postgres, tmp_path: Path) -> None:
    with arena(PLAN, server.url, tmp_path) as there:
        there.service.start()
        there.service.wait()
        first, second = there.build(valid(0)), there.build(valid(1))
        assert posted(there, first) == 202
        server.stop()
        there.service.wait(READY, 503)
        assert there.service.health(LIVE) == 200
        assert posted(there, second) == 503
        server.start()
        there.service.wait(READY, 200)
        assert posted(there, second) == 202, "a failed delivery was never taken for one that was heard"
        found = there.drained()
        there.service.stop()
        runs = ledger.read(there.ledger)
    ended = {entry.request.repository: entry.outcome.state for entry in found if entry.outcome}
    assert set(ended) == {valid(0).repository, valid(1).repository}
    assert set(ended.values()) <= {"pass", "repaired", "fail", "inconclusive"}
    assert all(run.alone for run in runs)
