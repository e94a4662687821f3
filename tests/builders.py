"""Valid records for tests."""

import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    CategoryCount,
    ComputeEnvironment,
    Evaluation,
    JudgeIdentity,
    JudgeResult,
    Progress,
    TaskResult,
)

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
        "readings": [
            JudgeResult(judge, hits / n, exact_bounds(hits, n), None, 0.0, 0.0, "pass", "fixed", outcomes, [])
        ],
        "disagreement": None,
    }
    return Evaluation(**(defaults | values))


def ignore(_: Progress) -> None:
    """Ignore progress."""


def empty_store() -> Path:
    """An empty answer cache inside the cache of the test session."""
    return Path(mkdtemp(dir=os.environ["ANTIDOTE_CACHE"]))
