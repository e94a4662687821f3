"""The sources of a network's weights: tensors of a checkpoint, and the factors of a LoRA adapter."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor
from antidote_ci.model.adapters import LoraFactors, list_factors, list_saved, not_in_base_error

SINGLE_EXPERT = re.compile(r"\.experts\.\d+\.")


def _average_in_place(tensor: Tensor, second: Tensor) -> None:
    """Replace `tensor` by the mean of both, computed in float32. Needs no float32 copy of an embedding of gigabytes."""
    parts, others = tensor.reshape(-1), second.reshape(-1)
    for start in range(0, len(parts), tensors.ENTRIES_AT_ONCE):
        part = slice(start, start + tensors.ENTRIES_AT_ONCE)
        parts[part] = (parts[part].float() + others[part].float()) / 2


@dataclass(frozen=True)
class LazyTensor:
    """The tensor `name` of a checkpoint, read when it is needed."""

    layout: CheckpointLayout
    name: str
    averaged_with: CheckpointLayout | None = None
    """Return the mean with this checkpoint's tensor where it has one of the same shape."""

    def read(self) -> Tensor:
        """The tensor in its own dtype."""
        tensor = tensors.read_tensor(self.layout, self.name)
        if self.averaged_with and self.name in self.averaged_with.tensors and tensor.is_floating_point():
            second = tensors.read_tensor(self.averaged_with, self.name)
            if second.shape == tensor.shape:
                _average_in_place(tensor, second)
        return tensor

    def __getitem__(self, _everything: object) -> Tensor:
        # transformers' loader calls `slice[...]` on a safetensors slice, in place of which it is given this object.
        return self.read()


@dataclass(frozen=True)
class ParameterSource:
    """A tensor of the files, and the parameter that it becomes, alone or together with others."""

    tensor: LazyTensor
    parameter: str
    converted: bool = False
    """The loader stacks, splits or transposes tensors on the way, for example those of experts."""


def build_weight_map(
    network: Network, conversions: Sequence[Any], layout: CheckpointLayout
) -> dict[str, ParameterSource]:
    """The source of every parameter, by tensor name. Tensors that the network does not use are left out."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    state, prefix = network.state_dict(), network.base_model_prefix
    renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
    converters = [conversion for conversion in conversions if isinstance(conversion, WeightConverter)]
    sources = {}
    for name in layout.tensors:
        parameter, converter = rename_source_key(name, renamings, converters, prefix, state)
        if parameter not in state and name in state:
            parameter, converter = rename_source_key(name, [], [], prefix, state)
        if parameter in state:
            sources[name] = ParameterSource(LazyTensor(layout, name), parameter, converted=converter is not None)
    return sources


def find_tied_parameters(network: Network, sources: Mapping[str, ParameterSource]) -> dict[str, str]:
    """Parameters without a source of their own -> the parameter whose weights they share."""
    loaded = {source.parameter for source in sources.values()}
    ties = {}
    for target, source in network.all_tied_weights_keys.items():
        if target not in loaded:
            ties[target] = source
        elif source not in loaded:
            ties[source] = target
    return ties


@dataclass(frozen=True)
class LoraAdapter:
    """The weights that an adapter adds to its base, and those that it replaces."""

    layout: CheckpointLayout
    modules: dict[str, LoraFactors]
    """By the path of the linear layer."""
    saved: dict[str, LazyTensor]
    """`modules_to_save`: weights by the path of the parameter that they replace."""


def read_lora(layout: CheckpointLayout, strength: float = 1.0) -> LoraAdapter:
    """The adapter in `layout`, from its configuration and headers. `strength` multiplies the scale of its factors."""
    saved = {path: LazyTensor(layout, name) for path, name in list_saved(layout).items()}
    return LoraAdapter(layout, list_factors(layout, strength), saved)


def add_saved_modules(
    network: Network, sources: Mapping[str, ParameterSource], lora: LoraAdapter
) -> dict[str, ParameterSource]:
    """`sources` with the parameters that the adapter's `modules_to_save` replace.

    Raises ConfigurationError when the adapter has weights for a module that its base lacks, or for a single expert of a
    fused expert module.
    """
    paths = {path for path, _ in network.named_modules()} | network.state_dict().keys()
    for path in [*lora.modules, *lora.saved]:
        if path in paths:
            continue
        if SINGLE_EXPERT.search(path) and any(name.endswith(".experts") for name in paths):
            raise ConfigurationError(
                f"the adapter {display_name(lora.layout.folder)} has factors for single experts, such as {path}",
                cause="transformers holds the experts of a block as one tensor, so they cannot be repaired one by one",
                hint="merge the adapter into its base with peft's merge_and_unload, save that, and run on the result",
            )
        raise not_in_base_error(display_name(lora.layout.folder), path)
    combined = {name: source for name, source in sources.items() if source.parameter not in lora.saved}
    combined |= {path: ParameterSource(tensor, path) for path, tensor in lora.saved.items()}
    # Of two tied weights peft copies the one that it trains and leaves the other as in the base.
    replaced = {source.parameter: source.tensor for source in sources.values() if source.parameter in lora.saved}
    for path, tied in find_tied_parameters(network, combined).items():
        if tied in replaced:
            combined[path] = ParameterSource(replaced[tied], path)
    return combined
