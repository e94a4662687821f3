"""Answers by a server that runs already, for `evaluate` alone: its weights are unknown, so nothing is stored."""

from antidote_ci.evaluation.chat_api import connect
from antidote_ci.evaluation.generators.asking import progress, questions, result
from antidote_ci.evaluation.json_api import without_secrets
from antidote_ci.model.generation import Answer, GenerationRequest, GenerationResult
from antidote_ci.records import OnProgress


class UrlGenerator:
    """A model behind an OpenAI-compatible API."""

    def __init__(self, address: str, model: str | None = None, key: str | None = None) -> None:
        """`address` goes up to and with /v1; without `model`, the only one served there. Raises as `connect` does."""
        self._api = connect(address, key, model)

    def answers(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        """Answers in the order of the conversations; `request.model` and `request.store` mean nothing here."""
        asked = questions(request)
        found: dict[int, Answer] = {}
        for position, answer in self._api.as_they_come(asked):
            found[position] = answer
            report(progress(asked, found))
        in_order = [found[position] for position in range(len(asked))]
        return result(request, in_order, without_secrets(self._api.address), {})
