"""Generators: they produce a model's answers to prompts."""

from typing import Protocol

from antidote_ci.model.generation import GenerationRequest, GenerationResult
from antidote_ci.records import OnProgress


class Generator(Protocol):
    """Anything that can answer conversations and describe its environment."""

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations; several samples of one conversation are adjacent."""
        ...
