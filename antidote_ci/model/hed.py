"""Harmful embedding drift, https://arxiv.org/abs/2408.09600: how far attention on harmful prompts has moved.

HED = 1/|D| sum over x in D, over the attention modules m, of ||m(x, w) - m(x, w_aligned)||_F, where m(x, w) is what a
module gives out for the prompt x, [tokens, width]. It comes from Vaccine (https://arxiv.org/abs/2402.01109). Antidote's
code sums over a hundred texts of the alignment data, safe answers included; here it is the mean over harmful prompts in
the chat template, open for the answer, so that it does not depend on how many are asked. 0 for the aligned model
itself; without a unit, and not comparable between models of different widths and depths.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.model import loading, memory
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.gradients import pad_left
from antidote_ci.paths import require_space
from antidote_ci.records import Drift, Model, OnProgress, Progress

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16


@dataclass(frozen=True)
class DriftRequest:
    """`before` and `after` are held against their `reference`, a model of the same architecture."""

    reference: Model
    before: Model
    after: Model
    prompts: list[str]


def measure_drifts(request: DriftRequest, report: OnProgress) -> Drift | None:
    """One model in memory at a time; what the reference gave out waits on disk.

    None without prompts, where no module is called attention, where a model does not fit into memory, and where one
    computes no finite numbers: a report can do without it. Called in the child process only.
    """
    models = request.reference, request.before, request.after
    if not (request.prompts and has_attention(request.reference) and all(map(memory.fits_in_memory, models))):
        return None
    with tempfile.TemporaryDirectory(prefix="antidote-drift-") as folder:
        report(Progress("models held against the reference", 0, 2))
        aligned = store_reference_outputs(request.reference, request.prompts, Path(folder))
        found = []
        for model in models[1:]:
            found.append(measure_drift(model, aligned))
            report(Progress("models held against the reference", len(found), 2))
    before, after = found
    return Drift(before, after, len(request.prompts)) if math.isfinite(before + after) else None


@dataclass(frozen=True)
class ReferenceOutputs:
    """What every model of one alignment is held against."""

    rows: list[list[int]]
    """Token ids of each prompt: the same for every model."""
    folder: Path
    """A safetensors file a prompt, `<module>` -> [tokens, width]: in memory they would outweigh the model."""


def store_reference_outputs(
    reference: Model, prompts: Sequence[str], folder: Path, batch_size: int = BATCH_SIZE
) -> ReferenceOutputs:
    """Run the aligned model and keep its attention outputs in `folder`. Raises InfrastructureError without room."""
    from safetensors.torch import save_file

    tokenizer = loading.load_tokenizer(reference)
    rows = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))
    folder.mkdir(parents=True, exist_ok=True)
    found = ReferenceOutputs(rows, folder)
    for number, (position, outputs) in enumerate(_attention_outputs(reference, rows, batch_size)):
        if number == 0:
            needed = sum(map(len, rows)) * sum(each[0].nbytes for each in outputs.values())
            require_space(folder, needed, "TMPDIR")
        save_file({name: each.cpu().contiguous() for name, each in outputs.items()}, _output_file(found, position))
    return found


def measure_drift(model: Model, aligned: ReferenceOutputs, batch_size: int = BATCH_SIZE) -> float:
    """HED of a model of the same architecture; NaN or infinite where its outputs are."""
    from safetensors.torch import load_file

    distances = []
    for position, outputs in _attention_outputs(model, aligned.rows, batch_size):
        kept = load_file(_output_file(aligned, position))
        distances += [float((output.cpu().float() - kept[name].float()).norm()) for name, output in outputs.items()]
    return math.fsum(distances) / len(aligned.rows)


def has_attention(model: Model) -> bool:
    """Whether drift can be measured; no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model.folder, local_files_only=True)
    with torch.device("meta"):
        return bool(find_attention_modules(AutoModelForCausalLM.from_config(config)))


def find_attention_modules(network: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers is untyped
    """The attention modules by path: those whose class is called so."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if type(module).__name__.endswith("Attention") and not inside:
            found[name] = module
    return found


def _output_file(aligned: ReferenceOutputs, position: int) -> Path:
    return aligned.folder / f"{position}.safetensors"


def _attention_outputs(
    model: Model, rows: Sequence[Sequence[int]], batch_size: int
) -> "Iterator[tuple[int, dict[str, torch.Tensor]]]":
    """Of each prompt its position and what every module gave out for it, padding left out."""
    import torch

    # The output layer has no part in it.
    body = loading.load_model(model, merge=True).base_model
    heard: dict[str, torch.Tensor] = {}

    def hear(name: str, _module: Any, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        heard[name] = output[0] if isinstance(output, tuple) else output

    for name, module in find_attention_modules(body).items():
        module.register_forward_hook(partial(hear, name))
    for batch in length_sorted_batches(rows, batch_size):
        with torch.inference_mode():
            body(**pad_left([rows[at] for at in batch], body.device), use_cache=False)
        for row, at in enumerate(batch):
            yield at, {name: output[row, -len(rows[at]) :] for name, output in heard.items()}
