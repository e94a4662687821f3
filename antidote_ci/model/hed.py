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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from antidote_ci.model import Network, Tensor, loading, memory
from antidote_ci.model.adapters import build_on_meta_device
from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.paths import require_space
from antidote_ci.records import Drift, Model, OnProgress, Progress

BATCH_SIZE = 16


@dataclass(frozen=True)
class DriftRequest:
    """The aligned `reference`, and two models of the same architecture that are compared with it."""

    reference: Model
    before: Model
    after: Model
    prompts: list[str]


def measure_drifts(request: DriftRequest, on_progress: OnProgress) -> Drift | None:
    """HED of `before` and `after`. One model is in memory at a time; the reference's outputs are stored on disk.

    Returns None without prompts, when no module is an attention module, when a model does not fit into memory, and when
    a figure is not finite. Runs in the sandbox process only.
    """
    models = request.reference, request.before, request.after
    if not (request.prompts and has_attention(request.reference) and all(map(memory.fits_in_memory, models))):
        return None
    with tempfile.TemporaryDirectory(prefix="antidote-drift-") as folder:
        on_progress(Progress("models compared with the reference", 0, 2))
        aligned = store_reference_outputs(request.reference, request.prompts, Path(folder))
        drifts = []
        for model in models[1:]:
            drifts.append(measure_drift(model, aligned))
            on_progress(Progress("models compared with the reference", len(drifts), 2))
    before, after = drifts
    return Drift(before, after, len(request.prompts)) if math.isfinite(before + after) else None


@dataclass(frozen=True)
class ReferenceOutputs:
    """The attention outputs of an aligned model."""

    rows: list[list[int]]
    """Token ids of each prompt, the same for every model."""
    folder: Path
    """One safetensors file per prompt, `<module>` -> [tokens, width]. In memory they would exceed the model."""

    def file(self, position: int) -> Path:
        """The file of the prompt at `position`."""
        return self.folder / f"{position}.safetensors"


def store_reference_outputs(
    reference: Model, prompts: Sequence[str], folder: Path, batch_size: int = BATCH_SIZE
) -> ReferenceOutputs:
    """Run the aligned model and write its attention outputs. Raises InfrastructureError when the disk has no room."""
    from safetensors.torch import save_file

    tokenizer = loading.load_tokenizer(reference)
    rows = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))
    folder.mkdir(parents=True, exist_ok=True)
    aligned = ReferenceOutputs(rows, folder)
    for number, (position, outputs) in enumerate(_attention_outputs(reference, rows, batch_size)):
        if number == 0:
            bytes_per_token = sum(output[0].nbytes for output in outputs.values())
            require_space(folder, sum(map(len, rows)) * bytes_per_token, "TMPDIR")
        save_file({name: output.cpu().contiguous() for name, output in outputs.items()}, aligned.file(position))
    return aligned


def measure_drift(model: Model, aligned: ReferenceOutputs, batch_size: int = BATCH_SIZE) -> float:
    """HED of a model of the same architecture. NaN or infinite if its outputs are."""
    from safetensors.torch import load_file

    distances = []
    for position, outputs in _attention_outputs(model, aligned.rows, batch_size):
        stored = load_file(aligned.file(position))
        distances += [float((output.cpu().float() - stored[name].float()).norm()) for name, output in outputs.items()]
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


def _attention_outputs(
    model: Model, rows: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield the position of each prompt, and every attention module's output for it without padding."""
    import torch

    body = loading.load_model(model, merge=True).base_model  # without the output layer
    latest: dict[str, Tensor] = {}

    def record(name: str, _module: Network, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        latest[name] = output[0] if isinstance(output, tuple) else output

    for name, module in find_attention_modules(body).items():
        module.register_forward_hook(partial(record, name))
    for batch in length_sorted_batches(rows, batch_size):
        with torch.inference_mode():
            body(**pad_left([rows[position] for position in batch], body.device), use_cache=False)
        for row, position in enumerate(batch):
            yield position, {name: output[row, -len(rows[position]) :] for name, output in latest.items()}
