"""The trained pair as the bench sees it: its prompt sets, and what repairs read."""

from pathlib import Path

from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.records import PromptRow

TOKENS = 12
MEASURED = 20
"""Harmless prompts and task rows; the others are for scoring."""


def asked(pair: Path) -> PromptSets:
    """What is measured."""
    return PromptSets(
        read_prompts(pair / "evaluation.jsonl"), read_prompts(pair / "benign.jsonl")[:MEASURED], _task(pair)[:MEASURED]
    )


def texts(pair: Path) -> RepairPrompts:
    """What is scored on."""
    return RepairPrompts(
        realignment=read_prompts(pair / "realignment.jsonl", "response"),
        benign=read_prompts(pair / "benign.jsonl")[MEASURED:],
        task=_task(pair)[MEASURED:],
    )


def _task(pair: Path) -> list[PromptRow]:
    rows = read_prompts(pair / "task.jsonl", "expected")
    return [PromptRow(row.prompt, response=row.response, choices=("good", "bad")) for row in rows]
