"""The durable queue, by the real service: killed at any moment, every order comes to one end."""

import dataclasses
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.service.database import require_supported_url
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.run_store import _step_result_adapter, list_runs
from tests.service.workshop import Repository, Workshop, commit, eventually, is_alive, needs_sqlite

pytestmark = needs_sqlite

A, B = map(commit, (1, 2))
NONE = RunOutcome("error", "none yet")


def test_service_that_is_asked_to_end(workshop: Workshop) -> None:
    """143; its run has heard of it and is gone on with; what was asked before is known after the restart."""
    workshop.runs(seconds=60)
    first = workshop.start().deliver(A, "one")
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    pid = workshop.started(A)["pid"]
    assert workshop.end(signal.SIGTERM) == 143
    assert not is_alive(pid)
    assert [each["pid"] for each in workshop.ledger("terminated")] == [pid]
    assert workshop.outcomes() == {}
    workshop.runs(seconds=0.05)
    workshop.start()
    assert workshop.outcome(A).state == "repaired"
    assert (again := workshop.deliver(A, "one")).status_code == 200
    assert again.json() == {"status": "duplicate"}
    other = workshop.deliver(A)
    assert (other.status_code, other.json()["status"]) == (202, "duplicate")
    assert len(workshop.entries()) == 1
    assert len(workshop.ledger("start")) == 2


def test_service_killed_in_the_middle_of_a_run(workshop: Workshop) -> None:
    """SIGKILL to the service alone, as in a crash: its child is ended, and each order comes to its one end."""
    workshop.runs(seconds=60)
    workshop.start().deliver(A)
    left = workshop.started(A)["pid"]
    workshop.deliver(B)
    workshop.end(signal.SIGKILL)
    assert is_alive(left)
    workshop.runs(seconds=0.05)
    workshop.heads(model=B)
    workshop.start()
    assert workshop.outcome(B).state == "repaired"
    assert workshop.outcomes()[A].state == "repaired", "the step that was interrupted is done, not the look before it"
    assert not is_alive(left)
    assert [each["revision"] for each in workshop.ledger("start")] == [A, A, B]
    assert [each["revision"] for each in workshop.ledger("end")] == [A, B]
    assert len(workshop.entries()) == 2


@pytest.mark.slow
def test_service_killed_while_it_looks(workshop: Workshop) -> None:
    """Nothing was found yet: it is looked for again."""
    workshop.heads(model="hang")
    workshop.start().deliver(A)
    eventually(lambda: [entry for entry in workshop.entries() if entry.state == "running"])
    workshop.end(signal.SIGKILL)
    workshop.heads(model=B)
    workshop.start()
    assert workshop.outcome(B).state == "repaired"
    assert workshop.outcomes()[A].state == "superseded"


def test_service_ends_though_the_hub_hangs(workshop: Workshop) -> None:
    """Who only waits holds nothing that could be lost."""
    workshop.heads(model="hang")
    workshop.start().deliver(A)
    eventually(lambda: [entry for entry in workshop.entries() if entry.state == "running"])
    assert workshop.end(signal.SIGTERM) == 143


def test_policy_that_changed_while_an_order_waited(workshop: Workshop) -> None:
    """The newest policy wins, and the order under the old one says so."""
    workshop.runs(seconds=60)
    workshop.start().deliver(A)
    workshop.started(A)
    old = workshop.settings.policy_sha256
    workshop.end(signal.SIGKILL)
    workshop.policy = "[gate]\nharmful_score = 0.2\n"
    workshop.runs(seconds=0.05)
    workshop.start()
    eventually(lambda: len([entry for entry in workshop.entries() if entry.outcome]) == 2)
    ends = {entry.request.policy: entry.outcome for entry in workshop.entries()}
    assert ends[old] == RunOutcome("superseded", "the policy has changed since")
    assert ends[workshop.settings.policy_sha256] is not None
    assert len(workshop.ledger("end")) == 1
    assert "harmful_score = 0.2" in workshop.settings.policy_file.read_text()


def test_same_order_from_many_at_once(repository: Repository) -> None:
    """One is accepted; whoever else asks at the same moment is told so."""
    (a,) = repository.commits(1)
    with ThreadPoolExecutor(12) as senders:
        answers = list(senders.map(lambda number: repository.deliver(a, f"{number % 6}"), range(24)))
    assert [answer.json()["status"] for answer in answers].count("accepted") == 1
    assert {answer.status_code for answer in answers} == {200, 202}
    repository.outcome(a)
    assert repository.starts() == [a]


def test_newest_commit_wins(repository: Repository) -> None:
    """What was pushed while another ran is run; what lay between is not; each has its own end."""
    a, b, c = repository.commits(3)
    repository.workshop.runs(seconds=1)
    repository.deliver(a)
    repository.workshop.started(a)
    repository.deliver(b)
    repository.moves_to(c)
    repository.deliver(c)
    repository.outcome(c)
    repository.outcome(b)
    assert repository.ends(a, b, c) == ["repaired", "superseded", "repaired"]
    assert repository.outcome(b).reason == f"main has moved on to {c[:12]}"
    assert repository.starts() == [a, c]


def test_head_that_nobody_announced(repository: Repository) -> None:
    """The payload is a hint: what is found there is ordered, once."""
    a, b, c = repository.commits(3)
    repository.moves_to(c)
    repository.deliver(a)
    repository.deliver(b)
    repository.outcome(c)
    repository.outcome(b)
    assert repository.ends(a, b, c) == ["superseded", "superseded", "repaired"]
    assert repository.starts() == [c]


