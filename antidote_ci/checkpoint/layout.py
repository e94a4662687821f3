"""What a folder holds: a full checkpoint or a LoRA adapter, known from names and headers alone."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from antidote_ci.checkpoint import templates, tokenizers
from antidote_ci.checkpoint.files import is_pickled_weights, list_files
from antidote_ci.checkpoint.headers import Header, TensorInfo, read_header
from antidote_ci.checkpoint.index import INDEX_FILE, WEIGHTS_FILE, find_shards, map_weights, require_index_holds
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.checkpoint.refusals import (
    refuse_adapter_code,
    refuse_code,
    refuse_more_layers,
    refuse_tokenizer,
    refuse_unknown_model,
)
from antidote_ci.checkpoint.unsupported import (
    Head,
    refuse_quantised,
    refuse_unsupported_adapter,
    refuse_unsupported_model,
)
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.records import ModelKind

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

CONFIGS = (
    *(CONFIG, ADAPTER_CONFIG, "generation_config.json", "processor_config.json", "preprocessor_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"),
)
TOKENIZER_CONFIGS = (CONFIG, "tokenizer_config.json", "special_tokens_map.json")
"""From which a tokenizer takes its class or its arguments."""
MAX_CONFIG_BYTES = 4 << 20
"""A tokenizer_config.json lists its added tokens: a megabyte happens."""
MAX_BYTES = {
    "tokenizer.json": tokenizers.MAX_BYTES,
    "vocab.json": 32 << 20,
    ".txt": 32 << 20,
    ".model": 32 << 20,
    ".tiktoken": 32 << 20,
    ".jinja": templates.MAX_BYTES,
}
"""By the end of the name."""


@dataclass(frozen=True)
class CheckpointLayout:
    """A checkpoint that passed every check that needs no framework."""

    folder: Path
    kind: ModelKind
    shards: tuple[str, ...]
    weight_map: dict[str, str]
    """Tensor name -> the shard that holds it."""
    headers: dict[str, Header]
    """Of every shard."""
    config: dict[str, object]
    """config.json of a full checkpoint, adapter_config.json of an adapter."""
    base_model: str | None
    """What an adapter says it was trained on; a full checkpoint's card may say it (`card.read_base_model`)."""
    unused_weights: tuple[str, ...]
    """Safetensors files beside the checkpoint that are no part of it. A repair leaves them out."""

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor, shard by shard, in the order in which they lie."""
        return {name: info for header in self.headers.values() for name, info in header.tensors.items()}

    @property
    def entries(self) -> int:
        """Of all tensors."""
        return sum(prod(info.shape) for info in self.tensors.values())


def read_layout(folder: Path, head: Head = "ForCausalLM") -> CheckpointLayout:
    """The checkpoint in `folder`, read from its headers and configuration files. `head`: what it must end in.

    Raises UnsafeCheckpoint for what is not safe to open, ConfigurationError for what is no checkpoint or no supported
    one.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint="name a folder with a checkpoint")
    names = list_files(folder)
    kind, shards = _find_weights(folder, names)
    _check_sizes(folder, names)
    configs = _read_configurations(folder, names)
    if CONFIG in names and (kind == "full" or "model_type" in configs[CONFIG]):
        refuse_unknown_model(configs[CONFIG])
    templates.require_safe_templates(folder, names, configs)
    headers = {shard: read_header(folder / shard) for shard in shards}
    weight_map = map_weights(headers)
    if INDEX_FILE in names and kind == "full":
        require_index_holds(folder, weight_map)
    config = configs[ADAPTER_CONFIG if kind == "adapter" else CONFIG]
    found = {name: info for header in headers.values() for name, info in header.tensors.items()}
    if kind == "adapter":
        refuse_adapter_code(config)
        refuse_unsupported_adapter(config, found)
        rows = None  # its table lies in its base: `vocabularies.require_same_vocabulary`
    else:
        refuse_more_layers(config, found)
        refuse_unsupported_model(config, head)
        rows = tokenizers.embedding_rows(found, config)
    refuse_quantised(found)
    tokenizers.require_valid_tokenizer(folder, names, configs, rows)
    base = config.get("base_model_name_or_path") if kind == "adapter" else None
    unused = tuple(name for name in names if name.endswith(".safetensors") and name not in shards)
    return CheckpointLayout(
        folder=folder,
        kind=kind,
        shards=shards,
        weight_map=weight_map,
        headers=headers,
        config=config,
        base_model=base if isinstance(base, str) and base else None,
        unused_weights=unused,
    )


def count_weight_bytes(layout: CheckpointLayout) -> int:
    """Bytes of all tensors."""
    return sum(info.end - info.start for info in layout.tensors.values())


def _read_configurations(folder: Path, names: list[str]) -> dict[str, dict[str, object]]:
    """The configuration files by name, none of which asks for code or files from elsewhere."""
    configs = {name: read_object(folder / name, MAX_CONFIG_BYTES) for name in CONFIGS if name in names}
    for name, config in configs.items():
        if name != tokenizers.ADDED:  # its keys are tokens
            refuse_code(name, config)
        if name in TOKENIZER_CONFIGS:
            refuse_tokenizer(name, config)
    return configs


def _find_weights(folder: Path, names: list[str]) -> tuple[ModelKind, tuple[str, ...]]:
    full = WEIGHTS_FILE in names or INDEX_FILE in names
    if ADAPTER_CONFIG in names:
        # transformers would load the adapter, so the full weights beside it would go unexamined.
        if full:
            raise ConfigurationError(
                f"{folder} holds both a full checkpoint and a LoRA adapter",
                hint=f"keep {ADAPTER_CONFIG} and its weights in a folder of their own",
            )
        if ADAPTER_WEIGHTS in names:
            return "adapter", (ADAPTER_WEIGHTS,)
    elif full and CONFIG in names:
        return "full", find_shards(folder, names)
    raise _not_a_checkpoint(folder, names)


def _check_sizes(folder: Path, names: list[str]) -> None:
    for name in names:
        limit = next((most for ending, most in MAX_BYTES.items() if name.endswith(ending)), None)
        if limit is not None and (folder / name).stat().st_size > limit:
            raise UnsafeCheckpoint(
                f"{name} is larger than {limit:,} bytes",
                cause="no real file of this kind is; it may be meant to exhaust what reads it",
            )


def _not_a_checkpoint(folder: Path, names: list[str]) -> ConfigurationError | UnsafeCheckpoint:
    pickled = sorted(path.name for path in folder.iterdir() if is_pickled_weights(path.name))
    if pickled and not any(name.endswith(".safetensors") for name in names):
        return UnsafeCheckpoint(
            f"{folder} has only pickled weights: {pickled[0]}",
            cause="opening a pickle runs whatever code it holds",
            hint="convert them with https://huggingface.co/spaces/safetensors/convert, on a machine you can lose",
        )
    found = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return ConfigurationError(
        f"{folder} is not a checkpoint (found: {found or 'no file of one'})",
        cause="the weights or the configuration are missing",
        hint=f"a full checkpoint has {CONFIG} and {WEIGHTS_FILE} or {INDEX_FILE}; "
        f"a LoRA adapter has {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}",
    )
