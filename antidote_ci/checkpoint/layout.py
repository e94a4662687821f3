"""The layout of a checkpoint, a full one or a LoRA adapter, read from file names, headers and configuration files."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from antidote_ci.checkpoint import config_files, templates, tokenizers
from antidote_ci.checkpoint.adapter_config import refuse_adapter_code, refuse_unsupported_adapter
from antidote_ci.checkpoint.budget import Budget
from antidote_ci.checkpoint.files import MAX_OTHER_BYTES, is_pickled_weights, list_files, max_bytes
from antidote_ci.checkpoint.headers import (
    INDEX_FILE,
    WEIGHTS_FILE,
    Header,
    TensorInfo,
    list_shards,
    map_weights,
    read_header,
    read_index,
    require_index_holds,
)
from antidote_ci.checkpoint.json_files import read_object, too_large_error
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.records import ModelKind

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

CONFIGS = (
    *(CONFIG, ADAPTER_CONFIG, "generation_config.json", "processor_config.json", "preprocessor_config.json"),
    *("tokenizer_config.json", config_files.SPECIAL_TOKENS, tokenizers.ADDED, "chat_template.json"),
)
TOKENIZER_CONFIGS = (CONFIG, "tokenizer_config.json", config_files.SPECIAL_TOKENS)
"""Files that give a tokenizer its class or its arguments."""
SHARD_FORMATS = (None, "pt", "mlx")
"""Values of `format` in a header whose tensors have the layout of PyTorch. Flax and TensorFlow transpose some."""


@dataclass(frozen=True)
class CheckpointLayout:
    """A checkpoint that passed every check that needs no framework."""

    folder: Path
    kind: ModelKind
    shards: tuple[str, ...]
    weight_map: dict[str, str]
    """Tensor name -> the shard that holds it."""
    headers: dict[str, Header]
    """Shard -> its header."""
    config: dict[str, object]
    """config.json of a full checkpoint, adapter_config.json of an adapter."""
    base_model: str | None
    """The base that an adapter_config.json names. A full checkpoint names one in its card (`card.read_base_model`)."""
    unused_weights: tuple[str, ...]
    """Other safetensors files of the folder. A repair does not copy them."""

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor by name, shard by shard, in the order of the bytes."""
        return {name: info for header in self.headers.values() for name, info in header.tensors.items()}

    @property
    def entries(self) -> int:
        """The number of entries of all tensors."""
        return sum(prod(info.shape) for info in self.tensors.values())

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the token embedding; None when there is none."""
        return tokenizers.embedding_rows(self.tensors, self.config)


def read_layout(folder: Path) -> CheckpointLayout:
    """Read and check the checkpoint in `folder`.

    Raises UnsafeCheckpoint when a file is not safe to open, ConfigurationError when the folder is not a
    supported checkpoint.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint="name a folder with a checkpoint")
    names, budget = list_files(folder), Budget()
    for name in names:
        limit, size = max_bytes(name), (folder / name).stat().st_size
        if limit is not None:
            if size > limit:
                raise too_large_error(name, limit)
            budget.charge(name, "bytes", size)
    kind = _find_kind(folder, names)
    index = read_index(folder, budget) if kind == "full" and INDEX_FILE in names else None
    single = ADAPTER_WEIGHTS if kind == "adapter" else WEIGHTS_FILE
    shards = (single,) if index is None else list_shards(index, names)
    configs = _read_configurations(folder, names, budget)
    if CONFIG in names and (kind == "full" or "model_type" in configs[CONFIG]):
        config_files.refuse_unknown_model(configs[CONFIG])
    for name in names:
        in_config = configs.get(name, {}).get("chat_template", "")
        size = (folder / name).stat().st_size if name.endswith(".jinja") else len(str(in_config))
        budget.charge(name, "bytes of chat templates", size)
    templates.require_safe_templates(folder, names, configs)
    headers = {shard: _read_shard(folder / shard, budget) for shard in shards}
    weight_map = map_weights(headers)
    if index is not None:
        require_index_holds(index, weight_map)
    config = configs[ADAPTER_CONFIG if kind == "adapter" else CONFIG]
    base = config.get("base_model_name_or_path") if kind == "adapter" else None
    layout = CheckpointLayout(
        folder=folder,
        kind=kind,
        shards=shards,
        weight_map=weight_map,
        headers=headers,
        config=config,
        base_model=base if isinstance(base, str) and base else None,
        unused_weights=tuple(name for name in names if name.endswith(".safetensors") and name not in shards),
    )
    tensors = layout.tensors
    if kind == "adapter":
        refuse_adapter_code(config)
        refuse_unsupported_adapter(config, tensors)
    else:
        config_files.refuse_more_layers(config, tensors)
        config_files.refuse_unsupported_model(config)
    config_files.refuse_quantised(tensors)
    # The embedding of an adapter lies in its base: `repair.targets.require_same_vocabulary` compares the two.
    rows = None if kind == "adapter" else layout.embedding_rows
    tokenizers.require_valid_tokenizer(folder, names, configs, rows, budget)
    return layout


