"""The transformers generator: batch size and caching."""

from dataclasses import replace
from pathlib import Path

import pytest

from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators import transformers
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model
from antidote_ci.sandbox.client import Sandbox
from tests.builders import generate, ignore


def test_batch_size_is_kept_and_answers_are_cached(tiny_llama: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    first = GenerationRequest(
        Model(tiny_llama), {"all": [single_turn(f"Tell me {n}") for n in range(5)]}, {"all": 4}, batch_size=3
    )
    generator = TransformersGenerator(sandbox, AnswerStore(tmp_path / "store"))
    before = generator.generate(first, ignore)
    again = generator.generate(replace(first, batch_size=None), ignore)
    fresh = TransformersGenerator(sandbox, AnswerStore(tmp_path / "store")).generate(first, ignore)
    assert (before.plan.batch_size, again.plan.batch_size) == (3, 3)
    assert before == again == fresh
    assert len(list((tmp_path / "store").rglob("*.json"))) == 2  # batches


def test_answers_of_another_way_of_decoding_are_not_used(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GenerationRequest(Model(tiny_llama), {"all": [single_turn("Tell me")]}, {"all": 4}, batch_size=1)
    for version in (1, 1, 2):
        monkeypatch.setattr(transformers, "DECODING", version)
        generate(request, store=AnswerStore(tmp_path))
    assert len(list(tmp_path.rglob("*.json"))) == 2
