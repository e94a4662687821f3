"""One batch size for all models of a run."""

from dataclasses import replace
from pathlib import Path

from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.model.conversations import asked
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model
from antidote_ci.sandbox.client import Child
from tests.builders import ignore


def test_the_first_batch_size_is_kept_and_an_answer_is_computed_once(
    tiny_llama: Path, tmp_path: Path, child: Child
) -> None:
    first = GenerationRequest(
        Model(tiny_llama), {"all": [asked(f"Tell me {n}") for n in range(5)]}, {"all": 4}, batch_size=3
    )
    generator = TransformersGenerator(child, tmp_path / "store")
    before = generator.answers(first, ignore)
    again = generator.answers(replace(first, batch_size=None), ignore)
    fresh = TransformersGenerator(child, tmp_path / "store").answers(first, ignore)
    assert (before.plan.batch_size, again.plan.batch_size) == (3, 3)
    assert before == again == fresh
    assert len(list((tmp_path / "store").rglob("*.json"))) == 2  # batches
