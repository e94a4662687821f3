"""Batched decoding of token rows with the model's own cache, greedy or sampled. Runs in the sandbox process only.

The `generate` of transformers keeps finished rows in the batch to the end, and applies a repository's
`generation_config` (penalties, suppressed or forced tokens, minimum lengths, sampling). Here finished rows leave the
batch in groups, and only the weights decide. In float32 the greedy tokens are those of a plain `generate`.
"""

import inspect
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor
from antidote_ci.model.batching import common_prefix_length, pad_left

IsSpent = Callable[[int, list[int]], bool]
"""Called once for each new token of a row that no end token ended."""
TokenPair = tuple[list[int], list[int]]
"""Token ids of a prompt, and of its answer or the first tokens of it."""

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""The cache's name in `forward`: in transformers from 5.24, before it, and in recurrent models before it."""
MIN_ACTIVE_SHARE = 0.75
"""Finished rows are removed when fewer than this share is active: removing rows copies the whole cache."""
TIMED_STEPS = 2
"""Measured per batch size. The fastest counts, because other work on the machine only makes a step slower."""
PREFILL_TOKENS = 1024
"""Tokens of a forward pass after the common prefix: the results of a layer then stay in the processor's caches."""


@dataclass
class DecodingState:
    """A batch between two decoding steps. Rows are padded on the left."""

    mask: Tensor
    """[rows, tokens so far], 0 at padding."""
    cache: Any
    scores: Tensor
    """[rows, vocabulary]: logits of the next token, in the network's dtype."""

    def select_rows(self, rows: Tensor) -> None:
        """Continue with the rows of these positions, in this order. A position may occur several times."""
        self.mask = self.mask[rows]
        self.cache.reorder_cache(rows)
        self.scores = self.scores[rows]


def generate_tokens(
    network: Network,
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_tokens: Collection[int],
    quantiles: Tensor | None = None,
    *,
    fast: bool = False,
    is_spent: IsSpent | None = None,
) -> list[list[int]]:
    """The new tokens of each row, including its end token. A row also ends when `is_spent(its position, its tokens)`.

    Greedy, or with `quantiles` [rows, max_new_tokens] from [0, 1) sampled at temperature 1: each number selects one
    token by inverse transform sampling, so the samples of a row do not depend on the rest of the batch.

    With `fast` the tokens with which all rows begin are computed once, where the network's cache permits, and attention
    in bfloat16 on a CPU is `decoding_attention`. Both change the last bits.
    """
    import torch

    from antidote_ci.model.decoding_attention import decoding_attention

    generated: list[list[int]] = [[] for _ in rows]
    active = torch.arange(len(rows))
    unfinished = torch.ones(len(rows), dtype=torch.bool)
    with torch.inference_mode(), decoding_attention(network) if fast else nullcontext():
        state = prefill(network, rows, max_new_tokens, fast=fast)
        for number in range(max_new_tokens):
            step_quantiles = None if quantiles is None else quantiles[active, number]
            tokens = _pick_tokens(state.scores, step_quantiles).cpu()
            for position, (row, token) in enumerate(zip(active.tolist(), tokens.tolist(), strict=True)):
                if unfinished[position]:
                    generated[row].append(token)
                    ends = token in end_tokens or (is_spent is not None and is_spent(row, generated[row]))
                    unfinished[position] = not ends
            if number == max_new_tokens - 1 or not unfinished.any():
                break
            if unfinished.float().mean() < MIN_ACTIVE_SHARE:
                active, tokens = active[unfinished], tokens[unfinished]
                state.select_rows(unfinished.nonzero().squeeze(1).to(state.mask.device))
                unfinished = unfinished[unfinished]
            decode_step(network, state, tokens)
    return generated


def prefill(network: Network, rows: Sequence[Sequence[int]], new_tokens: int, *, fast: bool = False) -> DecodingState:
    """The state after the rows themselves, with a cache that has room for `new_tokens` more.

    Raises ConfigurationError for a network whose cache is of an unknown kind.
    """
    from antidote_ci.model.preallocated_cache import preallocate

    inputs = pad_left(rows, network.device)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    # At least one token of each row remains, whose scores are needed.
    prefix = min(common_prefix_length(rows), min(map(len, rows)) - 1)
    if fast and len(rows) > 1 and prefix > 0:
        state = _prefill_after_prefix(network, ids, mask, list(rows[0][:prefix]), new_tokens)
        if state is not None:
            return state
    state = _forward(network, ids, mask, None)
    state.cache = preallocate(state.cache, new_tokens)
    return state


