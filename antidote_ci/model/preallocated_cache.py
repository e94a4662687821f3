"""A cache of keys and values with room for the tokens to come, so that a step writes one token and copies none."""

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    import torch


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """A layer whose keys and values are the filled part of larger tensors."""

    def __init__(self, layer: DynamicLayer, room: int) -> None:
        """Takes over what `layer` holds; [rows, heads, tokens, width] with `room` more tokens."""
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self._keys, self._values = _preallocate_states(layer.keys, room), _preallocate_states(layer.values, room)
        self._set_length(layer.keys.shape[-2])

    def update(
        self,
        key_states: "torch.Tensor",
        value_states: "torch.Tensor",
        *_args: Any,  # noqa: ANN401
        **_options: Any,  # noqa: ANN401
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Write the new tokens behind the others."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._keys, self._values = _preallocate_states(self.keys, end), _preallocate_states(self.values, end)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._set_length(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: "torch.Tensor") -> None:
        """Go on with these rows, in this order."""
        tokens = self.keys.shape[-2]
        self._keys, self._values = self._keys.index_select(0, beam_idx), self._values.index_select(0, beam_idx)
        self._set_length(tokens)

    def _set_length(self, tokens: int) -> None:
        self.keys, self.values = self._keys[:, :, :tokens], self._values[:, :, :tokens]


def preallocate(cache: Any, room: int) -> Any:  # noqa: ANN401
    """`cache` with room in every layer that would otherwise be copied at each step; other caches as they are."""
    if type(cache) is DynamicCache:
        for position, layer in enumerate(cache.layers):
            if type(layer) is DynamicLayer and layer.is_initialized:
                cache.layers[position] = PreallocatedLayer(layer, room)
    return cache


def _preallocate_states(states: "torch.Tensor", room: int) -> "torch.Tensor":
    rows, heads, tokens, width = states.shape
    roomy = states.new_empty(rows, heads, tokens + room, width)
    roomy[:, :, :tokens] = states
    return roomy
