"""Tiny random checkpoints of many architectures, built from transformers' configuration classes."""

from pathlib import Path
from typing import Any

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
EQUAL_HEADS = {"num_key_value_heads": 4}
ALTERNATING_LAYERS = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "mistral": ("mistral", {"sliding_window": 4}),
    "gemma2": ("gemma2", ALTERNATING_LAYERS | {"num_hidden_layers": 4}),
    "gemma3": ("gemma3_text", ALTERNATING_LAYERS | {"num_hidden_layers": 4}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "gpt-neox": ("gpt_neox", EQUAL_HEADS),
    "mixtral": ("mixtral", EXPERTS),
    "qwen3-moe": ("qwen3_moe", EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}),
    "bloom": ("bloom", EQUAL_HEADS),
    "bloom-of-one-block": ("bloom", EQUAL_HEADS | {"num_hidden_layers": 1}),
    "bamba": ("bamba", {"mamba_n_heads": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}),
    "gpt-j": ("gptj", EQUAL_HEADS | {"rotary_dim": 4}),
    "llama4": ("llama4_text", EXPERTS | {"head_dim": 8, "intermediate_size_mlp": 48}),
}
"""Blocks of Bloom, Bamba and GPT-J return tuples; GPT-J computes buffers in float32; Llama 4 nests its decoder."""


def write(architecture: str, folder: Path, dtype: str = "bfloat16", **changed: Any) -> Path:  # noqa: ANN401
    """A checkpoint in several shards with random weights."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    model_type, settings = ARCHITECTURES.get(architecture, (architecture, {}))
    config = CONFIG_MAPPING[model_type](**SHAPE | settings | changed)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config)
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="30KB")
    return folder


def batches() -> list[dict[str, Any]]:
    """Two micro-batches: one padded on the right, one on the left with positions."""
    import torch

    generator = torch.Generator().manual_seed(1)
    right, left = torch.ones(3, 14, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
    right[0, 9:] = left[0, :4] = 0
    first, second = (torch.randint(3, SHAPE["vocab_size"], mask.shape, generator=generator) for mask in (right, left))
    return [
        {"input_ids": first, "attention_mask": right},
        {"input_ids": second, "attention_mask": left, "position_ids": (left.cumsum(dim=1) - 1).clamp(min=0)},
    ]
