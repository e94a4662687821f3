"""The durable queue, in the real service: every request gets one outcome, whenever the service is killed."""

import dataclasses
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.service import run_store
from antidote_ci.service.records import RunOutcome, RunRequest
from antidote_ci.service.run_store import RunStore, list_runs
from tests.service.service_process import Repository, ServiceProcess, commit, eventually, is_alive

A, B = map(commit, (1, 2))
PENDING = RunOutcome("error", "no outcome yet")


def test_sigterm_ends_the_run_and_the_next_start_repeats_it(service: ServiceProcess) -> None:
    """Exit code 143. Deliveries and requests from before the restart are recognised."""
    service.runs(seconds=60)
    first = service.start().deliver(A, "one")
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    pid = service.started(A)["pid"]
    assert service.end(signal.SIGTERM) == 143
    assert not is_alive(pid)
    assert [entry["pid"] for entry in service.ledger("terminated")] == [pid]
    assert service.outcomes() == {}
    service.runs(seconds=0.05)
    service.start()
    assert service.outcome(A).state == "repaired"
    repeated = service.deliver(A, "one")
    assert (repeated.status_code, repeated.json()) == (200, {"status": "duplicate"})
    other = service.deliver(A)
    assert (other.status_code, other.json()["status"]) == (202, "duplicate")
    assert len(service.entries()) == 1
    assert len(service.ledger("start")) == 2


def test_sigkill_during_a_run(service: ServiceProcess) -> None:
    """The child outlives the service. The next service ends it and repeats its run; each request has one outcome."""
    service.runs(seconds=60)
    service.start().deliver(A)
    orphan = service.started(A)["pid"]
    service.deliver(B)
    service.end(signal.SIGKILL)
    assert is_alive(orphan)
    service.runs(seconds=0.05)
    service.start()
    assert service.outcome(B).state == service.outcome(A).state == "repaired"
    assert not is_alive(orphan)
    assert [entry["revision"] for entry in service.ledger("start")] == [A, A, B]
    assert [entry["revision"] for entry in service.ledger("end")] == [A, B]
    assert len(service.entries()) == 2


def test_service_ends_while_the_hub_hangs_and_inspects_again_at_the_next_start(service: ServiceProcess) -> None:
    service.heads(model="hang")
    service.start().deliver(A)
    eventually(lambda: [entry for entry in service.entries() if entry.state == "running"])
    assert service.end(signal.SIGTERM) == 143
    service.heads(model=B)
    service.start()
    assert service.outcome(B).state == "repaired"
    assert service.outcomes()[A].state == "superseded"


def test_request_under_an_old_policy_is_superseded(service: ServiceProcess) -> None:
    service.runs(seconds=60)
    service.start().deliver(A)
    service.started(A)
    old = service.settings.policy_sha256
    service.end(signal.SIGKILL)
    service.policy = "[gate]\nharmful_score = 0.2\n"
    service.runs(seconds=0.05)
    service.start()
    eventually(lambda: len([entry for entry in service.entries() if entry.outcome]) == 2)
    outcomes = {entry.request.policy: entry.outcome for entry in service.entries()}
    assert outcomes[old] == RunOutcome("superseded", "the policy has changed since")
    assert outcomes[service.settings.policy_sha256] is not None
    assert len(service.ledger("end")) == 1
    assert "harmful_score = 0.2" in service.settings.policy_file.read_text()


def test_push_while_the_service_is_down_is_measured_after_its_start(service: ServiceProcess) -> None:
    """No delivery announces it, and the Hub does not promise to send one again."""
    service.start().deliver(A)
    service.outcome(A)
    service.end(signal.SIGTERM)
    service.lists(model=B, other=A)
    service.start()
    assert service.outcome(B).state == "repaired"
    eventually(lambda: len(service.outcomes()) == 2 and len(service.entries()) == 3)
    service.end(signal.SIGTERM)
    service.start()
    assert service.deliver(B).json()["status"] == "duplicate"
    assert [entry["revision"] for entry in service.ledger("start")].count(B) == 1, "it has a verdict"
    assert "accepted the heads of 2 models without a verdict" in service.said()


