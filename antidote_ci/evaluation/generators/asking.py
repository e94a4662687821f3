"""A request as questions to a chat API, and their answers as a result."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from antidote_ci.evaluation.chat_api import ChatRequest
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.records import ComputeEnvironment, Progress

UNKNOWN = "unknown"


def to_chat_requests(request: GenerationRequest) -> list[ChatRequest]:
    """Set by set, conversation by conversation, sample by sample, each sample with a seed of its own."""
    temperature = 0.0 if request.samples == 1 else 1.0
    return [
        ChatRequest(conversation, request.max_new_tokens[name], temperature, request.seed + sample)
        for name, conversations in request.sets.items()
        for conversation in conversations
        for sample in range(request.samples)
    ]


def to_progress(asked: Sequence[ChatRequest], answered: Iterable[int]) -> Progress:
    """How much of the questions is done, in tokens that their answers have at most; `answered` holds positions."""
    return Progress("answers", sum(asked[at].max_tokens for at in answered), sum(each.max_tokens for each in asked))


def to_result(
    request: GenerationRequest, answers: Sequence[GeneratedAnswer], generator: str, versions: Mapping[str, str]
) -> GenerationResult:
    """The answers to `questions(request)`, back in their sets. What a server does not tell is `unknown`, or 0."""
    given = iter(answers)
    return GenerationResult(
        {name: list(islice(given, len(asked) * request.samples)) for name, asked in request.sets.items()},
        ComputeEnvironment(
            device="server",
            dtype=UNKNOWN,
            batch_size=0,
            max_new_tokens=max(request.max_new_tokens.values(), default=0),
            threads=0,
            instruction_set=UNKNOWN,
            chat_template_sha256=UNKNOWN,
            versions=dict(versions),
            generator=generator,
        ),
    )
