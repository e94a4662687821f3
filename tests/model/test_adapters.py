"""Adapters that peft would load differently from their files are refused before a weight is read."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import loading
from antidote_ci.model.adapters import require_complete
from antidote_ci.model.loading import load_model
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import Model
from tests.model.streaming import architectures
from tests.model.streaming.architectures import batches
from tests.model.streaming.streamed import equal, plain_logits
from tests.model.streaming.test_lora import ADAPTERS, wrapped, write_adapter

# peft warns about tied weights and about patterns that match nothing
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

IGNORED: list[dict[str, Any]] = [
    {"target_modules": ["q_proj"]},
    {"target_modules": r".*layers\.0.*(q|v)_proj"},
    {"layers_to_transform": [0]},
    {"exclude_modules": ["v_proj"]},
]
INITIALISED: list[dict[str, Any]] = [
    {"target_modules": ["q_proj", "v_proj", "o_proj"]},
    {"target_modules": "all-linear"},
]
MISMATCHES: list[dict[str, Any]] = [
    {"r": 8},
    {"rank_pattern": {"q_proj": 2}},
    {"modules_to_save": ["lm_head"]},
    {"target_modules": ["another"]},
    {"target_modules": 5},
]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A base, and an adapter with factors for two layers of each block."""
    base = architectures.write("llama", tmp_path / "base")
    write_adapter(tmp_path / "adapter", base, {"target_modules": ["q_proj", "v_proj"]})
    return Model(base, tmp_path / "adapter")


def change_config(model: Model, changes: dict[str, Any]) -> Model:
    """Change adapter_config.json and keep the weights."""
    assert model.adapter is not None
    path = model.adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return model


def require_refused(model: Model, kind: type[AntidoteError], match: str) -> None:
    with pytest.raises(kind, match=match):
        require_complete(model)


@pytest.mark.parametrize("changes", IGNORED)
def test_factors_that_peft_would_ignore_are_refused(model: Model, changes: dict[str, Any]) -> None:
    require_refused(
        change_config(model, changes), UnsafeCheckpoint, r"holds weights for model\.layers\..* does not name"
    )


@pytest.mark.parametrize("changes", INITIALISED)
def test_factors_that_peft_would_initialise_are_refused(model: Model, changes: dict[str, Any]) -> None:
    require_refused(change_config(model, changes), ConfigurationError, r"has no weights for model\.layers\.0\.")


@pytest.mark.parametrize("changes", MISMATCHES)
def test_adapter_that_peft_cannot_load_is_a_configuration_error(model: Model, changes: dict[str, Any]) -> None:
    require_refused(change_config(model, changes), ConfigurationError, "the adapter adapter does not fit its base")


def test_missing_factors_are_refused(model: Model) -> None:
    assert model.adapter is not None
    path = model.adapter / "adapter_model.safetensors"
    remaining = {name: tensor for name, tensor in load_file(path).items() if "layers.1.self_attn.v_proj" not in name}
    save_file(remaining, path)
    require_refused(model, ConfigurationError, r"has no weights for model\.layers\.1\.self_attn\.v_proj")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_complete_adapter_gives_the_same_logits_merged_and_unmerged(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.float32))
    architecture, config = ADAPTERS[kind]
    base, adapter = architectures.write(architecture, tmp_path / "base"), tmp_path / "adapter"
    write_adapter(adapter, base, config)
    require_complete(Model(base, adapter))
    network = load_model(Model(base, adapter), merge=True)
    expected = plain_logits(wrapped(base, adapter, torch.float32), batches())
    torch.testing.assert_close(plain_logits(network, batches()), expected, atol=1e-5, rtol=1e-4)
    network.save_pretrained(tmp_path / "merged")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert equal(plain_logits(reloaded, batches()), plain_logits(network, batches()))


@pytest.mark.parametrize("architecture", ["llama", "llama-tied"])
def test_copy_of_the_head_must_equal_the_head_of_the_base(architecture: str, tmp_path: Path) -> None:
    base, adapter = architectures.write(architecture, tmp_path / "base"), tmp_path / "adapter"
    write_adapter(adapter, base, {"target_modules": ["q_proj", "lm_head"]})
    model, path = Model(base, adapter), adapter / "adapter_model.safetensors"
    with_copy, tensors = plain_logits(load_model(model, merge=False), batches()), load_file(path)
    copy = tensors.pop("base_model.model.lm_head.base_layer.weight")
    save_file(tensors, path)
    assert equal(plain_logits(load_model(model, merge=False), batches()), with_copy)
    save_file(tensors | {"base_model.model.lm_head.base_layer.weight": copy + 0.01}, path)
    for open_model in (
        lambda: load_model(model, merge=True),
        lambda: load_model(model, merge=False),
        lambda: MetaModel(model, torch.float32, "cpu"),
    ):
        with pytest.raises(ConfigurationError, match=r"a lm_head\.weight that differs from its base's"):
            open_model()


def test_factors_for_single_experts_can_be_merged_but_not_streamed(tmp_path: Path) -> None:
    base, adapter = architectures.write("mixtral", tmp_path / "base"), tmp_path / "adapter"
    write_adapter(adapter, base, {"target_modules": ["q_proj"]})
    model = change_config(Model(base, adapter), {"target_modules": ["q_proj", "w1", "w2", "w3"]})
    factors = load_file(adapter / "adapter_model.safetensors")
    for layer, expert, (name, inner, outer) in product(
        range(3), range(4), [("w1", 32, 48), ("w2", 48, 32), ("w3", 32, 48)]
    ):
        path = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}"
        factors |= {f"{path}.lora_A.weight": torch.ones(4, inner), f"{path}.lora_B.weight": torch.ones(outer, 4)}
    save_file(factors, adapter / "adapter_model.safetensors")
    load_model(model, merge=True)
    with pytest.raises(ConfigurationError, match=r"factors for single experts, such as .*\.experts\.0\.w1"):
        MetaModel(model, torch.float32, "cpu")
    require_refused(change_config(model, {"target_modules": ["q_proj", "w2"]}), UnsafeCheckpoint, "does not name")
