"""Where answers come from."""

from collections.abc import Callable
from typing import Protocol

from antidote_ci.model.child import Child
from antidote_ci.model.generation import GenerationRequest, GenerationResult, generate
from antidote_ci.records import Progress

Report = Callable[[Progress], None]


class Generator(Protocol):
    """Anything that answers prompts greedily and can say how it did."""

    def answers(self, request: GenerationRequest, report: Report) -> GenerationResult:
        """Answers in the order of the prompts."""
        ...


class TransformersGenerator:
    """transformers, in the child process."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def answers(self, request: GenerationRequest, report: Report) -> GenerationResult:
        """Answers in the order of the prompts."""
        return self._child.call(generate, request, report)
