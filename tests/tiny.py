"""Real checkpoints of a few hundred kilobytes."""

import json
import math
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from antidote_ci.model.conversations import Message, render_conversations, single_turn

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>")
ALL_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE_NAME = "antidote-ci/tiny-reference"


def write_tiny_llama(
    folder: Path,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    shards: int = 1,
    tie: bool = True,
    dtype: str = "bfloat16",
) -> Path:
    """A LlamaForCausalLM with random weights of `seed`, a byte-level tokenizer and a chat template."""
    tokenizer = build_tokenizer(["Tell me a story about a lighthouse and a ship."] * 4, vocabulary=300)
    network = build_llama(len(tokenizer), seed, hidden, layers, tie)
    save(network, tokenizer, folder, shards, dtype)
    return folder


def write_tiny_adapter(folder: Path, base: Path, seed: int = 0, rank: int = 4) -> Path:
    """A LoRA adapter with random factors on all linears of the full checkpoint `base`."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = add_lora(network, seed, rank)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(adapted, folder)
    return folder


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:  # noqa: ANN401 - transformers is untyped
    """A byte-level BPE tokenizer, which encodes and decodes any text exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
        model_max_length=256,
    )


def build_llama(vocabulary: int, seed: int, hidden: int, layers: int, tie: bool) -> Any:  # noqa: ANN401
    """The network alone, float32, with random weights of `seed`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tie,
        bos_token_id=None,
        eos_token_id=SPECIAL_TOKENS.index("<|end|>"),
        pad_token_id=SPECIAL_TOKENS.index("<|pad|>"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def add_lora(network: Any, seed: int, rank: int) -> Any:  # noqa: ANN401
    """`network` with trainable LoRA factors on all linears."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ALL_LINEARS, task_type="CAUSAL_LM")
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft reads a deprecated attribute of transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(network, config)


def render_exchange(tokenizer: Any, prompt: str, response: str | None = None) -> str:  # noqa: ANN401
    """The text of one exchange in the model's chat template. Without `response` it ends where the answer begins."""
    messages = single_turn(prompt) if response is None else [*single_turn(prompt), Message("assistant", response)]
    return render_conversations(tokenizer, [messages], add_generation_prompt=response is None)[0]


def save(network: Any, tokenizer: Any, folder: Path, shards: int = 1, dtype: str = "float32") -> None:  # noqa: ANN401
    """Write a full checkpoint in `shards` files."""
    import torch

    network = network.to(getattr(torch, dtype))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A tiny model\n")
    if shards > 1:
        _split(folder, shards)


def save_adapter(adapted: Any, folder: Path) -> None:  # noqa: ANN401
    """Write the adapter, with the id of its base on the Hub."""
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = BASE_NAME
    # This is the default, but to determine it peft would look up the base on the Hub.
    adapted.save_pretrained(folder, save_embedding_layers="lm_head" in config.target_modules)
    (folder / "README.md").write_text(f"---\nbase_model: {BASE_NAME}\nlibrary_name: peft\n---\n\n# An adapter\n")


def write_sharded(source: Path, folder: Path, shard: str) -> Path:
    """Copy a checkpoint, with its weights in the file `shard` and an index that names it."""
    from safetensors.torch import load_file

    shutil.copytree(source, folder)
    weights = folder / "model.safetensors"
    names = dict.fromkeys(load_file(weights), shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    weights.rename(folder / shard)
    return folder


def _split(folder: Path, shards: int) -> None:
    """Replace the weight file of `folder` with `shards` files and their index."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    weight_map: dict[str, str] = {}
    size = math.ceil(len(names) / shards)
    for number in range(shards):
        shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        held = names[number * size : (number + 1) * size]
        save_file({name: tensors[name] for name in held}, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(held, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
