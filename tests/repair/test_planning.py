"""Repair plans and drift, compared with the files, the masks and plain formulas."""

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Method, Model, RepairPlan, ReportedReference, ReportedSource
from antidote_ci.repair import planning
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.planning import MemoryRequest, PlanRequest, estimate_memory, layer_name, plan_repair
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.repair.targets import list_scored
from tests.builders import ignore
from tests.conftest import CopyOf
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
        reference_folder=reference,
        dose=dose,
        memory=MemoryRequest(
            model=Model(reference, folder) if kind == "adapter" else Model(folder),
            method=method,
            target="adapter" if kind == "adapter" else "delta",
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


def test_adapter_and_merged_weights_have_the_same_drift(pair: Path) -> None:
    adapter, merged = planned(pair, "adapter"), planned(pair, "merged")
    assert [each.layer for each in adapter.drift] == ["model.layers.0", "model.layers.1"]
    assert [each.layer for each in merged.drift] == ["model.layers.0", "model.layers.1"]
    for one, other in zip(adapter.drift, merged.drift, strict=True):
        assert one.drift == pytest.approx(other.drift, rel=1e-4)


def test_drift_is_the_ratio_of_norms_of_scored_tensors(pair: Path) -> None:
    plan = planned(pair, "merged")
    after = load_file(pair / "merged" / "model.safetensors")
    before = load_file(pair / "reference" / "model.safetensors")
    for layer in plan.drift:
        names = [each.name for each in plan.tensors if each.name.startswith(layer.layer + ".")]
        assert names
        moved = torch.cat([(after[name] - before[name]).flatten() for name in names]).double()
        stood = torch.cat([before[name].flatten() for name in names]).double()
        assert layer.drift == pytest.approx(float(moved.norm() / stood.norm()))


@pytest.mark.parametrize("kind", ["adapter", "merged"])
@pytest.mark.parametrize("dose", [0.0, 0.003, 0.05, 0.5, 1.0])
def test_planned_counts_match_the_mask(pair: Path, tmp_path: Path, kind: str, dose: float) -> None:
    plan, plan_request = planned(pair, kind, dose=dose), request(pair, kind)
    source = plan_request.memory.model.adapter or plan_request.memory.model.folder
    reference = plan_request.reference_folder if kind == "merged" else None
    scores = score_weights(
        ScoreRequest(
            plan_request.memory.model,
            source,
            reference,
            plan_request.memory.target,
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
    [mask] = write_mask_files(MaskRequest(source, reference, scores, None, [dose], True, tmp_path), ignore)
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


def test_plan_notes_a_different_effective_dose(pair: Path) -> None:
    assert "in effect" in planned(pair, "adapter", dose=0.01).notes[0]  # one of B's 8 columns at least
    assert planned(pair, "merged", dose=0.25).notes == []


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
    largest = max(matrix.entries for matrix in list_scored(model, "delta")[0])
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


@pytest.mark.parametrize("folder", ["merged", "reference"])
def test_nan_weights_are_refused_by_name(pair: Path, copy_of: CopyOf, folder: str) -> None:
    broken = copy_of(pair / folder)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    plan_request = request(pair, "merged")
    if folder == "merged":
        plan_request = replace(plan_request, memory=replace(plan_request.memory, model=Model(broken)))
    else:
        plan_request = replace(plan_request, reference_folder=broken)
    with pytest.raises(ConfigurationError, match=rf"up_proj\.weight in {folder} holds NaN"):
        plan_repair(plan_request, ignore)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.experts.5.w1.weight", "model.layers.3"),
        ("base_model.model.model.layers.12.self_attn.q_proj.lora_A.weight", "model.layers.12"),
        ("h.0.attn.c_attn.weight", "h.0"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_layer_name_is_the_prefix_up_to_the_number(name: str, layer: str) -> None:
    assert layer_name(name) == layer


SIZES = st.integers(1, 40)
RANKS = st.integers(1, 12)
DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
SEEDS = st.integers(0, 99)


def normal(rows: int, columns: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(SIZES, SIZES, DTYPES, DTYPES, SEEDS)
def test_norms_match_plain_sums(rows: int, columns: int, one: torch.dtype, other: torch.dtype, seed: int) -> None:
    weight, reference = normal(rows, columns, one, seed), normal(rows, columns, other, seed + 1)
    pairs = list(zip(weight.flatten().tolist(), reference.flatten().tolist(), strict=True))
    assert planning.squared_distance(weight, reference) == pytest.approx(math.fsum((w - r) ** 2 for w, r in pairs))
    assert planning.squared_norm(reference) == pytest.approx(math.fsum(r**2 for _, r in pairs))


@given(SIZES, SIZES, RANKS, DTYPES, st.floats(0.01, 64), SEEDS)
def test_gram_matrices_give_the_norm_of_the_product(
    rows: int, columns: int, rank: int, dtype: torch.dtype, scale: float, seed: int
) -> None:
    a, b = normal(rank, columns, dtype, seed), normal(rows, rank, dtype, seed + 1)
    dense = scale * (b.double() @ a.double())
    assert planning.squared_product(a, b, scale) == pytest.approx(float(dense.square().sum()), rel=1e-9)


def test_cancelling_factors_have_no_norm() -> None:
    a = normal(1, 16, torch.float32, 0).repeat(2, 1)
    b = torch.tensor([1.0, -1.0]).repeat(8, 1)
    assert 0 <= planning.squared_product(a, b, 1.0) < 1e-12


def test_matrix_larger_than_one_part_is_summed() -> None:
    weight = normal(3, planning.ENTRIES_AT_ONCE // 2 + 1, torch.bfloat16, 0)
    assert planning.squared_norm(weight) == pytest.approx(float(weight.double().square().sum()))
    assert planning.squared_distance(weight, 3 * weight) == pytest.approx(
        float((weight.double() - (3 * weight).double()).square().sum())
    )


def test_nan_gives_a_nan_norm() -> None:
    for value in (math.nan, math.inf):
        assert not math.isfinite(planning.squared_norm(torch.tensor([[1.0, value]])))
    # the square of the largest bfloat16 is far beyond float32
    assert math.isfinite(planning.squared_norm(torch.full((4, 4), 3e38, dtype=torch.bfloat16)))


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_relative_drift_handles_a_zero_reference(moved: float, stood: float) -> None:
    assert planning.relative_drift(moved, stood) == pytest.approx(math.sqrt(moved) / math.sqrt(stood))
    assert planning.relative_drift(moved, 0.0) == (1.0 if moved else 0.0)
