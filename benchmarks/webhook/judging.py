"""Rules that every storm must satisfy. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Literal

from antidote_ci.service.records import RunOutcomeState
from antidote_ci.service.run_store import RunRecord
from benchmarks.webhook import fake_run
from benchmarks.webhook.ledger import Run
from benchmarks.webhook.messages import expected, meaning
from benchmarks.webhook.plan import Plan
from benchmarks.webhook.sender import Answer

Rule = Literal[
    "answered as documented",
    "nothing wrong accepted",
    "nothing ran that was not ordered",
    "one recorded end each",
    "the last commit has a verdict",
    "the record is what the run said",
    "one run of a repository at a time",
    "again only after a kill or a failure",
    "no loop",
]
WRONG = ("forged", "oversized")
VERDICTS: tuple[RunOutcomeState, ...] = ("pass", "repaired", "fail", "inconclusive")


@dataclass(frozen=True)
class Storm:
    """Everything that was observed."""

    plan: Plan
    shas: Mapping[str, Sequence[str]]
    """Repository -> the commits of its main branch."""
    answers: Sequence[Answer]
    runs: Sequence[Run]
    entries: Sequence[RunRecord]
    kills: Sequence[float]
    ups: Sequence[float]
    """Times of the first answer after each start."""

    def is_timed(self, answer: Answer) -> bool:
        """Whether the delivery was sent while the service was up, and not queued by its socket during a start."""
        sent = answer.at - answer.seconds
        up, killed = (max((each for each in times if each <= sent), default=-inf) for times in (self.ups, self.kills))
        return answer.status is not None and up > killed


@dataclass(frozen=True)
class Violation:
    """A violation of a rule."""

    rule: Rule
    what: str


def find_violations(storm: Storm) -> list[Violation]:
    """Every violation; empty for a correct service."""
    return [*_answers(storm), *_records(storm), *_runs(storm)]


def final_answers(storm: Storm) -> dict[int, Answer]:
    """The final answer to each delivery, by its number."""
    return {answer.number: answer for answer in storm.answers if answer.is_final}


def _answers(storm: Storm) -> Iterator[Violation]:
    final = final_answers(storm)
    for delivery in storm.plan.deliveries:
        answer = final.get(delivery.number)
        if answer is None or answer.status is None:
            yield Violation("answered as documented", f"{delivery} has no answer")
            continue
        found = meaning(answer.status, answer.said)
        if found not in expected(delivery):
            yield Violation("answered as documented", f"{delivery}: {answer.status} {answer.said[:200]}")
        if delivery.kind in WRONG and answer.status < 300:
            yield Violation("nothing wrong accepted", f"{delivery}: {answer.status} {answer.said[:200]}")


def _records(storm: Storm) -> Iterator[Violation]:
    entries: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for entry in storm.entries:
        entries[entry.request.repository, entry.request.revision].append(entry)
    told = {
        (name, sha) for name, shas in storm.shas.items() for sha in shas if _role(storm, name) in ("worked", "merged")
    }
    for name, sha in entries.keys() - told:
        yield Violation("nothing wrong accepted", f"there is an order for {name} at {sha}")
    last_run = {(run.repository, run.revision): run for run in storm.runs if run.end == "finish"}
    for name, sha in sorted(told):
        found = entries.get((name, sha), [])
        if len(found) != 1 or found[0].outcome is None:
            yield Violation("one recorded end each", f"{name} at {sha}: {found}")
            continue
        outcome, is_last = found[0].outcome, sha == storm.shas[name][-1]
        if is_last and _role(storm, name) == "merged":
            if outcome.state != "own":
                yield Violation("no loop", f"our own pull request on {name}, merged, ended {outcome}")
        elif outcome.state not in VERDICTS and (is_last or outcome.state != "superseded"):
            rule: Rule = "the last commit has a verdict" if is_last else "one recorded end each"
            yield Violation(rule, f"{name} at {sha} ended {outcome}")
        elif outcome.state in VERDICTS:
            run = last_run.get((name, sha))
            said = (run.verdict, fake_run.verdict(sha)[1]) if run else None
            if said != (outcome.state, outcome.exit_code):
                yield Violation("the record is what the run said", f"{name} at {sha}: {outcome}, not {said}")


def _runs(storm: Storm) -> Iterator[Violation]:
    attempts: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in storm.runs:
        attempts[run.repository, run.revision].append(run)
        if not run.alone:
            yield Violation("one run of a repository at a time", f"{run}")
        if run.revision not in storm.shas.get(run.repository, ()) or _role(storm, run.repository) not in (
            "worked",
            "merged",
        ):
            yield Violation("nothing ran that was not ordered", f"{run}")
        if _role(storm, run.repository) == "merged" and run.revision == storm.shas[run.repository][-1]:
            yield Violation("no loop", f"our own pull request was run: {run}")
        if run.command != "run":
            yield Violation("nothing ran that was not ordered", f"{run}: another command")
    for tries in attempts.values():
        for earlier, later in pairwise(tries):
            if earlier.end != "fault" and earlier.service == later.service:
                yield Violation("again only after a kill or a failure", f"{earlier}, then {later}")


def _role(storm: Storm, name: str) -> str | None:
    return next((each.role for each in storm.plan.repositories if each.name == name), None)
