"""Generator for a model behind a chat API, and the conversions that the `server` generator shares with it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from antidote_ci.evaluation.chat_api import ChatRequest, connect, redact_address
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.records import ComputeEnvironment, OnProgress, Progress

UNKNOWN = "unknown"


class ApiGenerator:
    """A model behind an OpenAI-compatible API. Its weights are unknown, so its answers are not cached."""

    def __init__(self, address: str, model: str | None = None, key: str | None = None) -> None:
        """Connect to `address`, which ends in /v1. Raises the errors of `chat_api.connect`."""
        self._api = connect(address, key, model)

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations. Ignores the model and the cache of `request`."""
        chat_requests = to_chat_requests(request)
        answers: dict[int, GeneratedAnswer] = {}
        for index, answer in self._api.stream_answers(chat_requests):
            answers[index] = answer
            on_progress(to_progress(chat_requests, answers))
        return to_result(request, answers, redact_address(self._api.address), {})


def to_chat_requests(request: GenerationRequest) -> list[ChatRequest]:
    """Return the requests in the order of sets, conversations and samples; each sample has its own seed."""
    temperature = 0.0 if request.samples == 1 else 1.0
    return [
        ChatRequest(conversation, request.max_new_tokens[name], temperature, request.seed + sample)
        for name, conversations in request.sets.items()
        for conversation in conversations
        for sample in range(request.samples)
    ]


def to_progress(requests: Sequence[ChatRequest], answered: Iterable[int]) -> Progress:
    """Return the progress in maximal tokens; `answered` holds the indices of the answered requests."""
    done = sum(requests[index].max_tokens for index in answered)
    return Progress("answers", done, sum(request.max_tokens for request in requests))


def to_result(
    request: GenerationRequest, answers: Mapping[int, GeneratedAnswer], generator: str, versions: Mapping[str, str]
) -> GenerationResult:
    """Return the answers by set, from answers by index in `to_chat_requests(request)`.

    Properties of the environment that a server does not report are `unknown` or 0.
    """
    in_order = iter([answers[index] for index in range(len(answers))])
    return GenerationResult(
        {
            name: list(islice(in_order, len(conversations) * request.samples))
            for name, conversations in request.sets.items()
        },
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
