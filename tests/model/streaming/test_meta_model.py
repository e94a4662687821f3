"""A skeleton has weights only where and while it is filled, takes each tensor of the files once, and refuses gaps."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.records import Model
from tests.model.streaming import architectures
from tests.model.streaming.architectures import ARCHITECTURES, batches
from tests.model.streaming.streamed import equal, plain_logits, streamed_logits

Tensors = dict[str, torch.Tensor]


def skeleton_of(folder: Path) -> MetaModel:
    return MetaModel(Model(folder), torch.bfloat16, "cpu")


def rewrite(folder: Path, edit: Callable[[Tensors], Tensors]) -> None:
    """All tensors of the shards, as `edit` makes them, in one file."""
    tensors: Tensors = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
        shard.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file(edit(tensors), folder / "model.safetensors", {"format": "pt"})


def parameters(meta_model: MetaModel) -> Tensors:
    return dict(meta_model.network.named_parameters(remove_duplicate=False))


def has_weights(meta_model: MetaModel) -> set[str]:
    return {path for path, parameter in parameters(meta_model).items() if not parameter.is_meta}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_hold_every_tensor_once_and_are_empty_again(architecture: str, tmp_path: Path) -> None:
    skeleton = skeleton_of(architectures.write(architecture, tmp_path))
    parts = [EMBEDDINGS_PART, *skeleton.blocks, HEAD_PART]
    names = [name for part in parts for name in skeleton.tensor_names(part)]
    assert sorted(names) == sorted(skeleton.layout.tensors)
    everywhere: set[str] = set()
    for part in parts:
        with skeleton.load_weights(part):
            filled = has_weights(skeleton)
            assert not any(parameter.requires_grad for parameter in parameters(skeleton).values())
        assert has_weights(skeleton) == set()
        if part in skeleton.blocks:
            assert all(path.startswith(f"{part}.") for path in filled)
        everywhere |= filled
    assert everywhere == parameters(skeleton).keys()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    skeleton = skeleton_of(architectures.write("llama", tmp_path))
    with pytest.raises(KeyError), skeleton.load_weights(*skeleton.blocks):
        raise KeyError
    assert has_weights(skeleton) == set()


@pytest.mark.parametrize(
    ("architecture", "linears"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("phi3", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("gpt-neox", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        # Experts are fused, and their router is a map of its own.
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj"}),
    ],
)
def test_linear_layers_are_found_with_their_tensors(architecture: str, linears: set[str], tmp_path: Path) -> None:
    skeleton = skeleton_of(architectures.write(architecture, tmp_path))
    for block in skeleton.blocks:
        found = skeleton.linear_layers(block)
        assert {linear.path.rpartition(".")[2] for linear in found} == linears
        with skeleton.load_weights(block):
            for linear in found:
                weight = skeleton.network.get_submodule(linear.path).weight
                shard = skeleton.layout.weight_map[linear.tensor]
                assert torch.equal(weight, load_file(skeleton.layout.folder / shard)[linear.tensor])


@pytest.mark.parametrize("kept", ["head alone", "both, and they differ"])
def test_tied_weights_may_be_saved_otherwise_than_config_json_says(kept: str, tmp_path: Path) -> None:
    folder = architectures.write("llama-tied", tmp_path)

    def edit(tensors: Tensors) -> Tensors:
        embeddings = tensors["model.embed_tokens.weight"]
        if kept == "head alone":
            del tensors["model.embed_tokens.weight"]
            return tensors | {"lm_head.weight": embeddings}
        return tensors | {"lm_head.weight": embeddings + 1}

    rewrite(folder, edit)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    streamed = streamed_logits(skeleton_of(folder), batches(), tmp_path / "scratch")
    assert equal(streamed, plain_logits(network, batches()))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
def test_a_single_number_that_is_not_finite_is_found(number: float, stored: str, tmp_path: Path) -> None:
    folder = architectures.write("llama", tmp_path, dtype=stored)
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(tensors: Tensors) -> Tensors:
        tensors[name][5, 7] = number
        return tensors

    rewrite(folder, spoil)
    skeleton = skeleton_of(folder)
    with skeleton.load_weights(skeleton.blocks[0]):
        pass
    with (
        pytest.raises(ConfigurationError, match=f"{name} in .* holds NaN or infinite"),
        skeleton.load_weights(*skeleton.blocks),
    ):
        pass
    assert has_weights(skeleton) == set()


@pytest.mark.parametrize(
    ("architecture", "name", "parameter"),
    [
        ("llama", "model.layers.2.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"),
        ("llama", "lm_head.weight", "lm_head.weight"),
        ("llama-tied", "model.embed_tokens.weight", "(lm_head|model.embed_tokens).weight"),
        ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w1.weight", "model.layers.0.mlp.experts.gate_up_proj"),
    ],
)
def test_missing_weights_are_named(architecture: str, name: str, parameter: str, tmp_path: Path) -> None:
    folder = architectures.write(architecture, tmp_path)
    rewrite(folder, lambda tensors: {other: tensor for other, tensor in tensors.items() if other != name})
    skeleton = skeleton_of(folder)
    with (
        pytest.raises(ConfigurationError, match=f"has no weights for {parameter}"),
        skeleton.load_weights(EMBEDDINGS_PART, *skeleton.blocks, HEAD_PART),
    ):
        pass


def test_weights_of_another_shape_than_the_configuration_s_are_refused(tmp_path: Path) -> None:
    folder = architectures.write("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    skeleton = skeleton_of(folder)
    with (
        pytest.raises(ConfigurationError, match=r"mlp\.down_proj\.weight in .* has shape \[32, 48\], .* \[32, 40\]"),
        skeleton.load_weights(*skeleton.blocks),
    ):
        pass


def test_an_architecture_without_a_list_of_blocks_is_refused(tmp_path: Path) -> None:
    folder = architectures.write("hrm_text", tmp_path)
    with pytest.raises(ConfigurationError, match="the decoder blocks of HrmTextForCausalLM cannot be found"):
        skeleton_of(folder)


def test_a_row_longer_than_the_context_is_named_by_its_number(tmp_path: Path) -> None:
    skeleton = skeleton_of(architectures.write("llama", tmp_path))
    skeleton.require_positions([[3] * 64, [3]])
    with pytest.raises(ConfigurationError, match=r"row 2 has 65 tokens, and .* reads at most 64") as refused:
        skeleton.require_positions([[3] * 64, [3] * 65])
    assert "max_position_embeddings" in str(refused.value.cause)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_halfway_lies_the_mean_of_both_and_to_itself_nothing_changes(architecture: str, tmp_path: Path) -> None:
    near, far = (architectures.write(architecture, tmp_path / name) for name in ("near", "far"))
    rewrite(far, lambda tensors: {name: -3 * tensor for name, tensor in tensors.items()})

    def weights(halfway_to: Path | None) -> Tensors:
        skeleton = MetaModel(Model(near), torch.float32, "cpu", halfway_to)
        with skeleton.load_weights(EMBEDDINGS_PART, *skeleton.blocks, HEAD_PART):
            return {path: parameter.clone() for path, parameter in parameters(skeleton).items()}

    alone, itself, between = weights(None), weights(near), weights(far)
    for path, weight in alone.items():
        assert torch.equal(itself[path], weight)
        torch.testing.assert_close(between[path], -weight, rtol=0.01, atol=1e-6)
