"""Repair plans, compared with the files, the masks and plain formulas."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.records import Method, Model, RepairPlan, ReportedReference, ReportedSource
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.planning import MemoryRequest, PlanRequest, estimate_memory, plan_repair
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.repair.targets import list_scored
from tests.builders import ignore
from tests.tiny import save, write_tiny_adapter, write_tiny_llama

REFERENCE = ReportedReference("tiny/reference", None, "option")
BUDGET = 1_000_000


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a reference, an adapter on it, and the merged weights."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("pair")
    reference = write_tiny_llama(folder / "reference")
    adapter = write_tiny_adapter(folder / "adapter", reference)
    network = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    merged = PeftModel.from_pretrained(network, adapter).merge_and_unload()
    save(merged, AutoTokenizer.from_pretrained(reference), folder / "merged")
    return folder


def request(pair: Path, kind: str, method: Method = "random", dose: float = 0.1) -> PlanRequest:
    reference, folder = pair / "reference", pair / ("adapter" if kind == "adapter" else "merged")
    return PlanRequest(
        source=ReportedSource("tiny/model", None, "adapter" if kind == "adapter" else "full"),
        reference=REFERENCE,
        dose=dose,
        memory=MemoryRequest(
            model=Model(reference, folder) if kind == "adapter" else Model(folder),
            method=method,
            texts=[400] * 16,
            budget=BUDGET,
        ),
    )


def planned(pair: Path, kind: str, method: Method = "random", dose: float = 0.1) -> RepairPlan:
    return plan_repair(request(pair, kind, method, dose), ignore)


@pytest.mark.parametrize("method", ["taylor", "antidote", "scale"])
def test_memory_is_estimated_without_a_plan(pair: Path, method: Method) -> None:
    plan = request(pair, "merged", method)
    assert estimate_memory(plan.memory, ignore) == plan_repair(plan, ignore).memory_bytes > 0


@pytest.mark.parametrize("kind", ["adapter", "merged"])
@pytest.mark.parametrize("dose", [0.0, 0.003, 0.05, 0.5, 1.0])
def test_planned_counts_match_the_mask(pair: Path, tmp_path: Path, kind: str, dose: float) -> None:
    plan, plan_request = planned(pair, kind, dose=dose), request(pair, kind)
    source = plan_request.memory.model.adapter or plan_request.memory.model.folder
    reference = Model(pair / "reference") if kind == "merged" else None
    scores = score_weights(
        ScoreRequest(
            plan_request.memory.model,
            reference,
            None,
            [],
            [],
            [],
            [],
            tmp_path,
            plan_request.memory.budget,
        ),
        ignore,
    )
    restored = reference.folder if reference else None
    [mask] = write_mask_files(MaskRequest(source, restored, scores, None, [dose], tmp_path), ignore)
    held = sum(int(bits.item()).bit_count() for packed in load_file(mask.path).values() for bits in packed)
    assert held == plan.entries_covered
    assert plan.effective_dose == mask.effective_dose
    assert plan.tensors == scores.tensors
    assert plan.left_alone == scores.left_alone
    files = [mask.path, *source.glob("*.safetensors")]
    assert plan.bytes_written == sum(path.stat().st_size - read_header(path).data_start for path in files)


def test_scale_counts_the_entries_it_multiplies(pair: Path) -> None:
    whole, factors = planned(pair, "merged", "scale"), planned(pair, "adapter", "scale")
    assert whole.entries_covered == sum(each.rows * each.columns for each in whole.tensors)
    assert factors.entries_covered == sum(each.rows * each.columns for each in factors.tensors if "lora_B" in each.name)
    assert whole.per is factors.per is None
    assert whole.effective_dose == 0.1
    assert planned(pair, "merged", "scale", 0.0).entries_covered == 0


def test_estimates_grow_with_texts_up_to_the_budget(pair: Path) -> None:
    few = request(pair, "merged", "antidote")
    many = replace(few.memory, texts=[400] * 10**6)
    short, long, open_ended = (
        plan_repair(replace(few, memory=needs), ignore) for needs in (few.memory, many, replace(many, budget=10**12))
    )
    assert short.seconds < long.seconds == open_ended.seconds
    assert short.memory_bytes < long.memory_bytes < open_ended.memory_bytes
    assert long.memory_bytes - short.memory_bytes < BUDGET
    assert planned(pair, "merged", "taylor").memory_bytes > short.memory_bytes
    assert planned(pair, "merged", "random").seconds < short.seconds


def test_bytes_written_by_each_method(pair: Path) -> None:
    weights = count_weight_bytes(read_layout(pair / "merged"))
    tensors = planned(pair, "merged").tensors
    entries, columns = sum(each.rows * each.columns for each in tensors), sum(each.columns for each in tensors)
    added = {
        "scale": 0,
        "random": entries // 8,
        "antidote": entries // 8 + 4 * columns,
        "taylor": entries // 8 + 4 * entries,
    }
    # Before the weights of `taylor`: gains and costs of every entry, the scores of the largest matrix, and the logits
    # of eight tokens for each of the 16 texts.
    vocabulary = load_file(pair / "merged" / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    scratch = 8 * entries + 4 * max(each.rows * each.columns for each in tensors) + 2 * vocabulary * 16 * 8
    for method in get_args(Method):
        needed = max(weights + added[method], scratch if method == "taylor" else 0)
        assert planned(pair, "merged", method).bytes_written == needed, method


@pytest.mark.parametrize(("dtype", "scale", "random"), [("bfloat16", 10, 13), ("float32", 18, 18)])
def test_memory_without_scoring_is_that_of_masking_or_writing(
    tmp_path: Path, dtype: str, scale: int, random: int
) -> None:
    """The values are bytes per entry of the largest matrix."""
    model = Model(write_tiny_llama(tmp_path / "model", dtype=dtype))
    needs = replace(request(tmp_path, "merged").memory, model=model)
    largest = max(matrix.entries for matrix in list_scored(model)[0])
    assert estimate_memory(replace(needs, method="scale"), ignore) == scale * largest
    assert estimate_memory(needs, ignore) == random * largest


@pytest.mark.parametrize(("method", "passes"), [("scale", 0), ("random", 0), ("antidote", 1), ("taylor", 11)])
def test_seconds_are_estimated_from_passes_and_bytes(pair: Path, method: Method, passes: int) -> None:
    tokens = 16 * 400 / 4
    entries = sum(tensor.numel() for tensor in load_file(pair / "merged" / "model.safetensors").values())
    expected = 4 + passes * entries * tokens / 2e11 + count_weight_bytes(read_layout(pair / "merged")) / 1.5e8
    assert planned(pair, "merged", method).seconds == pytest.approx(expected)


def test_scoring_memory_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", layers=4)
    needs = replace(request(tmp_path, "merged", "antidote").memory, model=Model(model))
    shapes = {name: tensor.shape for name, tensor in load_file(model / "model.safetensors").items()}
    layer, outside = (
        sum(shape.numel() for name, shape in shapes.items() if name.startswith(part) == inside)
        for part, inside in (("model.layers.0.", True), ("model.layers.", False))
    )
    stored = computed = torch.bfloat16.itemsize
    width, widest, tokens = 64, max(shape[0] for name, shape in shapes.items() if "proj" in name), 16 * 100
    passing, waiting = 3 * computed * (width + widest) * tokens, computed * width * tokens
    long = replace(needs, budget=10**9)
    assert estimate_memory(long, ignore) == layer * (stored + computed) + passing + waiting
    with_gradients = layer * (stored + computed + computed + 2 * 4) + passing
    assert estimate_memory(replace(long, method="taylor"), ignore) == with_gradients + (4 + 1) * waiting
    # Of one short text the network itself is the largest: `taylor` has all of it in memory while answers begin.
    short, deep = replace(needs, texts=[4], budget=0), write_tiny_llama(tmp_path / "deep", layers=40)
    assert estimate_memory(short, ignore) == layer * (stored + computed) + passing // tokens
    deep_needs = replace(short, method="taylor", model=Model(deep))
    assert estimate_memory(deep_needs, ignore) == (40 * layer + outside) * computed


def test_memory_of_a_large_embedding_exceeds_a_block(tmp_path: Path) -> None:
    """The embedding is loaded before the first block; an untied output layer is loaded for gradients only."""
    model = write_tiny_llama(tmp_path / "model", hidden=16, tie=False)
    needs = replace(request(tmp_path, "merged", "antidote").memory, model=Model(model), texts=[4], budget=0)
    shapes = {name: tensor.shape for name, tensor in load_file(model / "model.safetensors").items()}
    outside = {name: shape.numel() for name, shape in shapes.items() if not name.startswith("model.layers.")}
    held = 2 * torch.bfloat16.itemsize  # as it is stored, and as it is computed with
    head = outside.pop("lm_head.weight")
    assert estimate_memory(needs, ignore) == sum(outside.values()) * held
    logits = 6 * 4 * shapes["lm_head.weight"][0] * 8 * 8  # eight rows with eight tokens of answers
    with_gradients = (sum(outside.values()) + head) * held + logits
    assert estimate_memory(replace(needs, method="taylor"), ignore) == with_gradients
