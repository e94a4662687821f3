"""The input norms of the Wanda score: how large the inputs of each linear layer are.

The norm of input feature j of a layer is the root of the mean over samples of ||X_j||^2, summed over all tokens of a
sample, prompt and answer, without padding. Wanda: https://arxiv.org/abs/2306.11695; over a realignment set, as here:
Antidote, https://arxiv.org/abs/2408.09600.
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from antidote_ci.checkpoint.tensors import open_writer
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Tensor, loading
from antidote_ci.model.batching import length_sorted_batches, pad_right
from antidote_ci.model.conversations import NO_SETTINGS, Message, encode_texts, render_conversations, single_turn
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, Inputs, SequentialForward
from antidote_ci.records import ChatSettings, ComputeEnvironment, Model, OnProgress, Progress, PromptRow

BATCH_SIZE = 16
TOKENS_AT_ONCE = 512
"""Tokens squared at once. Their float32 copy stays in the processor's cache, which is up to ten times faster."""


@dataclass(frozen=True)
class InputNormRequest:
    """`rows` are harmful prompts with harmful answers; `output` is the safetensors file to write."""

    model: Model
    rows: list[PromptRow]
    output: Path
    scratch: Path
    """A folder for hidden states. They are removed at the end."""
    budget: int
    """Bytes of hidden states that stay in memory."""
    chat: ChatSettings = NO_SETTINGS


def measure_input_norms(request: InputNormRequest, on_progress: OnProgress) -> ComputeEnvironment:
    """Write `<tensor name>` -> float32 [columns], the norm of each input feature, in one forward pass.

    For a full checkpoint: the weights of the linear layers in the blocks. For an adapter: its factors there, where the
    input of A is x and that of B is A x. Raises ConfigurationError for an empty set, and for a row that is longer than
    the model's context.
    """
    if not request.rows:
        raise ConfigurationError("the realignment set is empty", hint="name one that has rows with --realignment")
    tokenizer = loading.load_cached_tokenizer(request.model)
    chat = request.chat
    exchanges = [
        [*single_turn(row.prompt, chat.system_prompt), Message("assistant", row.response)] for row in request.rows
    ]
    texts = render_conversations(
        tokenizer, exchanges, add_generation_prompt=False, template_arguments=chat.template_arguments
    )
    rows = encode_texts(tokenizer, texts)
    device, dtype = loading.select_device_and_dtype()
    meta_model = MetaModel(request.model, dtype, device)
    meta_model.require_positions(rows)
    batches = [
        pad_right([rows[position] for position in batch], device) for batch in length_sorted_batches(rows, BATCH_SIZE)
    ]
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="hidden-") as folder:
        sums = accumulate_squares(meta_model, ActivationCache(Path(folder), request.budget), batches, on_progress)
    shapes = {name: ("F32", tuple(squares.shape)) for name, squares in sums.items()}
    with open_writer(request.output, shapes, {}) as write:
        for squares in sums.values():
            write((squares / len(rows)).sqrt())
    return describe_environment(tokenizer, BATCH_SIZE, 0)


def accumulate_squares(
    meta_model: MetaModel, cache: ActivationCache, batches: Sequence[Inputs], on_progress: OnProgress
) -> dict[str, Tensor]:
    """Tensor name -> float32 [columns]: the squares of each input feature, summed over all tokens without padding.

    Raises ConfigurationError when a layer is not called, or not with every token.
    """
    import torch

    forward, recorder = SequentialForward(meta_model, cache, batches), _InputRecorder()
    forward.embed()
    for done, block in enumerate(meta_model.blocks, 1):
        with meta_model.load_weights(block), _record_inputs(meta_model, block, recorder), torch.inference_mode():
            for index, batch in enumerate(batches):
                recorder.set_mask(batch["attention_mask"])
                forward.set_hidden(index, forward.run_block(block, index, forward.get_hidden(index)))
        on_progress(Progress("layers scored", done, len(meta_model.blocks)))
    return {name: recorder.sums[name].cpu() for name in sorted(recorder.sums)}


def sum_squares(features: Tensor, buffer: Tensor) -> Tensor:
    """The squares of [tokens, columns], summed over tokens: float32 [columns].

    `buffer` is float32 of at least TOKENS_AT_ONCE * columns entries: fresh memory takes longer than the squares.
    """
    import torch

    total = torch.zeros(features.shape[1], dtype=torch.float32, device=features.device)
    for chunk in torch.split(features, TOKENS_AT_ONCE):
        squares = buffer[: chunk.numel()].view(chunk.shape)
        total += squares.copy_(chunk).square_().sum(dim=0)
    return total


class _InputRecorder:
    """Sums the squared inputs of linear layers. Layers that take the same tensor share one sum."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._batch_sums: list[tuple[weakref.ref[Tensor], Tensor]] = []
        self._buffer: Tensor | None = None

    def set_mask(self, mask: Tensor) -> None:
        """Begin a batch with the mask [rows, tokens]: 1 for a token, 0 for padding."""
        runs = [(value, len(list(run))) for value, run in groupby(mask.flatten().tolist())]
        self._run_sizes = [size for _, size in runs]
        """Tokens in each run of unpadded or padded tokens, over all rows."""
        self._unpadded = [position for position, (value, _) in enumerate(runs) if value]
        """Positions of the unpadded runs."""
        self._batch_sums.clear()

    def record(self, tensor: str, inputs: Tensor) -> None:
        """Add the inputs [rows, tokens, columns] or [rows * tokens, columns] of the layer with that weight."""
        total = next((total for reference, total in self._batch_sums if reference() is inputs), None)
        if total is None:
            features = inputs.flatten(0, -2)
            if len(features) != sum(self._run_sizes):
                raise ConfigurationError(
                    f"the layer of {tensor} is not given every token",
                    cause="its block routes each token to some of its layers, so the norms do not cover the whole set",
                    hint="report this architecture",
                )
            total = self._sum_unpadded(features)
            self._batch_sums.append((weakref.ref(inputs), total))
        self.sums[tensor] = self.sums[tensor] + total if tensor in self.sums else total

    def _sum_unpadded(self, features: Tensor) -> Tensor:
        import torch

        if self._buffer is None or self._buffer.numel() < TOKENS_AT_ONCE * features.shape[1]:
            size = TOKENS_AT_ONCE * features.shape[1]
            self._buffer = torch.empty(size, dtype=torch.float32, device=features.device)
        if len(self._run_sizes) > 1:
            # Copies of whole runs are several times faster than index_select().
            runs = torch.split(features, self._run_sizes)
            features = torch.cat([runs[position] for position in self._unpadded])
        return sum_squares(features, self._buffer)


@contextmanager
def _record_inputs(meta_model: MetaModel, block: str, recorder: _InputRecorder) -> Iterator[None]:
    """In the context, record the inputs of the scored layers of a block. Then check that each layer was called."""
    layers = [] if meta_model.lora else meta_model.linear_layers(block)
    handles = [
        meta_model.network.get_submodule(layer.path).register_forward_pre_hook(
            lambda _module, inputs, name=layer.tensor: recorder.record(name, inputs[0])
        )
        for layer in layers
    ]
    try:
        with meta_model.attach_adapter(block, recorder.record) as factors:
            yield
            names = [*factors, *(layer.tensor for layer in layers)]
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        if name not in recorder.sums:
            raise ConfigurationError(
                f"the layer of {name} is never called, so that its inputs are not known",
                cause="its block uses the weight without calling the layer, or routes no token to it",
                hint="report this architecture",
            )
