"""Scored and untouched tensors, and which references fit, on real tiny checkpoints."""

import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Model
from antidote_ci.repair.targets import (
    EXPERTS,
    NO_LINEAR,
    OUTSIDE,
    SAVED_WHOLE,
    VECTORS,
    list_scored,
    resolve_repair_target,
)
from antidote_ci.repair.targets import require_same_shapes as require
from tests.model.streaming.test_lora import write_adapter
from tests.repair.cases import KINDS, write_case, write_patterned_adapter
from tests.tiny import ALL_LINEARS, write_tiny_llama

CopyOf = Callable[[Path], Path]
Tensors = dict[str, torch.Tensor]


def rewritten(folder: Path, change: Callable[[Tensors], object]) -> CheckpointLayout:
    """Change the tensors of a checkpoint of one file."""
    (path,) = folder.glob("*model.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})
    return read_layout(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_scored_or_listed_as_untouched(kind: str, tmp_path: Path) -> None:
    case = write_case(kind, tmp_path)
    tensors, untouched = list_scored(case.model)
    held = read_layout(case.source).tensors
    assert all(held[each.name].shape == (each.rows, each.columns) for each in tensors)
    patterns = [re.escape(what).replace(r"\*", r"\d+") for each in untouched for what in each.what.split(", ")]
    said = {name for name in held if any(re.fullmatch(pattern, name) for pattern in patterns)}
    assert {each.name for each in tensors} | said == set(held)
    assert not {each.name for each in tensors} & said
    assert sum(each.weights for each in untouched) == sum(prod(held[name].shape) for name in said)


def test_linear_layers_are_scored_in_block_order(tiny_llama: Path) -> None:
    names = [each.name for each in list_scored(Model(tiny_llama))[0]]
    assert len(names) == 14
    assert [int(name.split(".")[2]) for name in names] == [0] * 7 + [1] * 7
    assert all(name.endswith("_proj.weight") for name in names)


def test_experts_and_routers_are_untouched(tmp_path: Path) -> None:
    tensors, untouched = list_scored(write_case("experts", tmp_path).model)
    assert {each.name.split(".")[3] for each in tensors} == {"self_attn"}
    said = {each.why: each for each in untouched}
    assert set(said) == {EXPERTS, NO_LINEAR, VECTORS, OUTSIDE}
    assert "model.layers.*.block_sparse_moe.experts.*.w1.weight" in said[EXPERTS].what
    assert said[EXPERTS].weights == 2 * 4 * 3 * 32 * 48
    assert said[NO_LINEAR].what == "model.layers.*.block_sparse_moe.gate.weight"


def test_saved_modules_of_an_adapter_are_untouched(tmp_path: Path) -> None:
    case = write_case("adapter", tmp_path)
    tensors, (untouched,) = list_scored(case.model)
    assert len(tensors) == 2 * 2 * 3
    assert (untouched.what, untouched.why) == ("base_model.model.model.embed_tokens.weight", SAVED_WHOLE)
    assert {each.rows for each in tensors if each.name.endswith("lora_A.weight")} == {4, 6}


def test_factors_outside_the_blocks_are_untouched(tiny_llama: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path, tiny_llama, {"target_modules": [*ALL_LINEARS, "lm_head"]})
    tensors, (untouched,) = list_scored(Model(tiny_llama, tmp_path))
    assert len(tensors) == 28
    assert untouched.why == OUTSIDE
    assert untouched.weights == 4 * (64 + 290) + 64 * 290  # peft saves the head itself beside its factors


def test_adapter_with_modules_missing_from_its_base_is_refused(tiny_adapter: Path, tmp_path: Path) -> None:
    smaller = write_tiny_llama(tmp_path / "base", layers=1)
    with pytest.raises(ConfigurationError, match=r"model\.layers\.1"):
        list_scored(Model(smaller, tiny_adapter))


def test_target_is_adapter_or_delta(tiny_llama: Path, tiny_adapter: Path) -> None:
    assert resolve_repair_target(Model(tiny_llama, tiny_adapter)) == "adapter"
    assert resolve_repair_target(Model(tiny_llama)) == "delta"


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.wte.weight", "backbone.embeddings.weight"])
def test_vocabulary_rows_may_differ(tiny_llama: Path, copy_of: CopyOf, name: str) -> None:
    def rename(tensors: Tensors, more: int = 0) -> None:
        held = tensors.pop("model.embed_tokens.weight")
        tensors[name] = torch.cat([held, held[:more]])

    plain = rewritten(copy_of(tiny_llama), rename)
    grown = rewritten(copy_of(tiny_llama), lambda tensors: rename(tensors, 7))
    require(grown, plain)
    require(plain, grown)


def test_tied_output_layer_may_be_missing(tiny_llama: Path, copy_of: CopyOf) -> None:
    def untie(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    saved, plain = rewritten(copy_of(tiny_llama), untie), read_layout(tiny_llama)
    require(saved, plain)
    require(plain, saved)


@pytest.mark.parametrize(
    ("name", "shape", "description"),
    [
        ("model.layers.1.mlp.up_proj.weight", None, "no such tensor"),
        ("model.layers.1.mlp.up_proj.weight", (64, 64), r"shape \[64, 64\]"),
        ("model.embed_tokens.weight", (290, 32), r"shape \[290, 32\]"),
        ("model.norm.weight", (32,), r"shape \[32\]"),
    ],
)
def test_wrong_reference_is_refused_by_its_first_tensor(
    name: str, shape: tuple[int, ...] | None, description: str, tiny_llama: Path, copy_of: CopyOf
) -> None:
    def change(tensors: Tensors) -> None:
        del tensors[name]
        if shape is not None:
            tensors[name] = torch.zeros(shape)

    reference = rewritten(copy_of(tiny_llama), change)
    with pytest.raises(ConfigurationError, match=f"{description} where the model has {re.escape(name)}"):
        require(read_layout(tiny_llama), reference)


def test_adapter_as_reference_is_refused(tiny_llama: Path, tiny_adapter: Path) -> None:
    with pytest.raises(ConfigurationError, match="is an adapter"):
        require(read_layout(tiny_llama), read_layout(tiny_adapter))


def test_adapter_of_another_base_is_refused(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    require(read_layout(tiny_adapter), read_layout(tiny_llama))
    require(read_layout(write_patterned_adapter(tmp_path / "patterned", tiny_llama)), read_layout(tiny_llama))
    for hidden, layers in ((32, 2), (64, 1)):
        other = write_tiny_llama(tmp_path / f"{hidden}-{layers}", hidden=hidden, layers=layers)
        with pytest.raises(ConfigurationError, match="but its base has"):
            require(read_layout(tiny_adapter), read_layout(other))


def test_base_without_name_prefix_is_accepted(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    def shorten(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    base = rewritten(copy_of(tiny_llama), shorten)
    require(read_layout(tiny_adapter), base)
    assert len(list_scored(Model(base.folder, tiny_adapter))[0]) == 28


def test_checkpoint_without_linear_layers_is_refused(tiny_llama: Path, copy_of: CopyOf) -> None:
    def empty(tensors: Tensors) -> None:
        for name in [name for name in tensors if "_proj" in name]:
            del tensors[name]

    folder = rewritten(copy_of(tiny_llama), empty).folder
    with pytest.raises(ConfigurationError, match="no linear layer that can be repaired"):
        list_scored(Model(folder))
