"""Harmful embedding drift (HED): how far a model's attention outputs on harmful prompts are from the aligned model's.

HED = 1/|D| sum over x in D, over the attention modules m, of ||m(x, w) - m(x, w_aligned)||_F, where m(x, w) is the
output [tokens, width] of a module for the prompt x.

Introduced by Vaccine (https://arxiv.org/abs/2402.01109) and used by Antidote (https://arxiv.org/abs/2408.09600), whose
code sums over a hundred texts of the alignment data, safe answers included. Here it is the mean over harmful prompts in
the chat template up to the start of the answer, so it does not depend on the number of prompts. It is 0 for the aligned
model, has no unit, and cannot be compared between models of different widths and depths.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from antidote_ci.model import Network, Tensor, loading
from antidote_ci.model.adapters import build_on_meta_device
from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.conversations import NO_SETTINGS, encode_prompts
from antidote_ci.paths import require_space
from antidote_ci.records import Model

BATCH_SIZE = 16

Record = Callable[[str, Tensor], None]
"""Called with a key of a module and a prompt, and the module's output [tokens, width] without padding."""


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
    reference: Model, prompts: Sequence[str], folder: Path, batch_size: int = BATCH_SIZE
) -> ReferenceOutputs:
    """Run the aligned model and write its attention outputs. Raises InfrastructureError when the disk has no room."""
    rows = encode_prompts(loading.load_tokenizer(reference), prompts, NO_SETTINGS)
    folder.mkdir(parents=True, exist_ok=True)
    aligned = ReferenceOutputs(rows, folder)
    modules = len(find_attention_modules(build_on_meta_device(reference)))
    checked = False

    def store(key: str, output: Tensor) -> None:
        nonlocal checked
        if not checked:
            require_space(folder, sum(map(len, rows)) * output[0].nbytes * modules, "TMPDIR")
            checked = True
        save_file({"output": output.cpu().contiguous()}, aligned.file(key))

    _run(reference, rows, batch_size, store)
    return aligned


def measure_drift(model: Model, aligned: ReferenceOutputs, batch_size: int = BATCH_SIZE) -> float:
    """HED of a model of the same architecture. NaN or infinite if its outputs are."""
    distances = []

    def compare(key: str, output: Tensor) -> None:
        distances.append(float((output.cpu().float() - load_file(aligned.file(key))["output"].float()).norm()))

    _run(model, aligned.rows, batch_size, compare)
    return math.fsum(distances) / len(aligned.rows)


def has_attention(model: Model) -> bool:
    """Whether the model has attention modules. No weight is read."""
    return bool(find_attention_modules(build_on_meta_device(model)))


def find_attention_modules(network: Network) -> dict[str, Network]:
    """The outermost modules whose class name ends with `Attention`, by path."""
    modules: dict[str, Network] = {}
    for name, module in network.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in modules)
        if type(module).__name__.endswith("Attention") and not nested:
            modules[name] = module
    return modules


def _run(model: Model, rows: Sequence[Sequence[int]], batch_size: int, record: Record) -> None:
    body = loading.load_model(model, merge=True).base_model  # without the output layer
    batches = length_sorted_batches(rows, batch_size)
    with _record_attention(body, rows, batches, record), torch.inference_mode():
        for batch in batches:
            body(**pad_left([rows[position] for position in batch], body.device), use_cache=False)


@contextmanager
def _record_attention(
    network: Network, rows: Sequence[Sequence[int]], batches: Sequence[Sequence[int]], record: Record
) -> Iterator[None]:
    """In the context, record the outputs of the attention modules. Each is called once for each batch, in order."""

    def hook(name: str, remaining: Iterator[Sequence[int]], _module: Network, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        states = output[0] if isinstance(output, tuple) else output
        for row, position in enumerate(next(remaining)):
            record(f"{name}-{position}", states[row, -len(rows[position]) :])

    handles = [
        module.register_forward_hook(partial(hook, name, iter(batches)))
        for name, module in find_attention_modules(network).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
