"""Run micro-batches through a model one block at a time: embeddings, each block once, then the head.

The decoder's own forward runs once per micro-batch with its blocks replaced by functions that return their input. The
arguments that it passes to each block (positions, masks, rotary embeddings) are recorded in the cache, and the block is
called with them later. So this works for any architecture whose blocks form a chain, without a table of architectures.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model import DType, Tensor
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel

Inputs = dict[str, Tensor]
"""The arguments of a forward pass: input_ids, attention_mask and, if padded on the left, position_ids."""
BlockCallback = Callable[[str], None]
"""Called with the path of each block when all micro-batches have passed it."""
PLAIN_TYPES = (bool, int, float, str, type(None))


class ActivationCache:
    """Tensors by key. Those that exceed `budget` bytes are written to `folder`, bit for bit.

    The folder is created when it is needed; the caller removes it.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self.budget = folder, budget
        self._in_memory: dict[str, Tensor] = {}
        self._on_disk: dict[str, tuple[DType, tuple[int, ...]]] = {}

    def put(self, key: str, tensor: Tensor) -> None:
        """Store `tensor`, replacing an earlier one. Raises InfrastructureError when it cannot be written to disk."""
        import torch

        self.drop(key)
        tensor = tensor.detach().cpu().contiguous()
        if self.bytes_in_memory() + tensor.nbytes <= self.budget:
            self._in_memory[key] = tensor
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(key).write_bytes(tensor.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            raise InfrastructureError(
                f"hidden states could not be written to {self._folder}: {error.strerror}",
                hint="free disk space there, or keep more in memory with repair.activation_megabytes",
            ) from error
        self._on_disk[key] = (tensor.dtype, tensor.shape)

    def get(self, key: str) -> Tensor:
        """The tensor stored under `key`, on the CPU. Raises KeyError when there is none."""
        if key in self._in_memory:
            return self._in_memory[key]
        import torch

        dtype, shape = self._on_disk[key]
        tensor = torch.empty(shape, dtype=dtype)
        with self._path(key).open("rb") as file:
            file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return tensor

    def drop(self, key: str) -> None:
        """Remove the tensor stored under `key`, if any."""
        self._in_memory.pop(key, None)
        if self._on_disk.pop(key, None) is not None:
            self._path(key).unlink()

    def bytes_in_memory(self) -> int:
        """The bytes of all tensors in memory."""
        return sum(tensor.nbytes for tensor in self._in_memory.values())

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.hidden"


@dataclass(frozen=True)
class _CachedTensor:
    """Stands for a tensor that is in the cache under `key`."""

    key: str


@dataclass(frozen=True)
class _BlockCall:
    """One call of a block by the decoder."""

    block: str
    hidden: Any
    arguments: tuple[Any, ...]
    """The positional arguments after the hidden states."""
    keywords: dict[str, Any]


class _NotSequential(Exception):
    """A block was called with something other than the output of the block before it."""


class SequentialForward:
    """A forward pass of several micro-batches."""

    def __init__(self, meta_model: MetaModel, cache: ActivationCache, batches: Sequence[Inputs]) -> None:
        self.meta_model, self.cache, self.batches = meta_model, cache, batches
        self._calls: list[dict[str, _BlockCall]] = []
        self._returns_tuples = False
        """The blocks return tuples whose first item is the hidden states."""

    def embed(self) -> None:
        """Embed every micro-batch and record the calls of its blocks. Loads the embeddings.

        Raises ConfigurationError when the blocks are not a chain, or share objects other than tensors.
        """
        import torch

        with self.meta_model.load_weights(EMBEDDINGS_PART), torch.no_grad():
            for index, inputs in enumerate(self.batches):
                calls = self._record_calls(inputs)
                self.set_hidden(index, calls[0].hidden)
                self._calls.append(self._cache_calls(index, calls))

    def get_hidden(self, index: int) -> Tensor:
        """The current hidden states [rows, tokens, width] of a micro-batch, on the model's device."""
        return self.cache.get(f"{index}-hidden").to(self.meta_model.device)

    def set_hidden(self, index: int, hidden: Tensor) -> None:
        """Replace the hidden states of a micro-batch."""
        self.cache.put(f"{index}-hidden", hidden)

    def run_block(self, block: str, index: int, hidden: Tensor) -> Tensor:
        """The hidden states after `block`, whose weights must be loaded. The caller enables or disables autograd."""

        def restore(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(restore, value))
            return self.cache.get(value.key).to(self.meta_model.device) if isinstance(value, _CachedTensor) else value

        call = self._calls[index][block]
        keywords = {name: restore(value) for name, value in call.keywords.items()}
        output = self.meta_model.network.get_submodule(block)(hidden, *restore(call.arguments), **keywords)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def run_blocks(self, enter: Callable[[str], AbstractContextManager[Any]], done: BlockCallback) -> None:
        """Run all micro-batches through every block in turn, without autograd.

        Each block runs in the context `enter(block)`, which is entered after its weights are loaded.
        """
        import torch

        for block in self.meta_model.blocks:
            with self.meta_model.load_weights(block), enter(block), torch.no_grad():
                for index in range(len(self.batches)):
                    self.set_hidden(index, self.run_block(block, index, self.get_hidden(index)))
            done(block)

    def logits(self, index: int, hidden: Tensor, columns: int | Tensor) -> Tensor:
        """Logits [rows, columns, vocabulary] at the last `columns` tokens or at these positions, after the last block.

        Embeddings and head must be loaded. Differentiable with respect to `hidden`.
        """
        last = self.meta_model.blocks[-1]
        with self._replace_blocks(lambda call: hidden if call.block == last else call.hidden):
            output = self.meta_model.network(**self.batches[index], use_cache=False, logits_to_keep=columns)
        logits: Tensor = output.logits
        return logits

    def _record_calls(self, inputs: Inputs) -> list[_BlockCall]:
        """The calls of all blocks when each returns its input, as a tensor or in a tuple as the decoder expects."""
        for returns_tuples in (self._returns_tuples, not self._returns_tuples):
            self._returns_tuples = returns_tuples
            if calls := self._record_chained_calls(inputs):
                return calls
        raise self._unsupported_error("its blocks do not form a chain in which each takes the output of the one before")

    def _record_chained_calls(self, inputs: Inputs) -> list[_BlockCall]:
        """The calls of all blocks, or an empty list if they are not a chain."""
        calls: list[_BlockCall] = []

        def record(call: _BlockCall) -> Tensor:
            if calls and call.hidden is not calls[0].hidden:
                raise _NotSequential
            calls.append(call)
            hidden: Tensor = call.hidden
            return hidden

        try:
            with self._replace_blocks(record):
                output = self.meta_model.body(**inputs, use_cache=False)
        except (_NotSequential, ValueError):  # ValueError: the decoder unpacks a tensor, or a tuple of another length
            return []
        complete = [call.block for call in calls] == self.meta_model.blocks
        # A decoder that takes item 0 of a tuple takes the first row of a tensor. With one block this shows only here.
        return calls if complete and output.last_hidden_state.ndim == calls[0].hidden.ndim else []

    def _cache_calls(self, index: int, calls: list[_BlockCall]) -> dict[str, _BlockCall]:
        """The calls by block, with their tensors in the cache: one entry for a tensor that several blocks take."""
        import torch

        cached: dict[int, _CachedTensor] = {}

        def cache(value: Any) -> Any:  # noqa: ANN401
            if isinstance(value, tuple):
                return tuple(map(cache, value))
            if isinstance(value, torch.Tensor):
                if id(value) not in cached:
                    cached[id(value)] = _CachedTensor(f"{index}-argument-{len(cached)}")
                    self.cache.put(cached[id(value)].key, value)
                return cached[id(value)]
            if not isinstance(value, PLAIN_TYPES):
                raise self._unsupported_error(
                    f"its blocks take a {type(value).__name__}, through which they may share state"
                )
            return value

        return {
            call.block: _BlockCall(
                call.block, None, cache(call.arguments), {name: cache(value) for name, value in call.keywords.items()}
            )
            for call in calls
        }

    @contextmanager
    def _replace_blocks(self, replacement: Callable[[_BlockCall], Tensor]) -> Iterator[None]:
        """In the context, a call of a block returns the hidden states that `replacement(call)` returns."""

        def make_forward(block: str) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
                hidden, *rest = arguments or [keywords.pop("hidden_states")]
                output = replacement(_BlockCall(block, hidden, tuple(rest), keywords))
                return (output, None) if self._returns_tuples else output

            return forward

        modules = {block: self.meta_model.network.get_submodule(block) for block in self.meta_model.blocks}
        for block, module in modules.items():
            module.forward = make_forward(block)
        try:
            yield
        finally:
            for module in modules.values():
                del module.forward

    def _unsupported_error(self, cause: str) -> ConfigurationError:
        return ConfigurationError(
            f"{type(self.meta_model.network).__name__} cannot be run block by block",
            cause=cause,
            hint="report this architecture",
        )


def stream_last_logits(
    meta_model: MetaModel,
    cache: ActivationCache,
    batches: Sequence[Inputs],
    columns: Sequence[int | Tensor],
    done: BlockCallback,
) -> Iterator[Tensor]:
    """Run the model block by block, and yield the logits of each micro-batch at its last tokens.

    `columns` holds, for each micro-batch, the number of last tokens or the positions of tokens. The logits have the
    shape [rows, that number, vocabulary]. `done` is called for each finished block.
    """
    import torch

    forward = SequentialForward(meta_model, cache, batches)
    forward.embed()
    forward.run_blocks(meta_model.attach_adapter, done)
    with meta_model.load_weights(EMBEDDINGS_PART, HEAD_PART), torch.no_grad():
        for index, count in enumerate(columns):
            yield forward.logits(index, forward.get_hidden(index), count)
