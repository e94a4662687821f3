"""Where answers come from."""

from typing import Protocol

from antidote_ci.model.generation import GenerationRequest, GenerationResult
from antidote_ci.records import OnProgress


class Generator(Protocol):
    """Anything that continues conversations and can say how it did."""

    def generate(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        """Answers in the order of the conversations; several samples of one stand together."""
        ...
