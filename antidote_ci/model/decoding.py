"""Rows of token ids, continued, over the model's own cache. In memory; called in the child process only.

transformers' `generate` carries a row that has ended on to the end of its batch, and lets a repository's
`generation_config` change what is decoded (penalties, suppressed or forced tokens, minimum lengths, sampling). Here
ended rows leave the batch in groups, and nothing but the weights speaks. In float32 the tokens are those of `generate`.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

TokenPair = tuple[list[int], list[int]]
"""Token ids of a prompt, and of its answer or the beginning of it."""

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""In transformers from 5.24 on, before, and of recurrent models before: what `forward` takes and gives back."""
MIN_ACTIVE_SHARE = 0.75
"""Ended rows are carried on until so few are left: to drop them, the whole cache is copied."""


@dataclass
class DecodingState:
    """A batch between two steps. Rows are padded on the left."""

    mask: "torch.Tensor"
    """[rows, tokens so far], 0 at padding."""
    cache: Any
    scores: "torch.Tensor"
    """[rows, vocabulary]: logits of the next token, in the network's own precision."""

    def select_rows(self, rows: "torch.Tensor") -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        self.mask = self.mask[rows]
        self.cache.reorder_cache(rows)
        self.scores = self.scores[rows]


def generate_tokens(
    network: Any,  # noqa: ANN401 - transformers is untyped
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_tokens: Collection[int],
    uniforms: "torch.Tensor | None" = None,
) -> list[list[int]]:
    """The new tokens of each row, its end token included.

    Greedy; or, with `uniforms` [rows, max_new_tokens] from [0, 1), drawn at temperature 1: each number is the quantile
    of one token, so that a row's draws do not depend on its neighbours.
    """
    import torch

    found: list[list[int]] = [[] for _ in rows]
    going = torch.arange(len(rows))
    open_ended = torch.ones(len(rows), dtype=torch.bool)
    with torch.inference_mode():
        state = prefill(network, rows, max_new_tokens)
        for number in range(max_new_tokens):
            drawn = None if uniforms is None else uniforms[going, number]
            tokens = _pick_tokens(state.scores, drawn).cpu()
            for position, (row, token) in enumerate(zip(going.tolist(), tokens.tolist(), strict=True)):
                if open_ended[position]:
                    found[row].append(token)
                    open_ended[position] = token not in end_tokens
            if number == max_new_tokens - 1 or not open_ended.any():
                break
            if open_ended.float().mean() < MIN_ACTIVE_SHARE:
                going, tokens = going[open_ended], tokens[open_ended]
                state.select_rows(open_ended.nonzero().squeeze(1).to(state.mask.device))
                open_ended = open_ended[open_ended]
            decode_step(network, state, tokens)
    return found


def prefill(network: Any, rows: Sequence[Sequence[int]], room: int) -> DecodingState:  # noqa: ANN401
    """The state after the rows themselves, with room for so many tokens more.

    Raises ConfigurationError for a network without a cache of a known kind.
    """
    import torch

    from antidote_ci.model.preallocated_cache import preallocate

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=network.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=network.device)
    state = _forward_state(network, ids, mask, None)
    state.cache = preallocate(state.cache, room)
    return state


def decode_step(network: Any, state: DecodingState, tokens: "torch.Tensor") -> None:  # noqa: ANN401
    """One more token a row: [rows]."""
    import torch

    mask = torch.cat([state.mask, state.mask.new_ones(len(tokens), 1)], dim=1)
    after = _forward_state(network, tokens[:, None].to(mask.device), mask, state.cache)
    state.mask, state.cache, state.scores = after.mask, after.cache, after.scores


def _forward_state(network: Any, ids: "torch.Tensor", mask: "torch.Tensor", cache: Any) -> DecodingState:  # noqa: ANN401
    known = inspect.signature(network.forward).parameters
    cache_name = next((name for name in CACHE_NAMES if name in known), CACHE_NAMES[0])
    offered = {
        # Padding has no position: the first token of every row is at 0.
        "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :],
        "logits_to_keep": 1,
        cache_name: cache,
    }
    inputs = network.prepare_inputs_for_generation(
        ids,
        attention_mask=mask,
        is_first_iteration=cache is None,
        use_cache=True,
        **{name: value for name, value in offered.items() if name in known and value is not None},
    )
    output = network(**inputs, return_dict=True)
    # A network that is not given its cache would go on from one token alone, and say so nowhere.
    if cache_name not in known or cache_name not in output:
        raise ConfigurationError(
            f"{type(network).__name__} cannot be asked: it gives out no {cache_name} to go on from",
            cause="it keeps its state in a way of its own, under which rows cannot leave a batch, or transformers has "
            "another name for it now",
            hint="report this architecture, and the version of transformers that antidote-ci doctor names",
        )
    return DecodingState(mask, output[cache_name], output.logits[:, -1])


def _pick_tokens(scores: "torch.Tensor", drawn: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    if drawn is None:
        return scores.argmax(dim=-1)
    # The inverse of the distribution function; `right`, so that a token of probability 0 is never drawn.
    cumulative = scores.float().softmax(dim=-1).double().cumsum(dim=-1)
    quantile = drawn.to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, quantile, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)
