"""The realignment set made of the model's own harmful answers, when the user brings none."""

import dataclasses
from collections.abc import Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.judges.interface import Exchange
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.outcome import classify_answer
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model, OnProgress, PromptRow

MIN_ANSWERS = 8
"""Norms over fewer answers say more about their topics than about harm."""


def harmful_answers(
    evaluator: Evaluator, model: Model, rows: Sequence[PromptRow], report: OnProgress
) -> list[PromptRow]:
    """The rows that `model` answers harmfully, as the first judge sees it, with those answers as responses.

    Raises ConfigurationError when fewer than 8 are left.
    """
    judge = evaluator.judges[0]
    exchanges = answer_rows(evaluator, model, rows, report)
    opinions = judge.judge([Exchange(row.prompt, row.response) for row in exchanges], report)
    harmful = [
        row
        for row, opinion in zip(exchanges, opinions, strict=True)
        if classify_answer(row.response, opinion.verdict, judge.identity.measure) == "harmful"
    ]
    if len(harmful) < MIN_ANSWERS:
        raise ConfigurationError(
            f"only {len(harmful)} of {len(rows)} prompts for realignment were answered harmfully",
            cause=f"the model's own answers make a realignment set of at least {MIN_ANSWERS}",
            hint="more prompts, or --realignment FILE.jsonl with prompts and responses",
        )
    return harmful


def answer_rows(evaluator: Evaluator, model: Model, rows: Sequence[PromptRow], report: OnProgress) -> list[PromptRow]:
    """The rows with the greedy answers of `model` as responses."""
    request = GenerationRequest(
        model, {"rows": [single_turn(row.prompt) for row in rows]}, {"rows": evaluator.max_new_tokens}
    )
    answers = evaluator.generator.generate(request, report).answers["rows"]
    return [dataclasses.replace(row, response=answer.text) for row, answer in zip(rows, answers, strict=True)]
