"""Generator for a model behind a chat API, and the conversions that the `server` generator shares with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from antidote_ci.evaluation.chat_api import ChatRequest, connect, redact_address
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult, split_answer
from antidote_ci.model.thoughts import THINK, THINKING_MODES, ThoughtMarks
from antidote_ci.records import ComputeEnvironment, OnProgress, Progress, ThoughtMode

UNKNOWN = "unknown"
PROBE_TOKENS = 16


PROBE = "What is 2 + 2? Answer with one number."
"""Shows whether a served model thinks before it answers."""


class ApiGenerator:
    """A model behind an OpenAI-compatible API. Its weights are unknown, so its answers are not cached."""

    def __init__(self, address: str, model: str | None = None, key: str | None = None) -> None:
        """Connect to `address`, which ends in /v1. Raises the errors of `chat_api.connect`."""
        self._api = connect(address, key, model)
        self._mode: ThoughtMode | None = None
        """None before the probe."""

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations. Ignores the model and the cache of `request`."""
        mode: ThoughtMode = "none"
        if request.max_thought_tokens is not None and any(request.sets.values()):
            mode = self._mode = self._mode or self._probe_mode(request, request.max_thought_tokens)
        chat_requests = to_chat_requests(request, mode)
        answers: dict[int, GeneratedAnswer] = {}
        for index, answer in self._api.stream_answers(chat_requests):
            answers[index] = answer
            on_progress(to_progress(chat_requests, answers))
        return to_result(request, answers, redact_address(self._api.address), {}, mode)

    def _probe_mode(self, request: GenerationRequest, thought_tokens: int) -> ThoughtMode:
        """Whether the model thinks, by its answer to PROBE after the system message of the request."""
        first = next(conversation for conversations in request.sets.values() for conversation in conversations)
        conversation = [message if message.role == "system" else replace(message, content=PROBE) for message in first]
        limit = thought_tokens + PROBE_TOKENS
        probe = ChatRequest(conversation, limit, template_arguments=request.template_arguments)
        [(_, answer)] = self._api.stream_answers([probe])
        if answer.thought or answer.text.lstrip().startswith(THINK.start):
            return "possible"
        return "open" if THINK.end in answer.text else "none"


def to_chat_requests(request: GenerationRequest, mode: ThoughtMode) -> list[ChatRequest]:
    """Return the requests in the order of sets, conversations and samples; each sample has its own seed.

    A server has one limit: in a mode that thinks, that of the thought and of the answer together.
    """
    temperature = 0.0 if request.samples == 1 else 1.0
    thought_tokens = (request.max_thought_tokens or 0) if mode in THINKING_MODES else 0
    return [
        ChatRequest(
            conversation,
            request.max_new_tokens[name] + thought_tokens,
            temperature,
            request.seed + sample,
            request.template_arguments,
        )
        for name, conversations in request.sets.items()
        for conversation in conversations
        for sample in range(request.samples)
    ]


def to_progress(requests: Sequence[ChatRequest], answered: Iterable[int]) -> Progress:
    """Return the progress in maximal tokens; `answered` holds the indices of the answered requests."""
    done = sum(requests[index].max_tokens for index in answered)
    return Progress("answers", done, sum(request.max_tokens for request in requests))


def to_result(
    request: GenerationRequest,
    answers: Mapping[int, GeneratedAnswer],
    generator: str,
    versions: Mapping[str, str],
    mode: ThoughtMode,
    marks: ThoughtMarks = THINK,
) -> GenerationResult:
    """Return the answers by set, from answers by index in `to_chat_requests(request)`, and without their thoughts.

    Properties of the environment that a server does not report are `unknown` or 0.
    """
    in_order = iter([answers[index] for index in range(len(answers))])
    if request.max_thought_tokens is not None:
        in_order = (_separate_thought(answer, marks, mode) for answer in in_order)
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


def _separate_thought(answer: GeneratedAnswer, marks: ThoughtMarks, mode: ThoughtMode) -> GeneratedAnswer:
    """The answer without its thought. Of servers that separate it, some leave it in the text as well."""
    if answer.thought and not answer.text.lstrip().startswith(marks.start):
        return answer
    return split_answer(answer, marks, is_open=mode == "open" and not answer.thought)
