"""Which parameter of the network each tensor of the files becomes, by the rules of transformers' loader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LazyTensor:
    """The tensor `name` of a checkpoint, read when it is needed."""

    layout: CheckpointLayout
    name: str
    averaged_with: CheckpointLayout | None = None
    """Return the mean with this checkpoint's tensor where it has one of the same shape."""

    def read(self) -> "torch.Tensor":
        """The tensor in its own dtype. Raises ConfigurationError when it holds NaN or an infinity."""
        import torch

        tensor = tensors.read_tensor(self.layout, self.name)
        if self.averaged_with and self.name in self.averaged_with.tensors and tensor.is_floating_point():
            second = tensors.read_tensor(self.averaged_with, self.name)
            if second.shape == tensor.shape:
                tensor = ((tensor.float() + second.float()) / 2).to(tensor.dtype)
        # Minimum and maximum are NaN if any entry is. This is 30 times faster than isfinite() on every entry.
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ConfigurationError(
                f"{self.name} in {display_name(self.layout.folder)} holds NaN or infinite numbers",
                cause="the training diverged, or the file is damaged",
                hint="repair an earlier checkpoint of the same training run",
            )
        return tensor

    def __getitem__(self, _everything: object) -> "torch.Tensor":
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