def count_weight_bytes(layout: CheckpointLayout) -> int:
    """Return the bytes of all tensors."""
    return sum(info.end - info.start for info in layout.tensors.values())


def _read_shard(path: Path, budget: Budget) -> Header:
    header = read_header(path, budget)
    if header.metadata.get("format") not in SHARD_FORMATS:
        raise ConfigurationError(
            f"{path.name} has the format {header.metadata['format']!r:.60}",
            cause="it was saved for another framework than PyTorch, which may have stored weights transposed",
            hint="save the checkpoint again with transformers",
        )
    return header


def _read_configurations(folder: Path, names: list[str], budget: Budget) -> dict[str, dict[str, object]]:
    """Read the configuration files by name. Raises UnsafeCheckpoint when one requests code or files from elsewhere."""
    configs = {name: read_object(folder / name, MAX_OTHER_BYTES, budget=budget) for name in CONFIGS if name in names}
    for name, config in configs.items():
        if name != tokenizers.ADDED:  # its keys are tokens
            config_files.refuse_code(name, config)
        if name in TOKENIZER_CONFIGS:
            config_files.refuse_tokenizer(name, config)
    return configs


def _find_kind(folder: Path, names: list[str]) -> ModelKind:
    is_full = WEIGHTS_FILE in names or INDEX_FILE in names
    if ADAPTER_CONFIG in names:
        # transformers would load the adapter on top: the full weights would run unmeasured.
        if is_full:
            raise ConfigurationError(
                f"{folder} holds both a full checkpoint and a LoRA adapter",
                hint=f"move {ADAPTER_CONFIG} and its weights to a folder of their own",
            )
        if ADAPTER_WEIGHTS in names:
            return "adapter"
    elif is_full and CONFIG in names:
        return "full"
    raise _not_a_checkpoint(folder, names)


def _not_a_checkpoint(folder: Path, names: list[str]) -> ConfigurationError | UnsafeCheckpoint:
    pickled = sorted(path.name for path in folder.iterdir() if is_pickled_weights(path.name))
    if pickled and not any(name.endswith(".safetensors") for name in names):
        return UnsafeCheckpoint(
            f"{folder} has only pickled weights: {pickled[0]}",
            cause="opening a pickle runs the code it holds",
            hint="convert them with https://huggingface.co/spaces/safetensors/convert, on an isolated machine",
        )
    listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return ConfigurationError(
        f"{folder} is not a checkpoint (found: {listed or 'no file of one'})",
        cause="the weights or the configuration are missing",
        hint=f"a full checkpoint has {CONFIG} and {WEIGHTS_FILE} or {INDEX_FILE}; "
        f"a LoRA adapter has {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}",
    )
