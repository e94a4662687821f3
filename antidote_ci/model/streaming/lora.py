"""A LoRA adapter beside its base: y = W x + s B (A x), as peft computes it, without its wrappers.

https://arxiv.org/abs/2106.09685; the scale s of rank-stabilised LoRA: https://arxiv.org/abs/2312.03732.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.adapter_config import A_ENDING, B_ENDING, BASE_ENDING, PREFIX
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.model.streaming.lazy_tensor import LazyTensor

if TYPE_CHECKING:
    import torch


InputCallback = Callable[[str, "torch.Tensor"], None]
"""Hears the name of a factor's tensor, and the inputs [..., columns] that the factor is applied to."""


@dataclass(frozen=True)
class LoraFactors:
    """The tensors of the files that make up one module's A [rank, in] and B [out, rank], and its scale."""

    a: str
    b: str
    scaling: float


@dataclass(frozen=True)
class LoraAdapter:
    """What an adapter adds to its base, and what it has in place of it."""

    layout: CheckpointLayout
    modules: dict[str, LoraFactors]
    """By the path of the linear layer they stand beside."""
    saved: dict[str, LazyTensor]
    """`modules_to_save`: weights by the path of the parameter they replace."""


def read_lora(layout: CheckpointLayout, strength: float = 1.0) -> LoraAdapter:
    """The adapter in `layout`, from its configuration and headers. At `strength` 0 its factors would add nothing."""
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
    """alpha / r, or alpha / sqrt(r) with rsLoRA; alpha by `alpha_pattern` where one fits the module's path.

    The first pattern that fits the whole path or its end counts: peft.utils.other.get_pattern_key.
    """
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


@contextmanager
def attach_lora(
    network: Any,  # noqa: ANN401 - transformers is untyped
    lora: LoraAdapter,
    part: str,
    dtype: "torch.dtype",
    device: str,
    seen: InputCallback | None = None,
) -> Iterator[dict[str, "torch.Tensor"]]:
    """Within it, the layers of the module `part` add what the adapter adds. Yields its factors by their tensors' names.

    The factors are looked up at each call: whoever holds them may ask for their gradients.
    """
    from torch.nn.functional import linear

    factors: dict[str, torch.Tensor] = {}

    def adding(names: LoraFactors) -> Callable[[Any, tuple["torch.Tensor", ...], "torch.Tensor"], "torch.Tensor"]:
        def add(_module: Any, inputs: tuple["torch.Tensor", ...], output: "torch.Tensor") -> "torch.Tensor":  # noqa: ANN401
            inner = linear(inputs[0], factors[names.a])
            if seen is not None:
                seen(names.a, inputs[0])
                seen(names.b, inner)
            return output + linear(inner, factors[names.b]) * names.scaling

        return add

    handles = []
    try:
        for path, names in lora.modules.items():
            if f"{path}.".startswith(f"{part}."):
                for name in (names.a, names.b):
                    factors[name] = LazyTensor(lora.layout, name).read().to(device=device, dtype=dtype)
                handles.append(network.get_submodule(path).register_forward_hook(adding(names)))
        yield factors
    finally:
        for handle in handles:
            handle.remove()
