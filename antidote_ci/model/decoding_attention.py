"""Attention of one new token on a CPU, over keys and values in preallocated memory.

PyTorch's kernel for a CPU splits the work by row and head, and one query gives it little to do. Two batched products
over the whole memory are faster, although they include the room for tokens that are still to come.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from antidote_ci.model import Network, Tensor
from antidote_ci.model.preallocated_cache import memory_of

NAME = "antidote_decoding"
"""In the registry of transformers."""


@contextmanager
def decoding_attention(network: Network) -> Iterator[None]:
    """Let `network` use `attend` in this context, where it would use `sdpa` in bfloat16 on a CPU."""
    import torch

    config = network.config
    applies = (
        network.device.type == "cpu"
        and network.dtype == torch.bfloat16
        and network._supports_attention_backend
        and config._attn_implementation == "sdpa"
    )
    if applies:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        if applies:
            config._attn_implementation = "sdpa"


def attend(
    module: Network,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """What the implementation `sdpa` returns, in the form that transformers expects: [rows, queries, heads, width]."""
    import torch

    rows, heads, queries, width = query.shape
    keys, values = memory_of(key), memory_of(value)
    plain = all(options.get(name) is None for name in ("softcap", "position_bias", "cache"))
    of_all_heads = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1)
    if queries > 1 or keys is None or values is None or not plain or not of_all_heads:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return result
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    scaling = width**-0.5 if scaling is None else scaling
    attended = attend_in_memory(grouped, keys, values, key.shape[2], attention_mask, scaling)
    return attended.reshape(rows, 1, heads, value.shape[-1]), None


def attend_in_memory(
    queries: Tensor, keys: Tensor, values: Tensor, tokens: int, mask: Tensor | None, scaling: float
) -> Tensor:
    """The mean of the first `tokens` values, weighted by softmax(scaling * query . key).

    `queries` are [rows, heads, queries, width]; `keys` and `values` are [rows, heads, room for tokens, width], and
    finite also where no token is; `mask` is [rows, 1, 1, tokens], false at padding.
    """
    import torch

    scores = torch.matmul(queries, keys.transpose(2, 3))[..., :tokens].float() * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = queries.new_zeros(*queries.shape[:3], keys.shape[2])
    weights[..., :tokens] = scores.softmax(dim=-1)
    return torch.matmul(weights, values)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
