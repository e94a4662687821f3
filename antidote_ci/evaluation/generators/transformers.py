"""Generator that runs transformers in the sandbox."""

from dataclasses import replace
from pathlib import Path

from antidote_ci.model.generation import GenerationRequest, GenerationResult, generate
from antidote_ci.records import OnProgress
from antidote_ci.sandbox.client import Sandbox


class TransformersGenerator:
    """Uses one batch size for the whole run: the one found for the first model."""

    def __init__(self, sandbox: Sandbox, cache_folder: Path) -> None:
        """Answers are cached in `cache_folder`."""
        self._sandbox = sandbox
        self._cache_folder = cache_folder
        self._batch_size: int | None = None

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations; several samples of one conversation are adjacent."""
        batch_size = request.batch_size or self._batch_size
        request = replace(request, cache_folder=self._cache_folder, batch_size=batch_size)
        result = self._sandbox.call(generate, request, on_progress)
        self._batch_size = self._batch_size or result.plan.batch_size
        return result
