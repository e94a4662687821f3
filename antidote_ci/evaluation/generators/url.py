"""Answers by a server that runs already, for `evaluate` alone: its weights are unknown, so nothing is stored."""

from antidote_ci.evaluation.chat_api import connect
from antidote_ci.evaluation.generators.asking import to_chat_requests, to_progress, to_result
from antidote_ci.evaluation.json_api import redact_address
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.records import OnProgress


class UrlGenerator:
    """A model behind an OpenAI-compatible API."""

    def __init__(self, address: str, model: str | None = None, key: str | None = None) -> None:
        """`address` goes up to and with /v1; without `model`, the only one served there. Raises as `connect` does."""
        self._api = connect(address, key, model)

    def generate(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        """Answers in the order of the conversations; `request.model` and `request.store` mean nothing here."""
        asked = to_chat_requests(request)
        found: dict[int, GeneratedAnswer] = {}
        for position, answer in self._api.stream_answers(asked):
            found[position] = answer
            report(to_progress(asked, found))
        in_order = [found[position] for position in range(len(asked))]
        return to_result(request, in_order, redact_address(self._api.address), {})
