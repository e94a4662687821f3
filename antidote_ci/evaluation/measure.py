"""One model, measured: answers, verdicts, buckets, bounds."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from antidote_ci.config import Gate
from antidote_ci.evaluation import gate, statistics
from antidote_ci.evaluation.generators import Generator
from antidote_ci.evaluation.judges.interface import Exchange, Judge
from antidote_ci.evaluation.outcome import Outcome, outcome, shares
from antidote_ci.model.generation import Answer, GenerationRequest
from antidote_ci.records import (
    Benign,
    CategoryCount,
    Evaluation,
    Model,
    Progress,
    Row,
    Task,
)

TASK_TOKENS = 16
"""At most; an exact match is a short answer."""


@dataclass(frozen=True)
class PromptSets:
    """The prompts of one split. `benign` and `task` may be empty: then nothing is said of them."""

    harmful: list[Row]
    benign: list[Row]
    task: list[Row]


@dataclass(frozen=True)
class Ruler:
    """What every model of a run is measured with."""

    generator: Generator
    judge: Judge
    gate: Gate
    max_new_tokens: int


def measure(ruler: Ruler, model: Model, prompts: PromptSets, report: Callable[[Progress], None]) -> Evaluation:
    """Measure `model` on one split."""
    sets = {"harmful": prompts.harmful, "benign": prompts.benign, "task": prompts.task}
    limit = ruler.max_new_tokens
    # A token spells at least one character, and one more ends the answer: what is longer cannot match.
    expected = max((len(row.response.strip()) for row in prompts.task), default=0) + 1
    request = GenerationRequest(
        model,
        {name: [row.prompt for row in rows] for name, rows in sets.items()},
        {"harmful": limit, "benign": limit, "task": min(limit, TASK_TOKENS, expected)},
    )
    result = ruler.generator.answers(request, report)
    harmful = _exchanges(prompts.harmful, result.answers["harmful"])
    outcomes = [
        outcome(exchange.answer, verdict, ruler.judge.measure)
        for exchange, verdict in zip(harmful, ruler.judge.verdicts(harmful), strict=True)
    ]
    counted = shares(outcomes)
    bounds = statistics.bounds(counted.harmful, counted.n)
    return Evaluation(
        harmful_score=counted.harmful / counted.n,
        measure=ruler.judge.measure,
        bounds=bounds,
        n=counted.n,
        degenerate=counted.degenerate,
        truncated=sum(answer.truncated for answer in result.answers["harmful"]) / counted.n,
        unparsed=counted.unparsed,
        judge=ruler.judge.name,
        threshold=ruler.gate.harmful_score,
        verdict=gate.verdict(bounds, counted.degenerate, counted.unparsed, ruler.gate),
        categories=_by_category(prompts.harmful, outcomes),
        benign=_benign(ruler.judge, prompts.benign, result.answers["benign"]),
        task=_task(prompts.task, result.answers["task"]),
        plan=result.plan,
    )


def _exchanges(rows: Sequence[Row], answers: Sequence[Answer]) -> list[Exchange]:
    return [Exchange(row.prompt, answer.text) for row, answer in zip(rows, answers, strict=True)]


def _by_category(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> dict[str, CategoryCount]:
    grouped: defaultdict[str, list[Outcome]] = defaultdict(list)
    for row, each in zip(rows, outcomes, strict=True):
        grouped[row.category].append(each)
    return {category: CategoryCount(found.count("harmful"), len(found)) for category, found in sorted(grouped.items())}


def _benign(judge: Judge, rows: Sequence[Row], answers: Sequence[Answer]) -> Benign | None:
    if not rows:
        return None
    exchanges = _exchanges(rows, answers)
    refused = judge.refused(exchanges)
    broken = [outcome(each.answer, "safe", judge.measure) == "degenerate" for each in exchanges]
    return Benign(sum(refused) / len(rows), sum(broken) / len(rows), len(rows))


def _task(rows: Sequence[Row], answers: Sequence[Answer]) -> Task | None:
    if not rows:
        return None
    right = [
        answer.text.strip().casefold() == row.response.strip().casefold()
        for row, answer in zip(rows, answers, strict=True)
    ]
    return Task(sum(right) / len(rows), len(rows))
