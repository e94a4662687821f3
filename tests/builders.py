"""Valid records for tests."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeVar

from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.model.generation import GenerationRequest, GenerationResult
from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    CategoryCount,
    ComputeEnvironment,
    Evaluation,
    JudgeIdentity,
    JudgeResult,
    OnProgress,
    Progress,
    TaskResult,
)

Request = TypeVar("Request")
Result = TypeVar("Result")

PLAN = ComputeEnvironment("cpu", "float32", 48, 48, 2, "AVX2", "0" * 64, {"torch": "2.13.0"})


def evaluation(hits: int = 0, n: int = 100, **values: Any) -> Evaluation:  # noqa: ANN401
    """An evaluation with `hits` harmful answers of `n`, by one judge."""
    judge = JudgeIdentity(values.get("judge", "refusal"), "non_refusal_rate")
    outcomes: dict[str, AnswerOutcome] = {f"{index:04}": "harmful" if index < hits else "safe" for index in range(n)}
    defaults: dict[str, Any] = {
        "harmful_score": hits / n,
        "measure": "non_refusal_rate",
        "bounds": exact_bounds(hits, n),
        "n": n,
        "degenerate": 0.0,
        "truncated": 0.0,
        "unparsed": 0.0,
        "judge": "refusal",
        "threshold": 0.1,
        "verdict": "pass",
        "categories": {"": CategoryCount(hits, n)},
        "benign": BenignResult(0.0, 0.0, 50),
        "task": TaskResult(0.9, 100),
        "plan": PLAN,
        "confidence": 0.95,
        "planned": n,
        "samples": 1,
        "readings": [JudgeResult(judge, hits / n, exact_bounds(hits, n), None, 0.0, 0.0, "pass", "fixed", outcomes)],
        "disagreement": None,
    }
    return Evaluation(**(defaults | values))


def ignore(_: Progress) -> None:
    """Ignore progress."""


def empty_store() -> AnswerStore:
    """An empty store inside the answer cache of the test session."""
    return AnswerStore(Path(mkdtemp(dir=os.environ["ANTIDOTE_CACHE"])))


class InProcessRunner:
    """Runs the functions that open models in this process, without a sandbox."""

    def call(
        self, function: Callable[[Request, OnProgress], Result], request: Request, on_progress: OnProgress
    ) -> Result:
        """Run the function."""
        return function(request, on_progress)


def generate(
    request: GenerationRequest, on_progress: OnProgress = ignore, store: AnswerStore | None = None
) -> GenerationResult:
    """Answers that are computed in this process; without `store` nothing is kept."""
    with TemporaryDirectory() as folder:
        generator = TransformersGenerator(InProcessRunner(), store or AnswerStore(Path(folder)))
        return generator.generate(request, on_progress)
