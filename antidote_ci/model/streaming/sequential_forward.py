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
from antidote_ci.model.streaming.activation_cache import Reservoir
from antidote_ci.model.streaming.meta_model import ENTRANCE, Skeleton

if TYPE_CHECKING:
    import torch

Inputs = dict[str, "torch.Tensor"]
"""What a micro-batch gives to the network: input_ids, attention_mask and, where padded on the left, position_ids."""
StandIn = Callable[["_Call"], "torch.Tensor"]
"""What a block is called with -> the hidden states that it is to return."""
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class _Kept:
    """In place of a tensor: the name under which the reservoir has it."""

    key: str


@dataclass(frozen=True)
class _Call:
    """What the body hands to a block."""

    block: str
    hidden: Any
    arguments: tuple[Any, ...]
    """After the hidden states."""
    keywords: dict[str, Any]


class _NoChain(Exception):
    """A block was handed something else than what the one before it returned."""


class Sweep:
    """A set of micro-batches on its way through the network. `name` keeps several in one reservoir apart."""

    def __init__(self, skeleton: Skeleton, reservoir: Reservoir, batches: Sequence[Inputs], name: str) -> None:
        self.skeleton, self.reservoir, self.batches, self.name = skeleton, reservoir, batches, name
        self._calls: list[dict[str, _Call]] = []
        self._tuples = False
        """Blocks return tuples that begin with the hidden states."""

    def enter(self) -> None:
        """Embed every micro-batch and record what each block is to be called with; fills the entrance for it.

        Raises ConfigurationError where the blocks are no chain, or share more than tensors.
        """
        import torch

        with self.skeleton.filled(ENTRANCE), torch.no_grad():
            for at, inputs in enumerate(self.batches):
                calls = self._past_the_blocks(inputs)
                self.keep(at, calls[0].hidden)
                self._calls.append(self._set_aside(at, calls))

    def hidden(self, at: int) -> "torch.Tensor":
        """The hidden states [rows, tokens, width] of micro-batch `at`, where it has got to."""
        return self.reservoir.get(f"{self.name}-{at}-hidden").to(self.skeleton.device)

    def keep(self, at: int, hidden: "torch.Tensor") -> None:
        """Put micro-batch `at` forward."""
        self.reservoir.put(f"{self.name}-{at}-hidden", hidden)

    def through(self, block: str, at: int, hidden: "torch.Tensor") -> "torch.Tensor":
        """The hidden states after `block`, which must be filled, with or without autograd as the caller has set it."""

        def given(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(given, value))
            return self.reservoir.get(value.key).to(self.skeleton.device) if isinstance(value, _Kept) else value

        call = self._calls[at][block]
        keywords = {name: given(each) for name, each in call.keywords.items()}
        output = self.skeleton.block(block)(hidden, *given(call.arguments), **keywords)
        result: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def forward(self, visit: Callable[[str], AbstractContextManager[Any]], done: Callable[[str], None]) -> None:
        """Every block in turn, each over all micro-batches, without autograd.

        `visit(block)` is entered while the block is filled; `done(block)` hears of each block that is behind.
        """
        import torch

        for block in self.skeleton.blocks:
            with self.skeleton.filled(block), visit(block), torch.no_grad():
                for at in range(len(self.batches)):
                    self.keep(at, self.through(block, at, self.hidden(at)))
            done(block)

    def logits(self, at: int, hidden: "torch.Tensor", columns: int) -> "torch.Tensor":
        """[rows, columns, vocabulary] that the last `columns` tokens predict, from what the last block returned.

        Entrance and head must be filled. Differentiable in `hidden`.
        """
        last = self.skeleton.blocks[-1]
        with self._standing_in(lambda call: hidden if call.block == last else call.hidden):
            output = self.skeleton.network(**self.batches[at], use_cache=False, logits_to_keep=columns)
        found: torch.Tensor = output.logits
        return found

    def _past_the_blocks(self, inputs: Inputs) -> list[_Call]:
        """What the body hands to its blocks when each returns what it was given, in the way this body expects."""
        for tuples in (self._tuples, not self._tuples):
            self._tuples = tuples
            if calls := self._chain(inputs):
                return calls
        raise self._cannot("its blocks are not called one after another, each with what the one before it returned")

    def _chain(self, inputs: Inputs) -> list[_Call]:
        """The calls of all blocks; none, where one was not handed what the one before it returned."""
        calls: list[_Call] = []

        def follow(call: _Call) -> "torch.Tensor":
            if calls and call.hidden is not calls[0].hidden:
                raise _NoChain
            calls.append(call)
            found: torch.Tensor = call.hidden
            return found

        try:
            with self._standing_in(follow):
                output = self.skeleton.body(**inputs, use_cache=False)
        except (_NoChain, ValueError):  # a body that unpacks a tuple cannot unpack a tensor, nor another tuple
            return []
        complete = [call.block for call in calls] == self.skeleton.blocks
        # A body that takes the first of a tuple takes the first row of a tensor: of a single block it shows at the end.
        return calls if complete and output.last_hidden_state.ndim == calls[0].hidden.ndim else []

    def _set_aside(self, at: int, calls: list[_Call]) -> dict[str, _Call]:
        """The calls by their block, their tensors in the reservoir: once, however many blocks one is handed to."""
        import torch

        seen: dict[int, _Kept] = {}

        def kept(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(kept, value))
            if isinstance(value, torch.Tensor):
                if id(value) not in seen:
                    seen[id(value)] = _Kept(f"{self.name}-{at}-given-{len(seen)}")
                    self.reservoir.put(seen[id(value)].key, value)
                return seen[id(value)]
            if not isinstance(value, PLAIN):
                raise self._cannot(
                    f"its blocks are handed a {type(value).__name__}, through which they may share state"
                )
            return value

        return {
            call.block: _Call(
                call.block, None, kept(call.arguments), {name: kept(each) for name, each in call.keywords.items()}
            )
            for call in calls
        }

    @contextmanager
    def _standing_in(self, stand_in: StandIn) -> Iterator[None]:
        """Within it, a call of a block is answered by `stand_in`."""

        def forward_of(block: str) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
                hidden, *others = arguments or [keywords.pop("hidden_states")]
                answer = stand_in(_Call(block, hidden, tuple(others), keywords))
                return (answer, None) if self._tuples else answer

            return forward

        modules = {block: self.skeleton.block(block) for block in self.skeleton.blocks}
        for block, module in modules.items():
            module.forward = forward_of(block)
        try:
            yield
        finally:
            for module in modules.values():
                del module.forward

    def _cannot(self, cause: str) -> ConfigurationError:
        return ConfigurationError(
            f"{type(self.skeleton.network).__name__} cannot be run block by block",
            cause=cause,
            hint="report this architecture",
        )
