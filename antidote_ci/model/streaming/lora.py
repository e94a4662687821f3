"""A LoRA adapter without peft's wrappers: y = W x + s B (A x).

https://arxiv.org/abs/2106.09685; the scale s of rank-stabilised LoRA: https://arxiv.org/abs/2312.03732.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.lora_names import A_ENDING, B_ENDING, BASE_ENDING, PREFIX
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network
from antidote_ci.model.adapters import not_in_base_error
from antidote_ci.model.streaming.weight_map import LazyTensor, ParameterSource, find_tied_parameters

if TYPE_CHECKING:
    import torch

SINGLE_EXPERT = re.compile(r"\.experts\.\d+\.")

InputCallback = Callable[[str, "torch.Tensor"], None]
"""Called with the name of a weight's tensor and the inputs [..., columns] that it is applied to."""


@dataclass(frozen=True)
class LoraFactors:
    """The tensor names of one layer's A [rank, in] and B [out, rank], and its scale."""

    a: str
    b: str
    scaling: float


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
    modules, saved = {}, {}
    for name, info in layout.tensors.items():
        path = name.removeprefix(PREFIX)
        if name.endswith(A_ENDING):
            module = path.removesuffix(A_ENDING)
            b = name.removesuffix(A_ENDING) + B_ENDING
            modules[module] = LoraFactors(name, b, strength * lora_scale(layout.config, module, info.shape[0]))
        elif not name.endswith((B_ENDING, BASE_ENDING)):
            saved[path] = LazyTensor(layout, name)
    return LoraAdapter(layout, modules, saved)


def lora_scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA.

    alpha comes from the first entry of `alpha_pattern` that matches the module's path or its end, as in
    peft.utils.other.get_pattern_key, else from `lora_alpha`.
    """
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


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


@contextmanager
def attach_lora(
    network: Network,
    lora: LoraAdapter,
    part: str,
    dtype: "torch.dtype",
    device: str,
    on_input: InputCallback | None = None,
) -> Iterator[dict[str, "torch.Tensor"]]:
    """In the context, the layers of the module `part` add the adapter's output. Yields the factors by tensor name.

    The factors are looked up at each call, so gradients with respect to the yielded tensors can be taken.
    """
    from torch.nn.functional import linear

    factors: dict[str, torch.Tensor] = {}

    def make_hook(names: LoraFactors) -> Callable[[Any, tuple["torch.Tensor", ...], "torch.Tensor"], "torch.Tensor"]:
        def add(_module: Network, inputs: tuple["torch.Tensor", ...], output: "torch.Tensor") -> "torch.Tensor":
            inner = linear(inputs[0], factors[names.a])
            if on_input is not None:
                on_input(names.a, inputs[0])
                on_input(names.b, inner)
            return output + linear(inner, factors[names.b]) * names.scaling

        return add

    handles = []
    try:
        for path, names in lora.modules.items():
            if f"{path}.".startswith(f"{part}."):
                for name in (names.a, names.b):
                    factors[name] = LazyTensor(lora.layout, name).read().to(device=device, dtype=dtype)
                handles.append(network.get_submodule(path).register_forward_hook(make_hook(names)))
        yield factors
    finally:
        for handle in handles:
            handle.remove()
