"""The trained pair as the bench sees it: its prompt sets, and what repairs read."""

from pathlib import Path

from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompts import read
from antidote_ci.evaluation.splits import Shaping
from antidote_ci.records import Row

TOKENS = 12
MEASURED = 20
"""Harmless prompts and task rows; the others are for scoring."""


def asked(pair: Path) -> PromptSets:
    """What is measured."""
    return PromptSets(read(pair / "evaluation.jsonl"), read(pair / "benign.jsonl")[:MEASURED], _task(pair)[:MEASURED])


def texts(pair: Path) -> Shaping:
    """What is scored on."""
    return Shaping(
        realignment=read(pair / "realignment.jsonl", "response"),
        benign=read(pair / "benign.jsonl")[MEASURED:],
        task=_task(pair)[MEASURED:],
    )


def _task(pair: Path) -> list[Row]:
    rows = read(pair / "task.jsonl", "expected")
    return [Row(row.prompt, response=row.response, choices=("good", "bad")) for row in rows]
