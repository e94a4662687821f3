"""Every command and request by which a checkpoint reaches a framework checks it first."""

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import antidote_ci
from antidote_ci.api import repair
from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.model.checkpoint_check import check_checkpoint, open_sandbox
from antidote_ci.pipeline.configuration import configure
from antidote_ci.pipeline.evaluator import calibrate_judge
from antidote_ci.pipeline.repair import RepairConfig, plan_repair_command
from antidote_ci.policy import EvaluationSection, Policy
from antidote_ci.records import Model, PromptRow
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.report.console import Console
from tests.builders import ignore
from tests.evaluation.judges.tiny_judges import write_tiny_qwen3guard
from tests.hostile.corpus import FIXTURES
from tests.hostile.fixture import setting

ATTACKS = {fixture.name: fixture for fixture in FIXTURES}
Attack = Callable[[Path, str], Path]


@pytest.fixture
def attack(tmp_path: Path) -> Attack:
    """Copies a checkpoint and adds the attack of a fixture that only the child's check can refuse."""

    def copy(folder: Path, name: str) -> Path:
        assert ATTACKS[name].own_process
        hostile = shutil.copytree(folder, tmp_path / name)
        ATTACKS[name].build(hostile)
        return hostile

    return copy


def test_a_planned_repair_checks_the_model(tiny_llama: Path, attack: Attack, tmp_path: Path) -> None:
    """The plan reads only names and sizes of the reference."""
    config = configure(attack(tiny_llama, "growing-text"), reference=tiny_llama, out=tmp_path / "out")
    with pytest.raises(UnsafeCheckpoint, match="template of growing-text"):
        plan_repair_command(RepairConfig(config, "scale", 0.5), Console("silent"))


def test_the_api_checks_a_reference_that_the_method_does_not_run(
    tiny_llama: Path, attack: Attack, tmp_path: Path
) -> None:
    reference = attack(tiny_llama, "growing-text")
    with pytest.raises(UnsafeCheckpoint, match="template of growing-text"):
        repair(tiny_llama, method="scale", dose=0.5, reference=reference, out=tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_a_reference_that_scores_the_weights_is_checked(tiny_llama: Path, attack: Attack, tmp_path: Path) -> None:
    request = ScoreRequest(
        model=Model(tiny_llama),
        reference=Model(attack(tiny_llama, "growing-text")),
        method="taylor",
        rows=[PromptRow("how do i boil an egg?")],
        benign=["how do i cook rice?"],
        taught=[],
        task=[],
        folder=tmp_path / "scores",
        budget=1 << 20,
    )
    with open_sandbox(tmp_path / "log") as sandbox, pytest.raises(UnsafeCheckpoint, match="template of growing-text"):
        sandbox.call(score_weights, request, ignore, outputs=[tmp_path / "scores"])


def test_a_judge_that_is_calibrated_is_checked(attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIDOTE_CACHE", str(tmp_path / "cache"))
    judge = attack(write_tiny_qwen3guard(tmp_path / "guard"), "weights-that-are-no-numbers")
    labels, out = tmp_path / "labels.jsonl", tmp_path / "calibration.json"
    rows = [{"prompt": f"p{n}", "response": "No.", "label": "harmful" if n % 2 else "safe"} for n in range(60)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = Policy(evaluation=EvaluationSection(judge=f"qwen3guard@{judge}"))
    with pytest.raises(UnsafeCheckpoint, match="holds NaN"):
        calibrate_judge(policy, labels, out, Console("silent"))
    assert not out.exists()


def test_an_adapter_is_checked_before_its_tokenizer_is_opened(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check in the child is complete: it needs no earlier one."""
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    shutil.copy(tiny_llama / "tokenizer_config.json", adapter)
    setting("tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Tokenizer", None]})(adapter)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", None)
    with pytest.raises(UnsafeCheckpoint, match="auto_map"):
        check_checkpoint(Model(tiny_llama, adapter), ignore)


def test_code_of_a_child_makes_no_model_from_a_path() -> None:
    """The sandbox checks the models of a request. A path in it may name a checkpoint that nobody checked."""
    package = Path(antidote_ci.__file__).parent
    modules = [path for name in ("model", "repair", "sandbox", "checkpoint") for path in (package / name).rglob("*.py")]
    assert len(modules) > 50
    for module in modules:
        called = [node.func for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
        assert not [name for name in called if isinstance(name, ast.Name) and name.id == "Model"], module
