"""Tiny full checkpoints of several architectures with random float32 weights, in several shards."""

import warnings
from pathlib import Path
from typing import Any

import torch

from antidote_ci.records import Model

VOCABULARY = 90
LAYERS = 3
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def write(folder: Path, architecture: str, seed: int = 0, **sizes: Any) -> Path:  # noqa: ANN401
    """Write a checkpoint; `architecture` is the name of its configuration class without `Config`."""
    import torch
    import transformers

    config = getattr(transformers, f"{architecture}Config")(**SIZES | sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for (
            parameter
        ) in network.parameters():  # as large as trained weights: with small ones the network is almost linear
            torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    network.save_pretrained(folder, max_shard_size="40KB")
    return folder


def load_network(model: Model) -> Any:  # noqa: ANN401 - transformers is untyped
    """The network in float32, loaded by transformers and peft."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    if model.adapter:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = PeftModel.from_pretrained(network, model.adapter)
    return network.eval()
