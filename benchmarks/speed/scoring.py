"""The Wanda score's one pass over the realignment set, against a plain forward, the paper's procedure, and memory."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches, pad_right
from antidote_ci.model.conversations import Message, encode_texts, render_conversations, single_turn
from antidote_ci.model.input_norms import BATCH_SIZE, TOKENS_AT_ONCE, accumulate_squares, sum_squares
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, Inputs
from antidote_ci.records import Model
from benchmarks.speed import paper
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import BUDGET, DOSE, masked, realignment, scored, silent
from demo.models import write_base

ROWS = 128
PAPER_ROWS = 96
"""The paper's procedure is slow: it gets fewer rows, and so do we where we are compared with it."""


def run(count: int) -> list[Line]:
    """Four lines. Models are in memory before a turn begins, save ours, which reads its blocks as it goes."""
    device, dtype = loading.select_device_and_dtype()
    with moved_pair() as (folder, base, moved):
        ids = token_ids(base, ROWS)
        batches = [pad_right([ids[at] for at in batch], device) for batch in length_sorted_batches(ids, BATCH_SIZE)]
        network = opened(moved, dtype)
        skeleton = MetaModel(Model(moved), dtype, device)
        streamed, forward, hooked = turns(
            count,
            lambda: accumulate_squares(skeleton, ActivationCache(folder / "hidden", BUDGET), batches, silent),
            lambda: plain_forward(network, batches),
            lambda: in_memory(network, batches),
        )
        single = [torch.tensor([row]) for row in token_ids(base, PAPER_ROWS)]
        exact = opened(moved, torch.float32)

        def ours() -> None:
            shutil.rmtree(folder / "repair", ignore_errors=True)
            scores = scored(moved, base, folder / "repair", PAPER_ROWS)
            masked(moved, base, scores, folder / "repair", [DOSE])

        whole, same, as_run = turns(
            count,
            ours,
            lambda: paper_masks(network, single),
            lambda: paper_masks(exact, single),
        )
    return [
        Line("scoring pass / plain forward", ratios(streamed, forward), "<=", 1.15),
        Line("streamed / in-memory scoring", ratios(streamed, hooked), "<=", 1.5),
        Line("score and mask / the paper's procedure, same dtype", ratios(whole, same), "<=", 0.45),
        Line("score and mask / the paper's procedure in float32", ratios(whole, as_run), "<=", 0.15),
    ]


@contextmanager
def moved_pair() -> Iterator[tuple[Path, Path, Path]]:
    """A folder to work in; the base; and one that is a little off, as fine-tuned as far as cost is concerned."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, moved = folder / "SmolLM2-135M-Instruct", folder / "moved"
        write_base(base)
        _write_moved(base, moved)
        yield folder, base, moved


def _write_moved(base: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and "embed" not in name:
            tensors[name] = tensor + (0.002 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def token_ids(folder: Path, rows: int) -> list[list[int]]:
    """Exchanges of the embedded realignment set, in the model's own template."""
    tokenizer = loading.load_tokenizer(Model(folder))
    exchanges = [[*single_turn(row.prompt), Message("assistant", row.response)] for row in realignment(rows)]
    return encode_texts(tokenizer, render_conversations(tokenizer, exchanges, add_generation_prompt=False))


def opened(folder: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401 - transformers is untyped
    """The whole model in memory."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.inference_mode()
def plain_forward(network: Any, batches: list[Inputs]) -> None:  # noqa: ANN401
    """What any use of the model costs."""
    for batch in batches:
        network(**batch, use_cache=False, logits_to_keep=1)


@torch.inference_mode()
def in_memory(network: Any, batches: list[Inputs]) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """The same sums by hooks on a model that is whole in memory."""
    sums: dict[str, torch.Tensor] = {}
    real, buffer = torch.empty(0), torch.empty(TOKENS_AT_ONCE * network.config.intermediate_size)

    def add(name: str, inputs: torch.Tensor) -> None:
        found = sum_squares(inputs.flatten(0, -2)[real.flatten().bool()], buffer)
        sums[name] = sums[name] + found if name in sums else found

    handles = [
        module.register_forward_pre_hook(lambda _module, inputs, name=name: add(name, inputs[0]))
        for name, module in network.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    for batch in batches:
        real = batch["attention_mask"]
        network(**batch, use_cache=False, logits_to_keep=1)
    for handle in handles:
        handle.remove()
    return sums


@torch.inference_mode()
def paper_masks(network: Any, rows: list[torch.Tensor]) -> None:  # noqa: ANN401
    """One mask."""
    paper.masks(network, rows, DOSE)