def _prefill_after_prefix(
    network: Network, ids: Tensor, mask: Tensor, prefix: list[int], new_tokens: int
) -> DecodingState | None:
    """The state after the rows `ids` [rows, tokens], which begin with `prefix` after their padding.

    None for a network whose cache is more than keys and values, such as a recurrent one.
    """
    import torch

    from antidote_ci.model import preallocated_cache

    columns, width = len(prefix), ids.shape[1]
    row = ids.new_tensor([prefix])
    computed = _forward(network, row, torch.ones_like(row), None).cache
    if not preallocated_cache.keeps_every_token(computed, width + new_tokens):
        return None
    # The columns are those of a pass over whole rows: a row's padding, the prefix, the row's own tokens. A part begins
    # after the prefix of its longest row. Columns of its other rows that the prefix reaches are computed again.
    padding = (mask == 0).sum(dim=1, keepdim=True)
    filled = columns + int(padding.max())
    tokens = (torch.arange(filled, device=ids.device) - padding).clamp(min=0, max=columns - 1)
    cache = preallocated_cache.repeat_row(computed, tokens, width - filled + new_tokens)
    scores = []
    size = max(1, PREFILL_TOKENS // (width - columns))
    for first in range(0, len(ids), size):
        part = slice(first, first + size)
        start = columns + int(padding[part].min())
        part_cache = preallocated_cache.view_rows(cache, part, start)
        state = _forward(network, ids[part, start:], mask[part], part_cache)
        if state.cache is not part_cache:
            return None
        scores.append(state.scores)
    for layer in cache.layers:
        layer.set_length(width)
    return DecodingState(mask, cache, torch.cat(scores))


def decode_step(network: Network, state: DecodingState, tokens: Tensor) -> None:
    """Append one token to each row: `tokens` [rows]."""
    import torch

    mask = torch.cat([state.mask, state.mask.new_ones(len(tokens), 1)], dim=1)
    after = _forward(network, tokens[:, None].to(mask.device), mask, state.cache)
    state.mask, state.cache, state.scores = after.mask, after.cache, after.scores


def time_step(network: Network, row: Sequence[int], size: int) -> float:
    """Seconds of one decoding step with `size` copies of `row`, whose cache is computed once and repeated."""
    import torch

    from antidote_ci.model.decoding_attention import decoding_attention

    with torch.inference_mode(), decoding_attention(network):
        state = prefill(network, [row], TIMED_STEPS)
        state.select_rows(torch.zeros(size, dtype=torch.long, device=state.mask.device))
        times = []
        for _ in range(TIMED_STEPS):
            started = time.perf_counter()
            decode_step(network, state, _pick_tokens(state.scores, None))
            state.scores.sum().item()  # waits for an accelerator to finish
            times.append(time.perf_counter() - started)
    return min(times)


def _forward(network: Network, ids: Tensor, mask: Tensor, cache: Any) -> DecodingState:  # noqa: ANN401
    parameters = inspect.signature(network.forward).parameters
    cache_name = next((name for name in CACHE_NAMES if name in parameters), CACHE_NAMES[0])
    optional = {
        # Padding has no position: the first token of every row is at position 0.
        "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :],
        "logits_to_keep": 1,
        cache_name: cache,
    }
    inputs = network.prepare_inputs_for_generation(
        ids,
        attention_mask=mask,
        is_first_iteration=cache is None,
        use_cache=True,
        **{name: value for name, value in optional.items() if name in parameters and value is not None},
    )
    output = network(**inputs, return_dict=True)
    # Without its cache a network would silently continue from one token alone.
    if cache_name not in parameters or cache_name not in output:
        raise ConfigurationError(
            f"{type(network).__name__} cannot be decoded: its forward does not return {cache_name}",
            cause="it keeps its state in a form from which rows cannot be removed, or this version of transformers "
            "has another name for the cache",
            hint="report this architecture and the version of transformers that antidote-ci doctor prints",
        )
    return DecodingState(mask, output[cache_name], output.logits[:, -1])


def _pick_tokens(scores: Tensor, quantiles: Tensor | None) -> Tensor:
    import torch

    if quantiles is None:
        return scores.float().argmax(dim=-1)  # on a CPU five times as fast as in bfloat16
    # Inverse transform sampling. `right=True`, so that a token of probability 0 is never drawn.
    cumulative = scores.float().softmax(dim=-1).double().cumsum(dim=-1)
    thresholds = quantiles.to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, thresholds, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)
