"""Answers by transformers, in the child process."""

from dataclasses import replace
from pathlib import Path

from antidote_ci.model.generation import GenerationRequest, GenerationResult, generate
from antidote_ci.records import OnProgress
from antidote_ci.sandbox.client import Sandbox


class TransformersGenerator:
    """One batch size for a whole run: that of the first model, found by a probe."""

    def __init__(self, sandbox: Sandbox, store: Path) -> None:
        """`store` is the folder of answers that are never asked for twice."""
        self._child = sandbox
        self._store = store
        self._batch_size: int | None = None

    def generate(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        """Answers in the order of the conversations; several samples of one stand together."""
        kept = replace(request, cache_folder=self._store, batch_size=request.batch_size or self._batch_size)
        result = self._child.call(generate, kept, report)
        self._batch_size = self._batch_size or result.plan.batch_size
        return result