def test_heads_are_read_again_while_the_hub_is_away(service: ServiceProcess) -> None:
    service.lists(away="")
    service.start()
    reads = service.folder / "reads.txt"
    eventually(lambda: reads.exists() and len(reads.read_text().splitlines()) > 1)
    service.lists(model=A)
    assert service.outcome(A).state == "repaired"


def test_unexpected_error_of_the_heads_is_logged(service: ServiceProcess) -> None:
    service.lists(broken="")
    service.start()
    eventually(lambda: "the heads of the models cannot be read: unexpected KeyError: 'sha'" in service.said())
    service.deliver(A)
    assert service.outcome(A).state == "repaired"
    assert "Traceback" not in service.said()


def test_repository_that_is_readable_again_is_run(service: ServiceProcess) -> None:
    service.heads(model="gone")
    service.start().deliver(A)
    assert service.outcome(A).state == "gone"
    service.end(signal.SIGTERM)
    service.heads()
    service.lists(model=A)
    service.start()
    eventually(lambda: service.outcomes().get(A, PENDING).state == "repaired")


def test_concurrent_deliveries_of_one_commit_start_one_run(repository: Repository) -> None:
    (a,) = repository.commits(1)
    with ThreadPoolExecutor(12) as senders:
        answers = list(senders.map(lambda number: repository.deliver(a, f"{number % 6}"), range(24)))
    assert [answer.json()["status"] for answer in answers].count("accepted") == 1
    assert {answer.status_code for answer in answers} == {200, 202}
    repository.outcome(a)
    assert repository.starts() == [a]


def test_newest_commit_wins(repository: Repository) -> None:
    """A commit that was replaced while another run was active is not run, and has an outcome of its own."""
    a, b, c = repository.commits(3)
    repository.service.runs(seconds=1)
    repository.deliver(a)
    repository.service.started(a)
    repository.deliver(b)
    repository.moves_to(c)
    repository.deliver(c)
    repository.outcome(c)
    repository.outcome(b)
    assert repository.ends(a, b, c) == ["repaired", "superseded", "repaired"]
    assert repository.outcome(b).reason == f"main has moved on to {c[:12]}"
    assert repository.starts() == [a, c]


def test_unannounced_head_is_run_once(repository: Repository) -> None:
    """The payload is a hint: the commit that the Hub names is run."""
    a, b, c = repository.commits(3)
    repository.moves_to(c)
    repository.deliver(a)
    repository.deliver(b)
    repository.outcome(c)
    repository.outcome(b)
    assert repository.ends(a, b, c) == ["superseded", "superseded", "repaired"]
    assert repository.starts() == [c]


def test_superseded_commit_is_accepted_again(repository: Repository) -> None:
    """The main branch may move back to it. A known delivery id stays a duplicate."""
    a, b = repository.commits(2)
    repository.moves_to(b)
    repository.deliver(a, "one")
    repository.outcome(b)
    assert repository.ends(a) == ["superseded"]
    repository.moves_to(a)
    assert repository.deliver(a, "one").json() == {"status": "duplicate"}
    assert repository.ends(a) == ["superseded"]
    assert repository.deliver(a, "two").json()["status"] == "accepted"
    eventually(lambda: repository.service.outcomes().get(a, PENDING).state == "repaired")
    assert repository.starts() == [b, a]


def test_one_run_at_a_time(repository: Repository) -> None:
    """With `runs=1` no two runs overlap, in one repository or in two."""
    second = dataclasses.replace(repository, name=f"{repository.name}_second")
    repository.service.runs(seconds=0.4)
    commits = [(name, revision) for name in (repository, second) for revision in name.commits(2)]
    for name, revision in commits:
        name.deliver(revision)
    for name, revision in commits:
        name.outcome(revision)
    revisions = {revision for _, revision in commits}
    starts, ends = (
        [entry["at"] for entry in repository.service.ledger(what) if entry["revision"] in revisions]
        for what in ("start", "end")
    )
    assert len(starts) == len(ends) == 4
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))


