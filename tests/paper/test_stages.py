import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antidote_ci.errors import ConfigurationError
from benchmarks.paper import stages
from benchmarks.paper.answers import own_answers, whole
from benchmarks.paper.data import Data
from benchmarks.paper.keeping import kept
from benchmarks.paper.loop import SCALE, Diverged
from benchmarks.paper.records import Attack, Training
from benchmarks.paper.stages import Alignment, quiet
from tests.paper import small

pytestmark = pytest.mark.slow

TRAINING = Training(epochs=1, rate=1e-2, batch=4, rank=4)
ALIGNMENT = Alignment(TRAINING, rows=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(small.write_data(tmp_path_factory.mktemp("data")))


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "CONTRASTS", 8)


def require_sum(reference: Path, made: Path) -> None:
    """merged = reference + scale * B A, to the last bit."""
    base, merged = load_file(reference / "model.safetensors"), load_file(made / "merged" / "model.safetensors")
    factors = load_file(made / "adapter" / "adapter_model.safetensors")
    moved = 0
    for name, weight in base.items():
        module = "base_model.model." + name.removesuffix(".weight")
        if (a := factors.get(f"{module}.lora_A.weight")) is not None:
            delta = SCALE * (factors[f"{module}.lora_B.weight"].float() @ a.float())
            moved += int(delta.abs().max() > 0)
            # One unit in the last place of bfloat16: a sum may be taken in another order.
            assert torch.allclose(merged[name].float(), weight.float() + delta, rtol=2**-7, atol=1e-5)
        else:
            assert torch.equal(merged[name], weight)
    assert moved


def test_an_alignment_is_merged_and_an_attack_stays_an_adapter(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    aligned = stages.align("sft", tmp_path, data, tiny_llama, ALIGNMENT)
    require_sum(tiny_llama, aligned.parent)
    attacked = stages.attack(Attack("sft", "sst2", TRAINING, rows=12), aligned, tmp_path, data, tiny_llama, ALIGNMENT)
    assert (attacked / "adapter" / "adapter_model.safetensors").exists()
    assert not (attacked / "merged").exists()
    assert stages.seconds(attacked) > 0


def test_other_rows_are_trained_on_again(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data.folder, folder)
    work = tmp_path / "work"
    attack = Attack("sft", "sst2", TRAINING, rows=12)
    before = stages.align("sft", work, Data(folder), tiny_llama, ALIGNMENT)
    attacked = stages.attack(attack, before, work, Data(folder))
    for name in ("safety_refusals.jsonl", "sst2_train.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(reversed(lines)), encoding="utf-8")
    assert stages.align("sft", work, Data(folder), tiny_llama, ALIGNMENT) != before
    assert stages.attack(attack, before, work, Data(folder)) != attacked


def test_three_alignments_serve_five_defences(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    found = {
        name: stages.align(name, tmp_path, data, tiny_llama, ALIGNMENT)
        for name in ("sft", "vaccine", "repnoise", "lisa", "ldifs")
    }
    assert found["sft"] == found["lisa"] == found["ldifs"]
    weights = [
        load_file(found[name] / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
        for name in ("sft", "vaccine", "repnoise")
    ]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_defence_of_the_second_stage_gives_another_model(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    def factor(name: str) -> torch.Tensor:
        defence = {"sft": "sft", "lisa": "lisa", "ldifs": "ldifs"}[name]
        attack = Attack(defence, "sst2", TRAINING, rows=12)  # type: ignore[arg-type] # of these three
        made = stages.attack(attack, tiny_llama, tmp_path, data, tiny_llama, ALIGNMENT)
        factors = load_file(made / "adapter" / "adapter_model.safetensors")
        return factors["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]

    assert not torch.equal(factor("sft"), factor("lisa"))
    assert not torch.equal(factor("sft"), factor("ldifs"))


def test_what_is_there_is_not_made_again(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    attack = Attack("sft", "sst2", TRAINING, rows=12)
    made = stages.attack(attack, tiny_llama, tmp_path, data)
    before = (made / "training.json").stat().st_mtime_ns
    assert stages.attack(attack, tiny_llama, tmp_path, data) == made
    assert (made / "training.json").stat().st_mtime_ns == before
    other = Attack("sft", "sst2", TRAINING, rows=12, seed=5)
    assert stages.attack(other, tiny_llama, tmp_path, data) != made


def test_a_diverged_training_leaves_nothing_under_its_name(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    attack = Attack("sft", "sst2", Training(1, float("inf"), 4, 4), rows=12)
    with pytest.raises(Diverged):
        stages.attack(attack, tiny_llama, tmp_path, data)
    assert not [path for path in (tmp_path / "attacked").iterdir() if path.suffix != ".part"]


def test_too_little_data_is_said(data: Data, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="safety_refusals"):
        stages.align("sft", tmp_path, data, tiny_llama, Alignment(TRAINING, rows=60))


def fill_and_die(part: Path) -> None:
    (part / "half").write_text("half")
    os._exit(9)


def test_a_kill_leaves_nothing_half(tmp_path: Path) -> None:
    destination = tmp_path / "made"
    process = multiprocessing.get_context("fork").Process(target=kept, args=(destination, fill_and_die))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not destination.exists()
    kept(destination, lambda part: (part / "whole").write_text("whole"))
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "whole"]


def test_own_answers_are_asked_for_once(tiny_llama: Path, tmp_path: Path) -> None:
    first = own_answers(tiny_llama, ["what is tea?"], tmp_path, quiet)
    (path,) = tmp_path.rglob("answers.json")
    path.write_text(json.dumps(["It is a hot drink made from leaves."]))
    (second,) = own_answers(tiny_llama, ["what is tea?"], tmp_path, quiet)
    assert second.response.startswith("It is")
    assert second not in first


def test_an_answer_that_was_cut_ends_with_a_sentence() -> None:
    assert whole("One. Two! Thr") == "One. Two!"
    assert whole("On and on") == ""
