"""Harmful embedding drift (HED): how far a model's attention outputs on harmful prompts are from the aligned model's.

HED = 1/|D| sum over x in D, over the attention modules m, of ||m(x, w) - m(x, w_aligned)||_F, where m(x, w) is the
output [tokens, width] of a module for the prompt x.

Introduced by Vaccine (https://arxiv.org/abs/2402.01109) and used by Antidote (https://arxiv.org/abs/2408.09600), whose
code sums over a hundred texts of the alignment data, safe answers included. Here it is the mean over harmful prompts in
the chat template up to the start of the answer, so it does not depend on the number of prompts. It is 0 for the aligned
model, has no unit, and cannot be compared between models of different widths and depths.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from antidote_ci.model import Network, Tensor, loading, memory
from antidote_ci.model.adapters import build_on_meta_device
from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.conversations import NO_SETTINGS, encode_prompts
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, SequentialForward
from antidote_ci.paths import require_space
from antidote_ci.records import ChatSettings, Drift, Model, OnProgress, Progress

BATCH_SIZE = 16

Record = Callable[[str, Tensor], None]
"""Called with a key of a module and a prompt, and the module's output [tokens, width] without padding."""
AttentionRunner = Callable[[Model, Sequence[Sequence[int]], int, Record], None]
"""Runs a model on token rows in batches of a size, and records the outputs of its attention modules."""


@dataclass(frozen=True)
class DriftRequest:
    """The aligned `reference`, and two models of the same architecture that are compared with it."""

    reference: Model
    before: Model
    after: Model
    prompts: list[str]
    chat: ChatSettings = NO_SETTINGS


def run_in_memory(model: Model, rows: Sequence[Sequence[int]], batch_size: int, record: Record) -> None:
    """Record the attention outputs of a model that is loaded completely."""
    import torch

    body = loading.load_model(model, merge=True).base_model  # without the output layer
    batches = length_sorted_batches(rows, batch_size)
    with _record_attention(body, "", rows, batches, record), torch.inference_mode():
        for batch in batches:
            body(**pad_left([rows[position] for position in batch], body.device), use_cache=False)


def run_streamed(
    on_progress: OnProgress, model: Model, rows: Sequence[Sequence[int]], batch_size: int, record: Record
) -> None:
    """Record the attention outputs of a model that is loaded one block at a time."""
    device, dtype = loading.select_device_and_dtype()
    meta_model = MetaModel(model, dtype, device)
    batches = length_sorted_batches(rows, batch_size)
    inputs = [pad_left([rows[position] for position in batch], device) for batch in batches]
    finished = count(1)

    @contextmanager
    def enter(block: str) -> Iterator[None]:
        modules = meta_model.network.get_submodule(block)
        with meta_model.attach_adapter(block), _record_attention(modules, block, rows, batches, record):
            yield

    def report(_block: str) -> None:
        on_progress(Progress("layers compared", next(finished), len(meta_model.blocks)))

    with memory.return_freed_memory(), tempfile.TemporaryDirectory(prefix="antidote-hidden-") as folder:
        forward = SequentialForward(meta_model, ActivationCache(Path(folder), memory.HIDDEN_STATES_BUDGET), inputs)
        forward.embed()
        forward.run_blocks(enter, report)


def measure_drifts(request: DriftRequest, on_progress: OnProgress) -> Drift | None:
    """HED of `before` and `after`. One model is in memory at a time, or one block if any of the models does not fit.

    The reference's outputs are stored on disk. Returns None without prompts, when no module is an attention module, and
    when a figure is not finite. Raises InfrastructureError when the disk has no room. Runs in the sandbox process only.
    """
    models = request.reference, request.before, request.after
    if not (request.prompts and has_attention(request.reference)):
        return None
    run = run_in_memory if all(map(memory.fits_in_memory, models)) else partial(run_streamed, on_progress)
    with tempfile.TemporaryDirectory(prefix="antidote-drift-") as folder:
        on_progress(Progress("models compared with the reference", 0, 2))
        aligned = store_reference_outputs(request.reference, request.prompts, Path(folder), run=run, chat=request.chat)
        drifts = []
        for model in models[1:]:
            drifts.append(measure_drift(model, aligned, run=run))
            on_progress(Progress("models compared with the reference", len(drifts), 2))
    before, after = drifts
    return Drift(before, after, len(request.prompts)) if math.isfinite(before + after) else None


@dataclass(frozen=True)
class ReferenceOutputs:
    """The attention outputs of an aligned model."""

    rows: list[list[int]]
    """Token ids of each prompt, the same for every model."""
    folder: Path
    """One file for each module and prompt, [tokens, width]. In memory they would exceed the model."""

    def file(self, key: str) -> Path:
        """The file of a module and a prompt."""
        return self.folder / f"{key}.safetensors"


def store_reference_outputs(
    reference: Model,
    prompts: Sequence[str],
    folder: Path,
    batch_size: int = BATCH_SIZE,
    run: AttentionRunner = run_in_memory,
    chat: ChatSettings = NO_SETTINGS,
) -> ReferenceOutputs:
    """Run the aligned model and write its attention outputs. Raises InfrastructureError when the disk has no room."""
    from safetensors.torch import save_file

    tokenizer = loading.load_tokenizer(reference)
    rows = encode_prompts(tokenizer, prompts, chat)
    folder.mkdir(parents=True, exist_ok=True)
    aligned = ReferenceOutputs(rows, folder)
    modules = len(find_attention_modules(build_on_meta_device(reference.folder)))

    checked = False

    def store(key: str, output: Tensor) -> None:
        nonlocal checked
        if not checked:
            require_space(folder, sum(map(len, rows)) * output[0].nbytes * modules, "TMPDIR")
            checked = True
        save_file({"output": output.cpu().contiguous()}, aligned.file(key))

    run(reference, rows, batch_size, store)
    return aligned


def measure_drift(
    model: Model, aligned: ReferenceOutputs, batch_size: int = BATCH_SIZE, run: AttentionRunner = run_in_memory
) -> float:
    """HED of a model of the same architecture. NaN or infinite if its outputs are."""
    from safetensors.torch import load_file

    distances = []

    def compare(key: str, output: Tensor) -> None:
        distances.append(float((output.cpu().float() - load_file(aligned.file(key))["output"].float()).norm()))

    run(model, aligned.rows, batch_size, compare)
    return math.fsum(distances) / len(aligned.rows)


def has_attention(model: Model) -> bool:
    """Whether the model has attention modules. No weight is read."""
    return bool(find_attention_modules(build_on_meta_device(model.folder)))


def find_attention_modules(network: Network) -> dict[str, Network]:
    """The outermost modules whose class name ends with `Attention`, by path."""
    modules: dict[str, Network] = {}
    for name, module in network.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in modules)
        if type(module).__name__.endswith("Attention") and not nested:
            modules[name] = module
    return modules


@contextmanager
def _record_attention(
    network: Network, prefix: str, rows: Sequence[Sequence[int]], batches: Sequence[Sequence[int]], record: Record
) -> Iterator[None]:
    """In the context, record the outputs of the attention modules. Each is called once for each batch, in order."""

    def hook(name: str, remaining: Iterator[Sequence[int]], _module: Network, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        states = output[0] if isinstance(output, tuple) else output
        for row, position in enumerate(next(remaining)):
            record(f"{prefix}.{name}-{position}", states[row, -len(rows[position]) :])

    handles = [
        module.register_forward_hook(partial(hook, name, iter(batches)))
        for name, module in find_attention_modules(network).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
