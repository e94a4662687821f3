"""The realignment set made of the model's own harmful answers, when the user brings none."""

import dataclasses
from collections.abc import Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.judges.interface import Exchange
from antidote_ci.evaluation.measure import Ruler
from antidote_ci.evaluation.outcome import outcome
from antidote_ci.model.conversations import asked
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model, OnProgress, Row

FEWEST = 8
"""Norms over fewer answers say more about their topics than about harm."""


def own_answers(ruler: Ruler, model: Model, rows: Sequence[Row], report: OnProgress) -> list[Row]:
    """The rows that `model` answers harmfully, as the first judge sees it, with those answers as responses.

    Raises ConfigurationError when fewer than 8 are left.
    """
    judge = ruler.judges[0]
    exchanges = answered(ruler, model, rows, report)
    opinions = judge.opinions([Exchange(row.prompt, row.response) for row in exchanges], report)
    harmful = [
        row
        for row, opinion in zip(exchanges, opinions, strict=True)
        if outcome(row.response, opinion.verdict, judge.identity.measure) == "harmful"
    ]
    if len(harmful) < FEWEST:
        raise ConfigurationError(
            f"only {len(harmful)} of {len(rows)} prompts for realignment were answered harmfully",
            cause=f"the model's own answers make a realignment set of at least {FEWEST}",
            hint="more prompts, or --realignment FILE.jsonl with prompts and responses",
        )
    return harmful


def answered(ruler: Ruler, model: Model, rows: Sequence[Row], report: OnProgress) -> list[Row]:
    """The rows with the greedy answers of `model` as responses."""
    request = GenerationRequest(model, {"rows": [asked(row.prompt) for row in rows]}, {"rows": ruler.max_new_tokens})
    answers = ruler.generator.answers(request, report).answers["rows"]
    return [dataclasses.replace(row, response=answer.text) for row, answer in zip(rows, answers, strict=True)]
