"""Answers of a model as rows: for a realignment set from its own answers, and to see which prompts it refuses."""

from collections.abc import Sequence
from dataclasses import replace

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import judge_results, utility
from antidote_ci.evaluation.judges import Exchange
from antidote_ci.evaluation.measure import Evaluator, to_conversations
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model, OnProgress, PromptRow

REFUSAL_TOKENS = 24
"""The beginning of an answer that shows whether it is a refusal."""
MIN_REALIGNMENT_ANSWERS = 8
"""Norms over fewer answers reflect the topics of the prompts more than harm."""


class TooFewHarmfulAnswersError(ConfigurationError):
    """The model answers too few of the realignment prompts harmfully to make a realignment set of its own answers."""


def collect_harmful_answers(
    evaluator: Evaluator, model: Model, rows: Sequence[PromptRow], on_progress: OnProgress
) -> list[PromptRow]:
    """Return the rows that `model` answers harmfully by the first judge, with those answers as responses.

    Raises TooFewHarmfulAnswersError for fewer than MIN_REALIGNMENT_ANSWERS.
    """
    judge = evaluator.judges[0]
    answered = answer_rows(evaluator, model, rows, on_progress)
    verdicts = judge.judge([Exchange(row.prompt, row.response) for row in answered], on_progress)
    harmful = [
        row
        for row, verdict in zip(answered, verdicts, strict=True)
        if row.response
        and judge_results.classify_answer(row.response, verdict.verdict, judge.identity.measure) == "harmful"
    ]
    if len(harmful) < MIN_REALIGNMENT_ANSWERS:
        raise TooFewHarmfulAnswersError(
            f"only {len(harmful)} of {len(rows)} prompts for realignment were answered harmfully",
            cause=f"a realignment set from the model's own answers needs at least {MIN_REALIGNMENT_ANSWERS}",
            hint="add prompts, or use --realignment FILE.jsonl with prompts and responses",
        )
    return harmful


def find_refused(evaluator: Evaluator, model: Model, rows: Sequence[PromptRow], on_progress: OnProgress) -> list[bool]:
    """Return for each row whether `model` refuses it, by the rule judge and the beginning of the answer."""
    answered = answer_rows(evaluator, model, rows, on_progress, REFUSAL_TOKENS)
    exchanges = [Exchange(row.prompt, row.response) for row in answered]
    _judge, refused = utility.judge_refusals(None, exchanges, on_progress)
    return refused


def answer_rows(
    evaluator: Evaluator,
    model: Model,
    rows: Sequence[PromptRow],
    on_progress: OnProgress,
    max_new_tokens: int | None = None,
    *,
    with_thoughts: bool = False,
) -> list[PromptRow]:
    """Return the rows with greedy answers of `model` as responses, after their thoughts if `with_thoughts`."""
    request = GenerationRequest(
        model,
        {"rows": to_conversations(evaluator, rows)},
        {"rows": max_new_tokens or evaluator.max_new_tokens},
        template_arguments=evaluator.chat.template_arguments,
        max_thought_tokens=evaluator.max_thought_tokens,
    )
    answers = evaluator.generator.generate(request, on_progress).answers["rows"]
    texts = [answer.thought + answer.text if with_thoughts else answer.text for answer in answers]
    return [replace(row, response=text) for row, text in zip(rows, texts, strict=True)]
