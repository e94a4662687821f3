"""A meta model loads each tensor once, only while it is needed, and refuses missing or damaged weights."""

import json
import subprocess
import sys
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


def meta_model_of(folder: Path) -> MetaModel:
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


def loaded_parameters(meta_model: MetaModel) -> set[str]:
    return {path for path, parameter in parameters(meta_model).items() if not parameter.is_meta}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_load_every_tensor_once_and_unload_it(architecture: str, tmp_path: Path) -> None:
    meta_model = meta_model_of(architectures.write(architecture, tmp_path))
    parts = [EMBEDDINGS_PART, *meta_model.blocks, HEAD_PART]
    names = [name for part in parts for name in meta_model.tensor_names(part)]
    assert sorted(names) == sorted(meta_model.layout.tensors)
    all_loaded: set[str] = set()
    for part in parts:
        with meta_model.load_weights(part):
            loaded = loaded_parameters(meta_model)
            assert not any(parameter.requires_grad for parameter in parameters(meta_model).values())
        assert loaded_parameters(meta_model) == set()
        if part in meta_model.blocks:
            assert all(path.startswith(f"{part}.") for path in loaded)
        all_loaded |= loaded
    assert all_loaded == parameters(meta_model).keys()


def test_unchanged_tensors_are_loaded_without_a_list_of_all_tensors(tmp_path: Path) -> None:
    meta_model = meta_model_of(architectures.write("llama-tied", tmp_path))

    def fail() -> None:
        raise AssertionError("the time of a load would grow with the number of blocks")

    meta_model.network.state_dict = fail
    for part in (EMBEDDINGS_PART, *meta_model.blocks, HEAD_PART):
        with meta_model.load_weights(part):
            pass


def test_weights_are_unloaded_after_an_exception(tmp_path: Path) -> None:
    meta_model = meta_model_of(architectures.write("llama", tmp_path))
    with pytest.raises(KeyError), meta_model.load_weights(*meta_model.blocks):
        raise KeyError
    assert loaded_parameters(meta_model) == set()


@pytest.mark.parametrize(
    ("architecture", "linears"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("phi3", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("gpt-neox", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        # Experts are fused, and their router is not a Linear.
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj"}),
    ],
)
def test_linear_layers_are_listed_with_their_tensors(architecture: str, linears: set[str], tmp_path: Path) -> None:
    meta_model = meta_model_of(architectures.write(architecture, tmp_path))
    for block in meta_model.blocks:
        layers = meta_model.linear_layers(block)
        assert {linear.path.rpartition(".")[2] for linear in layers} == linears
        with meta_model.load_weights(block):
            for linear in layers:
                weight = meta_model.network.get_submodule(linear.path).weight
                shard = meta_model.layout.weight_map[linear.tensor]
                assert torch.equal(weight, load_file(meta_model.layout.folder / shard)[linear.tensor])


@pytest.mark.parametrize("saved", ["head alone", "both, and they differ"])
def test_tied_weights_are_loaded_as_saved_despite_config_json(saved: str, tmp_path: Path) -> None:
    folder = architectures.write("llama-tied", tmp_path)

    def edit(tensors: Tensors) -> Tensors:
        embeddings = tensors["model.embed_tokens.weight"]
        if saved == "head alone":
            del tensors["model.embed_tokens.weight"]
            return tensors | {"lm_head.weight": embeddings}
        return tensors | {"lm_head.weight": embeddings + 1}

    rewrite(folder, edit)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    streamed = streamed_logits(meta_model_of(folder), batches(), tmp_path / "scratch")
    assert equal(streamed, plain_logits(network, batches()))


@pytest.mark.parametrize(
    ("architecture", "name", "parameter"),
    [
        ("llama", "model.layers.2.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"),
        ("llama", "lm_head.weight", "lm_head.weight"),
        ("llama-tied", "model.embed_tokens.weight", "(lm_head|model.embed_tokens).weight"),
        ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w1.weight", "model.layers.0.mlp.experts.gate_up_proj"),
    ],
)
def test_missing_weights_are_refused_by_name(architecture: str, name: str, parameter: str, tmp_path: Path) -> None:
    folder = architectures.write(architecture, tmp_path)
    rewrite(
        folder, lambda tensors: {tensor_name: tensor for tensor_name, tensor in tensors.items() if tensor_name != name}
    )
    meta_model = meta_model_of(folder)
    with (
        pytest.raises(ConfigurationError, match=f"has no weights for {parameter}"),
        meta_model.load_weights(EMBEDDINGS_PART, *meta_model.blocks, HEAD_PART),
    ):
        pass


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = architectures.write("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    meta_model = meta_model_of(folder)
    with (
        pytest.raises(ConfigurationError, match=r"mlp\.down_proj\.weight in .* has shape \[32, 48\], .* \[32, 40\]"),
        meta_model.load_weights(*meta_model.blocks),
    ):
        pass


def test_architecture_without_a_list_of_blocks_is_refused(tmp_path: Path) -> None:
    folder = architectures.write("hrm_text", tmp_path)
    with pytest.raises(ConfigurationError, match="the decoder blocks of HrmTextForCausalLM cannot be found"):
        meta_model_of(folder)


def test_row_longer_than_the_context_is_refused_by_number(tmp_path: Path) -> None:
    meta_model = meta_model_of(architectures.write("llama", tmp_path))
    meta_model.require_positions([[3] * 64, [3]])
    with pytest.raises(ConfigurationError, match=r"row 2 has 65 tokens, and .* reads at most 64") as refused:
        meta_model.require_positions([[3] * 64, [3] * 65])
    assert "max_position_embeddings" in str(refused.value.cause)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_halfway_weights_are_the_mean_of_both_models(architecture: str, tmp_path: Path) -> None:
    near, far = (architectures.write(architecture, tmp_path / name) for name in ("near", "far"))
    rewrite(far, lambda tensors: {name: -3 * tensor for name, tensor in tensors.items()})

    def weights(halfway_to: Path | None) -> Tensors:
        meta_model = MetaModel(Model(near), torch.float32, "cpu", halfway_to)
        with meta_model.load_weights(EMBEDDINGS_PART, *meta_model.blocks, HEAD_PART):
            return {path: parameter.clone() for path, parameter in parameters(meta_model).items()}

    original, halfway_to_itself, halfway = weights(None), weights(near), weights(far)
    for path, weight in original.items():
        assert torch.equal(halfway_to_itself[path], weight)
        torch.testing.assert_close(halfway[path], -weight, rtol=0.01, atol=1e-6)


def test_the_mean_of_two_large_tensors_needs_one_copy_of_each(tmp_path: Path) -> None:
    """An embedding of a large model has gigabytes, and is averaged without copies in float32."""
    code = f"""
from pathlib import Path
import torch
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model.streaming.weights import LazyTensor
folders = [Path({str(tmp_path)!r}, name) for name in ("one", "two")]
layouts = [read_layout(folder) for folder in folders]
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
mean = LazyTensor(layouts[0], "weight", layouts[1]).read()
print(peak() - before, float(mean[0].float().mean()))
"""
    for name, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
        save_file(
            {"weight": torch.full((32768, 1024), value, dtype=torch.bfloat16)}, tmp_path / name / "model.safetensors"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kibibytes, mean = map(float, done.stdout.split())
    assert mean == 1.5
    assert kibibytes * 1024 < 2.5 * 2 * 32768 * 1024