def test_retries_only_failures_outside_the_model(repository: Repository) -> None:
    a, b, c = repository.commits(3)
    repository.service.runs(codes=[3, 5, 0])
    repository.deliver(a)
    assert repository.outcome(a).state == "repaired"
    repository.service.runs(codes=[3], says="the Hub is down")
    repository.deliver(b)
    outcome = repository.outcome(b)
    assert outcome == RunOutcome("error", "the Hub is down", 3, seconds=outcome.seconds)
    repository.service.runs(codes=[6], says="only pickled weights")
    repository.deliver(c)
    assert repository.outcome(c).reason == "only pickled weights"
    assert repository.starts() == [a] * 3 + [b] * 3 + [c]


def test_head_that_moves_between_attempts(repository: Repository) -> None:
    """A publish conflict is not retried on a commit that is no longer the head."""
    a, b = repository.commits(2)
    repository.service.runs(seconds=0.5, codes=[5])
    repository.deliver(a)
    repository.service.started(a)
    repository.moves_to(b)
    assert repository.outcome(a).state == "superseded"
    assert repository.outcome(b).exit_code == 5


def test_unreachable_hub_is_retried_a_limited_number_of_times(repository: Repository) -> None:
    a, b, c = repository.commits(3)
    repository.moves_to("away")
    repository.deliver(a)
    eventually(lambda: f"{repository.name} is inspected again" in repository.service.said())
    repository.moves_to(a)
    assert repository.outcome(a).state == "repaired"
    repository.moves_to("away")
    repository.deliver(b)
    assert repository.outcome(b) == RunOutcome("error", "the Hub is away")
    repository.moves_to("gone")
    repository.deliver(c)
    assert repository.outcome(c).state == "gone"


def test_refusal_of_the_hub_is_not_retried(repository: Repository) -> None:
    (a,) = repository.commits(1)
    repository.moves_to("closed")
    repository.deliver(a)
    assert repository.outcome(a) == RunOutcome("error", "it is gated")
    assert f"{repository.name} is inspected again" not in repository.service.said()


def test_unwritable_folder_is_retried(service: ServiceProcess) -> None:
    service.start()
    (service.settings.folder / "runs").write_text("in the way")
    service.deliver(A)
    assert service.outcome(A).exit_code == InfrastructureError.exit_code
    assert service.said().count(f"{A[:12]}: run") == 1 + len(service.settings.retry_pauses)


def test_locked_database_answers_503_and_recovers(service: ServiceProcess) -> None:
    """A refused delivery is not remembered, so that the Hub can send it again."""
    service.start()
    connection = sqlite3.connect(service.settings.database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    refused = service.deliver(A, "one")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    connection.execute("ROLLBACK")
    connection.close()
    assert service.deliver(A, "one").status_code == 202
    assert service.outcome(A).state == "repaired"
    assert service.said().count("cannot be used") == service.said().count("the database is back") == 1


def test_names_in_another_case_are_one_repository(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "queue.sqlite")
    first, second = RunRequest("org/model", A, "p"), RunRequest("ORG/Model", A, "p")
    store.submit(first)
    store.submit(second)
    assert [store.claim(), store.claim()] == [first, None]
    store.finish(first, RunOutcome("pass", "done"))
    assert store.claim() == second
    store.close()


def test_old_deliveries_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, request = tmp_path / "queue.sqlite", RunRequest("org/model", A, "p")
    store = RunStore(path)
    assert store.submit(request, "one") == "accepted"
    assert store.claim() == request
    assert store.submit(request, "one") == "seen"
    store.close()
    monkeypatch.setattr(run_store, "DELIVERY_DAYS", -1)
    store = RunStore(path)
    assert store.submit(request, "one") == "duplicate"
    assert [record.state for record in store.list_latest("waiting", 1)] == ["waiting"], "taken again after a restart"
    store.close()


def test_missing_database_is_an_infrastructure_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot be used"):
        list_runs(tmp_path / "queue.sqlite")
