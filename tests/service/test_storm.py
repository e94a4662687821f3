"""A small storm against the real service, and tests that the benchmark detects every violation."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.service.records import RunOutcome, RunRequest
from antidote_ci.service.run_store import RunRecord
from benchmarks.webhook import fake_run, plan
from benchmarks.webhook.judging import Rule, Storm, find_violations
from benchmarks.webhook.ledger import Run
from benchmarks.webhook.messages import ANSWERED, expected, meaning
from benchmarks.webhook.plan import FORGED, MALFORMED, OVERSIZED, SHARES, UNCONCERNED
from benchmarks.webhook.sender import Answer
from benchmarks.webhook.storm import run_storm

DELIVERIES, REPOSITORIES, SECONDS = 60, 6, 3.0


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_plan_has_deliveries_of_every_kind(seed: int) -> None:
    planned = plan.make_plan(1000, 36, 10, seed)
    kinds = Counter(delivery.kind for delivery in planned.deliveries)
    assert kinds == {kind: round(1000 * share) for kind, share in SHARES.items()}
    assert {each.flaw for each in planned.deliveries} == {"", *FORGED, *OVERSIZED, *MALFORMED, *UNCONCERNED}
    assert [each.number for each in planned.deliveries] == list(range(1000))
    assert len(planned.kills) == 10
    assert list(planned.kills) == sorted(planned.kills)
    assert 0 < planned.kills[0] < planned.kills[-1] < 1
    assert plan.make_plan(1000, 36, 10, seed) == planned


@given(seed=st.integers(0, 2**32))
def test_every_commit_is_announced_once(seed: int) -> None:
    planned = plan.make_plan(200, 12, 3, seed)
    told = {(each.repository, each.commit): each for each in planned.deliveries if each.kind in ("valid", "reordered")}
    assert set(told) == {
        (repository.name, commit)
        for repository in planned.repositories
        if repository.role in ("worked", "merged")
        for commit in range(repository.commits)
    }
    for (name, commit), delivery in told.items():
        following = told.get((name, (commit or 0) + 1))
        if following:
            assert (delivery.due > following.due) == (delivery.kind == "reordered")
    for again in (each for each in planned.deliveries if each.kind in ("replayed", "duplicate")):
        original = told[again.repository, again.commit]
        assert again.due >= original.due
        assert (again.id == original.id) == (again.kind == "replayed")
    wrong = {each.repository for each in planned.deliveries if each.kind in ("oversized", "garbage")}
    assert wrong.isdisjoint(each.name for each in planned.repositories if each.role == "worked")


def faultless() -> Storm:
    """The result of a correct service without a kill."""
    planned = plan.make_plan(200, 12, 0, seed=3)
    shas = {
        each.name: [f"{number:020x}{commit:020x}" for commit in range(each.commits)]
        for number, each in enumerate(planned.repositories)
    }
    answers = [Answer(each.number, 1.0, *ANSWERED[min(expected(each))], seconds=0.01) for each in planned.deliveries]
    runs, entries = [], []
    for repository in planned.repositories:
        for number, sha in enumerate(shas[repository.name] if repository.role in ("worked", "merged") else ()):
            state, code = fake_run.verdict(sha)
            if repository.role == "merged" and number == 1:
                entries.append(_entry(repository.name, sha, RunOutcome("own", "")))
            elif number % 2 and sha != shas[repository.name][-1]:
                entries.append(_entry(repository.name, sha, RunOutcome("superseded", "")))
            else:
                entries.append(_entry(repository.name, sha, RunOutcome(state, "", code)))  # type: ignore[arg-type]
                runs.append(Run(repository.name, sha, "run", "first", 2.0, True, "finish", state))
    return Storm(planned, shas, answers, runs, entries, [], [0.0])


def _entry(name: str, sha: str, outcome: RunOutcome) -> RunRecord:
    return RunRecord(RunRequest(name, sha, "c" * 64), "ended", outcome, 1.0)


def _last(storm: Storm, role: str) -> tuple[str, str]:
    """A repository, and where its main ends."""
    name = next(each.name for each in storm.plan.repositories if each.role == role)
    return name, storm.shas[name][-1]


def _ended(storm: Storm, role: str, outcome: RunOutcome | None) -> Sequence[RunRecord]:
    at = _last(storm, role)
    return [
        replace(each, outcome=outcome) if (each.request.repository, each.request.revision) == at else each
        for each in storm.entries
    ]


def _answered(storm: Storm, kind: str, status: int, said: str) -> Sequence[Answer]:
    number = next(each.number for each in storm.plan.deliveries if each.kind == kind)
    return [replace(each, status=status, said=said) if each.number == number else each for each in storm.answers]


VIOLATIONS: dict[Rule, Callable[[Storm], Storm]] = {
    "answered as documented": lambda storm: replace(storm, answers=storm.answers[1:]),
    "nothing wrong accepted": lambda storm: replace(storm, answers=_answered(storm, "forged", *ANSWERED["accepted"])),
    "nothing ran that was not ordered": lambda storm: replace(
        storm, runs=[*storm.runs, replace(storm.runs[0], repository=_last(storm, "untouched")[0])]
    ),
    "one recorded end each": lambda storm: replace(storm, entries=storm.entries[1:]),
    "the last commit has a verdict": lambda storm: replace(
        storm, entries=_ended(storm, "worked", RunOutcome("superseded", ""))
    ),
    "the record is what the run said": lambda storm: replace(
        storm, runs=[replace(storm.runs[0], verdict="another"), *storm.runs[1:]]
    ),
    "one run of a repository at a time": lambda storm: replace(
        storm, runs=[replace(storm.runs[0], alone=False), *storm.runs[1:]]
    ),
    "again only after a kill or a failure": lambda storm: replace(
        storm, runs=[*storm.runs, replace(storm.runs[0], began=9.0)]
    ),
    "no loop": lambda storm: replace(storm, entries=_ended(storm, "merged", RunOutcome("repaired", "", 7))),
}


def test_correct_result_has_no_violation() -> None:
    assert find_violations(faultless()) == []


@pytest.mark.parametrize("rule", VIOLATIONS)
def test_every_violation_is_detected(rule: Rule) -> None:
    assert rule in {each.rule for each in find_violations(VIOLATIONS[rule](faultless()))}


def test_run_may_be_repeated_after_a_restart() -> None:
    storm = faultless()
    lost, again = replace(storm.runs[0], end="lost"), replace(storm.runs[0], began=9.0)
    rule = "again only after a kill or a failure"
    assert rule in {each.rule for each in find_violations(replace(storm, runs=[lost, again, *storm.runs[1:]]))}
    again = replace(again, service="second")
    assert find_violations(replace(storm, runs=[lost, again, *storm.runs[1:]])) == []


def test_only_answers_of_a_running_service_are_timed() -> None:
    answers = [Answer(number, at, 200, "", 0.5) for number, at in enumerate((1.0, 3.2, 4.0, 6.0))]
    storm = replace(faultless(), answers=answers, ups=[0.0, 3.0], kills=[2.0, 5.0])
    assert [each.number for each in answers if storm.is_timed(each)] == [0, 2]


@pytest.mark.slow
def test_small_storm_with_a_kill(tmp_path: Path) -> None:
    result = run_storm(plan.make_plan(DELIVERIES, REPOSITORIES, 1, seed=2), SECONDS, tmp_path)
    assert find_violations(result.storm) == []
    assert len(result.storm.kills) == 1
    final = [meaning(each.status or 0, each.said) for each in result.storm.answers if each.is_final]
    assert {"accepted", "duplicate", "ignored", "forged", "too large", "malformed"} <= set(final)
    assert {run.end for run in result.storm.runs} >= {"finish"}
