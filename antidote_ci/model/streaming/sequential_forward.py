"""Micro-batches through a skeleton, block by block: in at the embeddings, through each block once, out at the head.

The body's own forward is called once a micro-batch with its blocks replaced by stand-ins that return what they are
given: what it hands to each of them (positions, masks, rotary embeddings) is kept beside the hidden states and given
to the block when its turn comes. No architecture is known here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, MetaModel

if TYPE_CHECKING:
    import torch

Inputs = dict[str, "torch.Tensor"]
"""What a micro-batch gives to the network: input_ids, attention_mask and, where padded on the left, position_ids."""
BlockReplacement = Callable[["_BlockCall"], "torch.Tensor"]
"""What a block is called with -> the hidden states that it is to return."""
PLAIN_TYPES = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class _CachedTensor:
    """In place of a tensor: the name under which the reservoir has it."""

    key: str


@dataclass(frozen=True)
class _BlockCall:
    """What the body hands to a block."""

    block: str
    hidden: Any
    arguments: tuple[Any, ...]
    """After the hidden states."""
    keywords: dict[str, Any]


class _NotSequential(Exception):
    """A block was handed something else than what the one before it returned."""


class SequentialForward:
    """A set of micro-batches on its way through the network. `name` keeps several in one reservoir apart."""

    def __init__(self, meta_model: MetaModel, cache: ActivationCache, batches: Sequence[Inputs], name: str) -> None:
        self.skeleton, self.reservoir, self.batches, self.name = meta_model, cache, batches, name
        self._calls: list[dict[str, _BlockCall]] = []
        self._tuples = False
        """Blocks return tuples that begin with the hidden states."""

    def embed(self) -> None:
        """Embed every micro-batch and record what each block is to be called with; fills the entrance for it.

        Raises ConfigurationError where the blocks are no chain, or share more than tensors.
        """
        import torch

        with self.skeleton.load_weights(EMBEDDINGS_PART), torch.no_grad():
            for at, inputs in enumerate(self.batches):
                calls = self._record_calls(inputs)
                self.set_hidden(at, calls[0].hidden)
                self._calls.append(self._cache_calls(at, calls))

    def get_hidden(self, at: int) -> "torch.Tensor":
        """The hidden states [rows, tokens, width] of micro-batch `at`, where it has got to."""
        return self.reservoir.get(f"{self.name}-{at}-hidden").to(self.skeleton.device)

    def set_hidden(self, at: int, hidden: "torch.Tensor") -> None:
        """Put micro-batch `at` forward."""
        self.reservoir.put(f"{self.name}-{at}-hidden", hidden)

    def run_block(self, block: str, at: int, hidden: "torch.Tensor") -> "torch.Tensor":
        """The hidden states after `block`, which must be filled, with or without autograd as the caller has set it."""

        def given(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(given, value))
            return self.reservoir.get(value.key).to(self.skeleton.device) if isinstance(value, _CachedTensor) else value

        call = self._calls[at][block]
        keywords = {name: given(each) for name, each in call.keywords.items()}
        output = self.skeleton.get_block(block)(hidden, *given(call.arguments), **keywords)
        result: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def run_blocks(self, visit: Callable[[str], AbstractContextManager[Any]], done: Callable[[str], None]) -> None:
        """Every block in turn, each over all micro-batches, without autograd.

        `visit(block)` is entered while the block is filled; `done(block)` hears of each block that is behind.
        """
        import torch

        for block in self.skeleton.blocks:
            with self.skeleton.load_weights(block), visit(block), torch.no_grad():
                for at in range(len(self.batches)):
                    self.set_hidden(at, self.run_block(block, at, self.get_hidden(at)))
            done(block)

    def logits(self, at: int, hidden: "torch.Tensor", columns: int) -> "torch.Tensor":
        """[rows, columns, vocabulary] that the last `columns` tokens predict, from what the last block returned.

        Entrance and head must be filled. Differentiable in `hidden`.
        """
        last = self.skeleton.blocks[-1]
        with self._replace_blocks(lambda call: hidden if call.block == last else call.hidden):
            output = self.skeleton.network(**self.batches[at], use_cache=False, logits_to_keep=columns)
        found: torch.Tensor = output.logits
        return found

    def _record_calls(self, inputs: Inputs) -> list[_BlockCall]:
        """What the body hands to its blocks when each returns what it was given, in the way this body expects."""
        for tuples in (self._tuples, not self._tuples):
            self._tuples = tuples
            if calls := self._record_chained_calls(inputs):
                return calls
        raise self._unsupported_error(
            "its blocks are not called one after another, each with what the one before it returned"
        )

    def _record_chained_calls(self, inputs: Inputs) -> list[_BlockCall]:
        """The calls of all blocks; none, where one was not handed what the one before it returned."""
        calls: list[_BlockCall] = []

        def follow(call: _BlockCall) -> "torch.Tensor":
            if calls and call.hidden is not calls[0].hidden:
                raise _NotSequential
            calls.append(call)
            found: torch.Tensor = call.hidden
            return found

        try:
            with self._replace_blocks(follow):
                output = self.skeleton.body(**inputs, use_cache=False)
        except (_NotSequential, ValueError):  # a body that unpacks a tuple cannot unpack a tensor, nor another tuple
            return []
        complete = [call.block for call in calls] == self.skeleton.blocks
        # A body that takes the first of a tuple takes the first row of a tensor: of a single block it shows at the end.
        return calls if complete and output.last_hidden_state.ndim == calls[0].hidden.ndim else []

    def _cache_calls(self, at: int, calls: list[_BlockCall]) -> dict[str, _BlockCall]:
        """The calls by their block, their tensors in the reservoir: once, however many blocks one is handed to."""
        import torch

        seen: dict[int, _CachedTensor] = {}

        def kept(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(kept, value))
            if isinstance(value, torch.Tensor):
                if id(value) not in seen:
                    seen[id(value)] = _CachedTensor(f"{self.name}-{at}-given-{len(seen)}")
                    self.reservoir.put(seen[id(value)].key, value)
                return seen[id(value)]
            if not isinstance(value, PLAIN_TYPES):
                raise self._unsupported_error(
                    f"its blocks are handed a {type(value).__name__}, through which they may share state"
                )
            return value

        return {
            call.block: _BlockCall(
                call.block, None, kept(call.arguments), {name: kept(each) for name, each in call.keywords.items()}
            )
            for call in calls
        }

    @contextmanager
    def _replace_blocks(self, stand_in: BlockReplacement) -> Iterator[None]:
        """Within it, a call of a block is answered by `stand_in`."""

        def forward_of(block: str) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
                hidden, *others = arguments or [keywords.pop("hidden_states")]
                answer = stand_in(_BlockCall(block, hidden, tuple(others), keywords))
                return (answer, None) if self._tuples else answer

            return forward

        modules = {block: self.skeleton.get_block(block) for block in self.skeleton.blocks}
        for block, module in modules.items():
            module.forward = forward_of(block)
        try:
            yield
        finally:
            for module in modules.values():
                del module.forward

    def _unsupported_error(self, cause: str) -> ConfigurationError:
        return ConfigurationError(
            f"{type(self.skeleton.network).__name__} cannot be run block by block",
            cause=cause,
            hint="report this architecture",
        )
