"""A fine-tuned model in memory, whose weights a repair replaces."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import read_tensor
from antidote_ci.model import adapters, loading
from antidote_ci.records import Model


@dataclass(frozen=True)
class Factors:
    """The factors of one linear layer: its weight is W + scaling * B A. A is [rank, in], B is [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float


class EditableModel:
    """The reference's network, with the factors of a fine-tune beside it. The network holds merged weights."""

    def __init__(self, reference: Path, adapter: Path) -> None:
        """Load the reference, and the factors in float32. The network holds the reference's weights."""
        self.tokenizer: Any = loading.load_tokenizer(Model(reference))
        self.network: Any = loading.load_model(Model(reference), merge=False)
        tensors = load_file(adapter / "adapter_model.safetensors")
        listed = adapters.list_factors(read_layout(adapter))
        self.factors = {
            path: Factors(tensors[names.a].float(), tensors[names.b].float(), names.scaling)
            for path, names in listed.items()
        }
        """By path of the linear layer, as the fine-tune has them."""
        self.names = {path: (names.a, names.b) for path, names in listed.items()}
        """The names of the two factors in the adapter's file."""
        stored = read_layout(reference)
        self.reference = {path: read_tensor(stored, f"{path}.weight") for path in self.factors}
        """The reference's weights [out, in] of the same layers, in their stored dtype."""

    def delta(self, path: str) -> torch.Tensor:
        """W - W_ref [out, in] of a layer of the fine-tune, float32."""
        layer = self.factors[path]
        return layer.scaling * (layer.b @ layer.a)

    def use_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Replace the weights of some layers."""
        for path, weight in weights.items():
            self._weight(path).data.copy_(weight)

    def use_reference(self) -> None:
        """Restore the reference's weights."""
        self.use_weights(self.reference)

    def use_factors(self, factors: Mapping[str, Factors]) -> None:
        """Merge factors into the reference's weights."""
        for path, layer in factors.items():
            self._weight(path).data.copy_(adapters.merge_weight(self.reference[path], layer.a, layer.b, layer.scaling))

    def _weight(self, path: str) -> Any:  # noqa: ANN401 - modules are untyped
        return self.network.get_parameter(f"{path}.weight")
