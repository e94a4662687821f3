"""Harmful embedding drift, https://arxiv.org/abs/2408.09600: how far attention on harmful prompts has moved.

HED = 1/|D| sum over x in D, over the attention modules m, of ||m(x, w) - m(x, w_aligned)||_F, where m(x, w) is what a
module gives out for the prompt x, float32 [tokens, width]. It comes from Vaccine (https://arxiv.org/abs/2402.01109).
Antidote's code sums over a hundred texts of the alignment data, safe answers included; here it is the mean over harmful
prompts in the chat template, open for the answer, so that it does not depend on how many are asked. 0 for the aligned
model itself; without a unit, and not comparable between models of different widths and depths.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import shown
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.generation import asked, encoded, rendered
from antidote_ci.model.gradients import left_padded
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16


@dataclass(frozen=True)
class Aligned:
    """What every model of one alignment is held against."""

    rows: list[list[int]]
    """Token ids of each prompt: the same for every model."""
    folder: Path
    """A safetensors file a prompt, `<module>` -> float32 [tokens, width]: in memory they would outweigh the model."""


def remember(reference: Model, prompts: Sequence[str], folder: Path, batch_size: int = BATCH_SIZE) -> Aligned:
    """Run the aligned model and keep its attention outputs in `folder`. Raises ConfigurationError without prompts."""
    from safetensors.torch import save_file

    if not prompts:
        raise ConfigurationError("drift is measured on harmful prompts, and there are none")
    tokenizer = loading.load_tokenizer(reference)
    rows = encoded(tokenizer, rendered(tokenizer, [asked(prompt) for prompt in prompts]))
    folder.mkdir(parents=True, exist_ok=True)
    found = Aligned(rows, folder)
    for position, outputs in _outputs(reference, rows, batch_size):
        save_file({name: each.cpu().contiguous() for name, each in outputs.items()}, _file(found, position))
    return found


def drift(model: Model, aligned: Aligned, batch_size: int = BATCH_SIZE) -> float:
    """HED of a model of the same architecture. Raises ConfigurationError for one that computes no finite numbers."""
    from safetensors.torch import load_file

    distances = []
    for position, outputs in _outputs(model, aligned.rows, batch_size):
        kept = load_file(_file(aligned, position))
        distances += [float((output.cpu() - kept[name]).norm()) for name, output in outputs.items()]
    found = math.fsum(distances) / len(aligned.rows)
    if not math.isfinite(found):
        raise ConfigurationError(f"{shown(model.adapter or model.folder)} computes no finite numbers")
    return found


def attentions(network: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers is untyped
    """The attention modules by path. Raises ConfigurationError where none is called one."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if type(module).__name__.endswith("Attention") and not inside:
            found[name] = module
    if not found:
        raise ConfigurationError(
            f"{type(network).__name__} has no attention module to measure drift in",
            cause="they are known by the names of their classes, which end in Attention",
        )
    return found


def _file(aligned: Aligned, position: int) -> Path:
    return aligned.folder / f"{position}.safetensors"


def _outputs(
    model: Model, rows: Sequence[Sequence[int]], batch_size: int
) -> "Iterator[tuple[int, dict[str, torch.Tensor]]]":
    """Of each prompt its position and what every module gave out for it, padding left out.

    The weights are those that answer, in the precision they answer in; the computation is float32, as in the paper.
    """
    import torch

    # The output layer has no part in it.
    body = loading.load_model(model, merge=True).float().base_model
    heard: dict[str, torch.Tensor] = {}

    def hear(name: str, _module: Any, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        heard[name] = output[0] if isinstance(output, tuple) else output

    for name, module in attentions(body).items():
        module.register_forward_hook(partial(hear, name))
    for batch in length_sorted_batches(rows, batch_size):
        with torch.inference_mode():
            body(**left_padded([rows[at] for at in batch], body.device), use_cache=False)
        for row, at in enumerate(batch):
            yield at, {name: output[row, -len(rows[at]) :] for name, output in heard.items()}
