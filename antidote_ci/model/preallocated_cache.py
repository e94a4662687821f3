"""A key-value cache with room for new tokens, so that a decoding step writes one token and copies none."""

from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer

from antidote_ci.model import Tensor


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer whose keys and values are views of the filled part of larger tensors."""

    def __init__(self, layer: DynamicLayer, room: int) -> None:
        """Copy the states of `layer`, [rows, heads, tokens, width], with room for `room` more tokens."""
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self._keys, self._values = _copy_with_room(layer.keys, room), _copy_with_room(layer.values, room)
        self._set_length(layer.keys.shape[-2])

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: Any,  # noqa: ANN401
        **_options: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._keys, self._values = _copy_with_room(self.keys, end), _copy_with_room(self.values, end)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._set_length(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Select the rows of these positions, in this order."""
        tokens = self.keys.shape[-2]
        beam_idx = beam_idx.to(self._keys.device)  # the layers of a large model are on several devices
        self._keys, self._values = self._keys.index_select(0, beam_idx), self._values.index_select(0, beam_idx)
        self._set_length(tokens)

    def _set_length(self, tokens: int) -> None:
        self.keys, self.values = self._keys[:, :, :tokens], self._values[:, :, :tokens]


def preallocate(cache: Any, room: int) -> Any:  # noqa: ANN401
    """`cache` with room in its dynamic layers, which would otherwise be copied at each step."""
    if type(cache) is DynamicCache:
        for position, layer in enumerate(cache.layers):
            if type(layer) is DynamicLayer and layer.is_initialized:
                cache.layers[position] = PreallocatedLayer(layer, room)
    return cache


def _copy_with_room(states: Tensor, room: int) -> Tensor:
    rows, heads, tokens, width = states.shape
    copy = states.new_empty(rows, heads, tokens + room, width)
    copy[:, :, :tokens] = states
    return copy