def test_main_that_moves_back(repository: Repository) -> None:
    """`superseded` says nothing of a commit: it may come to be the newest again. A delivery never is new again."""
    a, b = repository.commits(2)
    repository.moves_to(b)
    repository.deliver(a, "one")
    repository.outcome(b)
    assert repository.ends(a) == ["superseded"]
    repository.moves_to(a)
    assert repository.deliver(a, "one").json() == {"status": "duplicate"}
    assert repository.ends(a) == ["superseded"]
    assert repository.deliver(a, "two").json()["status"] == "accepted"
    eventually(lambda: repository.workshop.outcomes().get(a, NONE).state == "repaired")
    assert repository.starts() == [b, a]


def test_one_run_at_a_time(repository: Repository) -> None:
    """So many in all, and one a repository."""
    one, two = repository, dataclasses.replace(repository, name=f"{repository.name}_too")
    repository.workshop.runs(seconds=0.4)
    commits = [(each, revision) for each in (one, two) for revision in each.commits(2)]
    for each, revision in commits:
        each.deliver(revision)
    for each, revision in commits:
        each.outcome(revision)
    ours = {revision for _, revision in commits}
    starts, ends = (
        [each["at"] for each in repository.workshop.ledger(what) if each["revision"] in ours]
        for what in ("start", "end")
    )
    assert len(starts) == len(ends) == 4
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))


def test_what_is_not_the_models_fault_is_tried_again(repository: Repository) -> None:
    """And comes to an end after the last attempt."""
    a, b, c = repository.commits(3)
    repository.workshop.runs(codes=[3, 5, 0])
    repository.deliver(a)
    assert repository.outcome(a).state == "repaired"
    repository.workshop.runs(codes=[3], says="the Hub is down")
    repository.deliver(b)
    assert (found := repository.outcome(b)) == RunOutcome("error", "the Hub is down", 3, seconds=found.seconds)
    repository.workshop.runs(codes=[6], says="only pickled weights")
    repository.deliver(c)
    assert repository.outcome(c).reason == "only pickled weights"
    assert repository.starts() == [a] * 3 + [b] * 3 + [c]


def test_head_that_moves_between_attempts(repository: Repository) -> None:
    """A publication that came second is not tried again upon a commit that is history."""
    a, b = repository.commits(2)
    repository.workshop.runs(seconds=0.5, codes=[5])
    repository.deliver(a)
    repository.workshop.started(a)
    repository.moves_to(b)
    assert repository.outcome(a).state == "superseded"
    assert repository.outcome(b).exit_code == 5


def test_hub_that_is_away(repository: Repository) -> None:
    """It is waited for, and not for ever: an order is not lost, and holds nobody up."""
    a, b, c = repository.commits(3)
    repository.moves_to("away")
    repository.deliver(a)
    eventually(lambda: f"{repository.name} is looked at again" in repository.workshop.said())
    repository.moves_to(a)
    assert repository.outcome(a).state == "repaired"
    repository.moves_to("away")
    repository.deliver(b)
    assert repository.outcome(b) == RunOutcome("error", "the Hub is away")
    repository.moves_to("gone")
    repository.deliver(c)
    assert repository.outcome(c).state == "gone"


def test_hub_that_refuses(repository: Repository) -> None:
    """Asked again it would say the same, and others wait."""
    (a,) = repository.commits(1)
    repository.moves_to("closed")
    repository.deliver(a)
    assert repository.outcome(a) == RunOutcome("error", "it is gated")
    assert f"{repository.name} is looked at again" not in repository.workshop.said()


def test_disk_that_cannot_be_written_to(workshop: Workshop) -> None:
    """It is tried again, as after a run that found the disk full."""
    workshop.start()
    (workshop.settings.folder / "runs").write_text("in the way")
    workshop.deliver(A)
    assert workshop.outcome(A).exit_code == InfrastructureError.exit_code
    assert workshop.said().count(f"{A[:12]}: run") == 1 + len(workshop.settings.pauses)


@pytest.mark.parametrize(
    "found",
    [RunTask(RunRequest("o/m", A, "p"), "evaluate"), NewerCommit(RunRequest("o/m", A, "p")), RunOutcome("own", "r")],
)
def test_what_a_step_found_is_read_back(found: object) -> None:
    """As the very kind that it was."""
    adapter = _step_result_adapter()
    assert adapter.validate_json(adapter.dump_json(found)) == found  # type: ignore[arg-type]


def test_list_of_orders_where_there_are_none(tmp_path: Path) -> None:
    """An error of ours, whatever the database says."""
    with pytest.raises(InfrastructureError, match="cannot be used"):
        list_runs(f"sqlite:///{tmp_path / 'queue.sqlite'}")


@pytest.mark.parametrize("url", ["mysql://host/name", "postgresql://host", "nonsense", "postgresql:///", "file:///x"])
def test_database_of_another_kind(url: str) -> None:
    """Named before anything is begun; the address may hold a password."""
    with pytest.raises(ConfigurationError, match="--database"):
        require_supported_url(url)


def test_database_that_is_down_at_the_start(workshop: Workshop) -> None:
    """Exit 3, and three lines instead of a traceback; no password among them."""
    workshop.database = "postgresql://user:geheim@127.0.0.1:9/queue"
    with pytest.raises(AssertionError) as seen:
        workshop.start()
    assert workshop.process is not None
    assert workshop.process.wait(10) == 3
    assert "error: the database postgresql://user:***@127.0.0.1:9/queue cannot be used" in str(seen.value)
    assert "Traceback" not in workshop.said()
    assert "geheim" not in workshop.said()
