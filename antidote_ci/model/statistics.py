"""What each linear layer was fed: the input norms of the Wanda score.

Wanda is https://arxiv.org/abs/2306.11695. Antidote sums over a realignment set, and here, as in its code, the norm of
input feature j is, for a layer, the root over samples of the mean of ||X_j||^2 (tokens summed inside a sample):
https://arxiv.org/abs/2408.09600. All tokens of prompt and answer count; padding must not.
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.tensors import open_writer
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.conversations import Message, encode_texts, render_conversations, single_turn
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.lora import attach_lora
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import Inputs, SequentialForward
from antidote_ci.records import ComputeEnvironment, Model, OnProgress, Progress, PromptRow

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16
TOKENS_AT_ONCE = 512
"""Squared in one go: their float32 copy stays in the processor's cache, which is up to ten times faster."""


@dataclass(frozen=True)
class InputNormRequest:
    """`rows` pair a harmful prompt with a harmful answer; `output` is a safetensors file to write."""

    model: Model
    rows: list[PromptRow]
    output: Path
    scratch: Path
    """A folder for hidden states that wait on disk. None stay there."""
    budget: int
    """Bytes of hidden states that stay in memory."""


def measure_input_norms(request: InputNormRequest, report: OnProgress) -> ComputeEnvironment:
    """Write `<tensor name>` -> float32 [columns]: the root mean square norm of each input feature, in one pass.

    Of a full checkpoint, for the weight of every linear layer of every block; of an adapter, for its factors there: of
    A the inputs x, of B those it has, A x. Raises ConfigurationError for an empty set and for a row longer than the
    model's context.
    """
    if not request.rows:
        raise ConfigurationError("the realignment set is empty", hint="name one that has rows with --realignment")
    tokenizer = loading.load_tokenizer(request.model)
    exchanges = [[*single_turn(row.prompt), Message("assistant", row.response)] for row in request.rows]
    rows = encode_texts(tokenizer, render_conversations(tokenizer, exchanges, add_generation_prompt=False))
    device, dtype = loading.select_device_and_dtype()
    skeleton = MetaModel(request.model, dtype, device)
    skeleton.require_positions(rows)
    batches = [
        pad_right([rows[position] for position in batch], device) for batch in length_sorted_batches(rows, BATCH_SIZE)
    ]
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="hidden-") as folder:
        sums = accumulate_squares(skeleton, ActivationCache(Path(folder), request.budget), batches, report)
    with open_writer(request.output, {name: ("F32", tuple(each.shape)) for name, each in sums.items()}, {}) as write:
        for each in sums.values():
            write((each / len(rows)).sqrt())
    return describe_environment(tokenizer, BATCH_SIZE, 0)


def pad_right(rows: Sequence[Sequence[int]], device: str) -> Inputs:
    """Token ids as the inputs of a forward pass, which counts positions from the left edge."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def accumulate_squares(
    meta_model: MetaModel, cache: ActivationCache, batches: Sequence[Inputs], report: OnProgress
) -> "dict[str, torch.Tensor]":
    """Tensor name -> float32 [columns]: the squares of each input feature, summed over the real tokens of all batches.

    Raises ConfigurationError where a layer is not given all tokens.
    """
    import torch

    sweep, listener = SequentialForward(meta_model, cache, batches, "statistics"), _InputRecorder()
    sweep.embed()
    for done, block in enumerate(meta_model.blocks, 1):
        with meta_model.load_weights(block), _record_inputs(meta_model, block, listener), torch.inference_mode():
            for at, batch in enumerate(batches):
                listener.set_mask(batch["attention_mask"])
                sweep.set_hidden(at, sweep.run_block(block, at, sweep.get_hidden(at)))
        report(Progress("layers scored", done, len(meta_model.blocks)))
    return {name: listener.sums[name].cpu() for name in sorted(listener.sums)}


def sum_squares(features: "torch.Tensor") -> "torch.Tensor":
    """Float32 [columns] from [tokens, columns]: the squares, summed over tokens."""
    import torch

    total = torch.zeros(features.shape[1], dtype=torch.float32, device=features.device)
    for some in torch.split(features, TOKENS_AT_ONCE):
        total += some.to(torch.float32, copy=True).square_().sum(dim=0)
    return total


class _InputRecorder:
    """Adds up what is fed to linear layers. Those that are fed the very same tensor share its sum."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self._shared: list[tuple[weakref.ref[torch.Tensor], torch.Tensor]] = []

    def set_mask(self, mask: "torch.Tensor") -> None:
        """From here on inputs are of the tokens of `mask` [rows, tokens]: 1 for a real one, 0 for padding."""
        self._tokens = mask.numel()
        self._real = None if mask.all() else mask.flatten().nonzero().squeeze(1)
        self._shared.clear()

    def record(self, tensor: str, inputs: "torch.Tensor") -> None:
        """`inputs` [rows, tokens, columns], or [rows * tokens, columns], are fed to the layer of that weight."""
        total = next((total for known, total in self._shared if known() is inputs), None)
        if total is None:
            features = inputs.flatten(0, -2)
            if len(features) != self._tokens:
                raise _missing_inputs_error(tensor)
            total = sum_squares(features if self._real is None else features.index_select(0, self._real))
            self._shared.append((weakref.ref(inputs), total))
        self.sums[tensor] = self.sums[tensor] + total if tensor in self.sums else total


@contextmanager
def _record_inputs(meta_model: MetaModel, block: str, listener: _InputRecorder) -> Iterator[None]:
    """Within it, the layers of a block that are scored are listened to; afterwards all must have been heard."""
    if meta_model.lora:
        with attach_lora(
            meta_model.network, meta_model.lora, block, meta_model.dtype, meta_model.device, listener.record
        ) as factors:
            yield
            names = list(factors)
    else:
        linears = meta_model.linear_layers(block)
        handles = [
            meta_model.network.get_submodule(linear.path).register_forward_pre_hook(
                lambda _module, inputs, name=linear.tensor: listener.record(name, inputs[0])
            )
            for linear in linears
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        names = [linear.tensor for linear in linears]
    for name in names:
        if name not in listener.sums:
            raise ConfigurationError(
                f"the layer of {name} is never called, so that its inputs are not known",
                cause="its block uses the weight in a way of its own, or sends tokens to other layers only",
                hint="report this architecture",
            )


def _missing_inputs_error(tensor: str) -> ConfigurationError:
    return ConfigurationError(
        f"the layer of {tensor} is not given every token",
        cause="its block sends tokens to some layers only, so that its inputs are no measure of the whole set",
        hint="report this architecture",
    )
