"""A streamed adapter computes the same bits as peft, and leaves the base unchanged."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from transformers import AutoModelForCausalLM

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.adapters import lora_scale
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import Model
from tests import tiny
from tests.model.streaming import architectures
from tests.model.streaming.architectures import batches
from tests.model.streaming.streamed import equal, plain_logits, streamed_logits

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
PATTERNS: dict[str, Any] = {
    "target_modules": [*ATTENTION, "up_proj", "down_proj"],
    "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 8, "^model.layers.0.mlp.down_proj": 3},
    "alpha_pattern": {"k_proj": 3, r"layers\.[12]\.self_attn\.q_proj": 5, "j_proj": 100},
}
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "patterns": ("llama", PATTERNS),
    "rank-stabilised": ("llama", PATTERNS | {"use_rslora": True}),
    "head and norms saved": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "norm"]}),
    "a linear layer saved": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["down_proj"]}),
    "factors of the head": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "factors of a tied head": ("llama-tied", {"target_modules": ["q_proj", "lm_head"]}),
    "tied embeddings saved": ("llama-tied", {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]}),
    "tied head saved": ("llama-tied", {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}),
    "tied embeddings saved and kept tied": (
        "llama-tied",
        {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "fused layers": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
    "layers of GPT-NeoX": ("gpt-neox", {"target_modules": ["query_key_value", "dense"]}),
    "attention of a mixture of experts": ("mixtral", {"target_modules": ["q_proj", "v_proj"]}),
}


def write_adapter(folder: Path, base: Path, config: dict[str, Any]) -> None:
    """A LoRA adapter with random weights."""
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights and deprecated attributes
        torch.manual_seed(2)
        adapted = get_peft_model(network, LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **config))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        tiny.save_adapter(adapted, folder)


def wrapped(base: Path, adapter: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401 - peft is untyped
    network = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(network, adapter, autocast_adapter_dtype=False).eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_streamed_adapter_logits_equal_those_of_peft(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    architecture, config = ADAPTERS[kind]
    base, adapter = architectures.write(architecture, tmp_path / "base"), tmp_path / "adapter"
    write_adapter(adapter, base, config)
    expected = plain_logits(wrapped(base, adapter, dtype), batches())
    assert equal(streamed_logits(MetaModel(Model(base, adapter), dtype, "cpu"), batches(), tmp_path / "a"), expected)
    base_logits = streamed_logits(MetaModel(Model(base), dtype, "cpu"), batches(), tmp_path / "b")
    assert not equal(base_logits, expected)
    assert equal(base_logits, plain_logits(AutoModelForCausalLM.from_pretrained(base, dtype=dtype).eval(), batches()))


@given(
    patterns=st.dictionaries(
        st.sampled_from(["q_proj", r"layers\.1\..*", "^model", "self_attn", ".*q_proj", "x"]), st.integers(1, 9)
    ),
    layer=st.integers(0, 12),
    rank=st.integers(1, 64),
)
def test_alpha_pattern_is_matched_as_in_peft(patterns: dict[str, int], layer: int, rank: int) -> None:
    path = f"model.layers.{layer}.self_attn.q_proj"
    alpha = patterns.get(get_pattern_key(patterns, path), 16)
    assert lora_scale({"lora_alpha": 16, "alpha_pattern": patterns}, path, rank) == alpha / rank
    assert (
        lora_scale({"lora_alpha": 16, "alpha_pattern": patterns, "use_rslora": True}, path, rank) == alpha / rank**0.5
    )


@pytest.mark.parametrize("config", [PATTERNS, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}])
def test_adapter_of_another_model_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", architectures.write("llama", tmp_path / "base"), config)
    other_base = architectures.write("gpt-neox", tmp_path / "other")
    with pytest.raises(ConfigurationError, match="which its base does not have"):
        MetaModel(Model(other_base, tmp_path / "adapter"), torch.bfloat16, "cpu")
