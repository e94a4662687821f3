"""A dose is tried in memory, or for a server as weights on disk with the same answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from antidote_ci.embedded import prompt_file
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.model_answers import find_refused
from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest
from antidote_ci.pipeline import resolve
from antidote_ci.pipeline.candidates import (
    CandidateFactory,
    build_method_masks,
    prepare_trial,
)
from antidote_ci.pipeline.scoring_inputs import ScoringPrompts, choose_scoring_prompts
from antidote_ci.policy import Gate
from antidote_ci.records import Method, Model, PromptRow, ReportedReference
from antidote_ci.repair.apply import Provenance
from antidote_ci.sandbox.client import Sandbox
from tests.builders import InProcessRunner, empty_store, ignore
from tests.repair.cases import ROWS
from tests.trained_pair import harmful_prompts


def build_factory(folder: Path, pair: Path, sandbox: Sandbox) -> CandidateFactory:
    source, reference = (resolve.open_local(str(pair / name)) for name in ("adapter", "reference"))
    named = ReportedReference(str(pair / "reference"), None, "option")
    return CandidateFactory(
        sandbox=sandbox,
        source=source,
        reference=reference,
        repair_prompts=RepairPrompts(ROWS, [], []),
        scoring_prompts=None,
        provenance=Provenance("0" * 32, source.source, named, "0" * 64),
        budget=1 << 20,
        scores=folder / "scores",
        masks=folder / "masks",
        work=folder / "candidates",
        on_progress=ignore,
        in_memory=True,
        source_identities={},
        reference_identities={},
    )


def answer(sandbox: Sandbox, model: Model) -> list[GeneratedAnswer]:
    request = GenerationRequest(model, {"all": [single_turn(row.prompt) for row in ROWS]}, {"all": 12})
    return TransformersGenerator(sandbox, empty_store()).generate(request, ignore).answers["all"]


@pytest.mark.parametrize(("method", "dose"), [("antidote", 0.6), ("scale", 0.95)])
def test_a_trial_in_memory_answers_as_the_written_weights_do(
    trained_pair: Path, tmp_path: Path, method: Method, dose: float
) -> None:
    with Sandbox(tmp_path / "child.log", None) as sandbox:
        factory = build_factory(tmp_path, trained_pair, sandbox)
        masks = build_method_masks(factory, method, [dose])
        with prepare_trial(factory, masks, dose) as model:
            assert model.adapter == factory.source.layout.folder
            in_memory = answer(sandbox, model)
        assert not factory.work.exists()
        with prepare_trial(replace(factory, in_memory=False), masks, dose) as model:
            assert model.edit is None
            assert model.adapter is not None
            assert model.adapter.parent == factory.work
            assert answer(sandbox, model) == in_memory
        assert list(factory.work.iterdir()) == []
        assert answer(sandbox, factory.runnable_model) != in_memory


def test_prompts_that_the_reference_refuses_are_chosen(trained_pair: Path) -> None:
    """The tiny reference refuses the harmful prompts of its world, and answers those of the package."""
    harmful = [PromptRow(prompt) for prompt, _ in harmful_prompts()[:20]]
    varied = read_prompts(prompt_file("varied_harmful"))[:64]
    prompts = RepairPrompts(harmful, [PromptRow("how do i cook rice at home?"), harmful[0]], [], varied, varied[:4])

    def choose(rows: list[PromptRow]) -> ScoringPrompts:
        evaluator = Evaluator(
            TransformersGenerator(InProcessRunner(), empty_store()),
            judges=(),
            choose_answers=lambda _model, _rows, _progress: [],
            gate=Gate(),
            max_new_tokens=16,
            samples=1,
            seed=0,
            task_match="exact",
            calibrations={},
            log=AnswerLog(None),
        )
        reference = Model(trained_pair / "reference")
        return choose_scoring_prompts(prompts, rows, lambda asked: find_refused(evaluator, reference, asked, ignore))

    chosen = choose(harmful)
    assert {row.prompt for row in harmful} == {row.prompt for row in chosen.harmful}
    assert len(chosen.benign) == 6
    assert harmful[0] in chosen.benign
    assert harmful[0] not in chosen.taught
    assert PromptRow("how do i cook rice at home?") in chosen.taught
    few = choose(harmful[:3])
    assert len(few.harmful) == 67, "too few are refused, so all are used"
