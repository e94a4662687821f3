"""Write an adapter and its base as one full checkpoint, for inference servers. Runs in the sandbox process only."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.headers import INDEX_FILE, WEIGHTS_FILE
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import WEIGHT_DTYPES
from antidote_ci.model import Network, Tensor, loading
from antidote_ci.model.adapters import (
    LoraFactors,
    build_on_meta_device,
    has_own_weights,
    list_factors,
    list_saved,
    merge_weight,
    require_same_copies,
)
from antidote_ci.model.memory import return_freed_memory
from antidote_ci.model.streaming.weights import build_weight_map
from antidote_ci.records import Model, OnProgress, Progress

GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True)
class MergeRequest:
    """A model with its adapter, and `output`, a folder that does not exist yet."""

    model: Model
    output: Path


def merge_checkpoint(request: MergeRequest, on_progress: OnProgress) -> None:
    """Write the merged model to `output` as a full checkpoint in bfloat16 with its tokenizer.

    The sum W + s B A is computed in float32. One tensor is in memory at a time; the whole model if the adapter changes
    tied weights, or weights that the files hold in another form than the network. Raises the errors of `load_model`.
    """
    model, output = request.model, request.output
    tokenizer = loading.load_tokenizer(model)
    network = build_on_meta_device(model)
    merge = _plan_merge(network, model)
    output.mkdir(parents=True)
    if merge is None:
        _merge_in_memory(model, output)
    else:
        with return_freed_memory():
            _write_shards(model, merge, output, on_progress)
        _save_configuration(network, model.folder, output)
    tokenizer.save_pretrained(output)


def _plan_merge(network: Network, model: Model) -> dict[str, Callable[[], Tensor]] | None:
    """A function for each tensor of the merged checkpoint that computes it; None if the files cannot be merged."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    base, adapter = read_layout(model.folder), read_layout(model.adapter or model.folder)
    sources = build_weight_map(network, get_model_conversion_mapping(network), base)
    names = {source.parameter: name for name, source in sources.items() if not source.converted}
    factors = {f"{path}.weight": layer for path, layer in list_factors(adapter).items()}
    saved = list_saved(adapter)
    if not (has_own_weights(network, adapter) and names.keys() >= {*factors, *saved}):
        return None
    if any(base.tensors[name].dtype not in WEIGHT_DTYPES for name in sources):
        return None
    require_same_copies(adapter, lambda path: tensors.read_tensor(base, names[path]))

    def add(name: str, layer: LoraFactors) -> Tensor:
        a, b = (tensors.read_tensor(adapter, factor) for factor in (layer.a, layer.b))
        return merge_weight(tensors.read_tensor(base, name), a, b, layer.scaling)

    read: dict[str, Callable[[], Tensor]] = {name: partial(tensors.read_tensor, base, name) for name in sources}
    read |= {names[path]: partial(tensors.read_tensor, adapter, copy) for path, copy in saved.items()}
    return read | {names[path]: partial(add, names[path], layer) for path, layer in factors.items()}


def _write_shards(
    model: Model, merge: Mapping[str, Callable[[], Tensor]], output: Path, on_progress: OnProgress
) -> None:
    """Write the tensors to shards like those of the base, and their index."""
    import torch

    base, done = read_layout(model.folder), 0
    for shard, header in base.headers.items():
        shapes = {name: ("BF16", info.shape) for name, info in header.tensors.items() if name in merge}
        with tensors.open_writer(output / shard, shapes, {"format": "pt"}) as write:
            for name in shapes:
                merged = merge[name]()
                if merged.dtype != torch.bfloat16:
                    merged = merged.float().to(torch.bfloat16)
                # Minimum and maximum are NaN if any entry is. `isfinite` would allocate a byte for each.
                if not bool(torch.stack(merged.aminmax()).isfinite().all()):
                    raise loading.overflow_error(model, name)
                write(merged)
                done += 1
                on_progress(Progress("tensors merged", done, len(merge)))
    if base.shards != (WEIGHTS_FILE,):
        size = sum(torch.bfloat16.itemsize * prod(base.tensors[name].shape) for name in merge)
        index = {"metadata": {"total_size": size}, "weight_map": {name: base.weight_map[name] for name in merge}}
        (output / INDEX_FILE).write_text(json.dumps(index, indent=2))


def _save_configuration(network: Network, base: Path, output: Path) -> None:
    import torch
    from transformers import GenerationConfig

    network.config.dtype = torch.bfloat16
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(output)
    if (base / GENERATION_CONFIG).exists():
        network.generation_config = GenerationConfig.from_pretrained(base, local_files_only=True)
    _plain_generation_config(network).save_pretrained(output)


def _merge_in_memory(model: Model, output: Path) -> None:
    import torch

    network = loading.load_model(model, merge=True).to(device="cpu", dtype=torch.bfloat16)
    network.generation_config = _plain_generation_config(network)
    network.save_pretrained(output)


def _plain_generation_config(network: Network) -> Network:
    """The special tokens alone: the base may set sampling and penalties, and transformers refuses to save some."""
    from transformers import GenerationConfig

    config = network.generation_config
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
