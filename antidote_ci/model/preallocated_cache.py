"""A key-value cache with room for new tokens, so that a decoding step writes one token and copies none."""

import copy
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from antidote_ci.model import Tensor

MEMORY = "preallocated_memory"
"""The attribute of a view that names the larger tensor: in inference mode PyTorch does not keep it."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer whose keys and values are views of the filled part of larger tensors."""

    def __init__(self, keys: Tensor, values: Tensor, tokens: int) -> None:
        """Use these tensors, [rows, heads, room for tokens, width], whose first `tokens` tokens are filled."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._keys, self._values = keys, values
        self.set_length(tokens)

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
        self.set_length(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Select the rows of these positions, in this order."""
        tokens = self.keys.shape[-2]
        beam_idx = beam_idx.to(self._keys.device)  # the layers of a large model are on several devices
        self._keys, self._values = self._keys.index_select(0, beam_idx), self._values.index_select(0, beam_idx)
        self.set_length(tokens)

    def view_rows(self, rows: slice) -> "PreallocatedLayer":
        """A layer of these rows in the same memory."""
        return PreallocatedLayer(self._keys[rows], self._values[rows], self.keys.shape[-2])

    def set_length(self, tokens: int) -> None:
        """Say that the first `tokens` tokens are filled."""
        self.keys, self.values = self._keys[:, :, :tokens], self._values[:, :, :tokens]
        setattr(self.keys, MEMORY, self._keys)
        setattr(self.values, MEMORY, self._values)


def memory_of(states: Tensor) -> Tensor | None:
    """The larger tensor whose filled part `states` are, zero in the rest. None if they are of another kind of layer."""
    return getattr(states, MEMORY, None)


def preallocate(cache: Any, room: int) -> Any:  # noqa: ANN401
    """`cache` with room in its dynamic layers, which would otherwise be copied at each step."""
    if type(cache) is DynamicCache:
        for position, layer in enumerate(cache.layers):
            if type(layer) is DynamicLayer and layer.is_initialized:
                cache.layers[position] = PreallocatedLayer(
                    _copy_with_room(layer.keys, room), _copy_with_room(layer.values, room), layer.keys.shape[-2]
                )
    return cache


def keeps_every_token(cache: Any, tokens: int) -> bool:  # noqa: ANN401
    """Whether all that `cache` holds are the keys and values of each token, up to `tokens` tokens."""
    return type(cache) is DynamicCache and all(
        (type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window > tokens))
        and layer.is_initialized  # not so where a layer uses the states of another one
        for layer in cache.layers
    )


def repeat_row(cache: Any, tokens: Tensor, room: int) -> Any:  # noqa: ANN401
    """The preallocated cache of the rows that consist of these tokens of the only row of `cache`.

    `tokens` [rows, columns] holds the tokens' positions in that row. `cache` must keep every token.
    """
    rows, columns = tokens.shape

    def repeat(states: Tensor) -> Tensor:
        _row, heads, _tokens, width = states.shape
        repeated = states.new_zeros(rows, heads, columns + room, width)
        repeated[:, :, :columns] = states[0][:, tokens.to(states.device)].transpose(0, 1)
        return repeated

    return _replace_layers(
        cache, [PreallocatedLayer(repeat(layer.keys), repeat(layer.values), columns) for layer in cache.layers]
    )


def view_rows(cache: Any, rows: slice) -> Any:  # noqa: ANN401
    """A cache of these rows in the same memory as the preallocated `cache`, whose length then has to be set."""
    return _replace_layers(cache, [layer.view_rows(rows) for layer in cache.layers])


def _replace_layers(cache: DynamicCache, layers: list[PreallocatedLayer]) -> DynamicCache:
    replaced = copy.copy(cache)
    replaced.layers = layers
    return replaced


def _copy_with_room(states: Tensor, room: int) -> Tensor:
    rows, heads, tokens, width = states.shape
    with_room = states.new_zeros(rows, heads, tokens + room, width)
    with_room[:, :, :tokens] = states
    return with_room
