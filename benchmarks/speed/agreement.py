"""How far a mask depends on how its scores were computed: batches of 1, 8 and 16, one thread and two; bfloat16."""

import itertools
from pathlib import Path

import numpy
import torch

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches, pad_right
from antidote_ci.model.input_norms import BATCH_SIZE, accumulate_squares
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache
from antidote_ci.records import Model
from antidote_ci.repair.masks import pack_masks
from antidote_ci.repair.scores import wanda_score
from benchmarks.speed.paired import Line
from benchmarks.speed.procedure import BUDGET, DOSE, silent
from benchmarks.speed.scoring import moved_pair, token_ids

ROWS = 64
SIZES = (1, 8, BATCH_SIZE)
THREADS = (1, 2)

Masks = dict[str, torch.Tensor]
"""Tensor name -> packed mask."""


def run(turns: int) -> list[Line]:
    """One line: the largest disagreement of two of six ways, over that of bfloat16 and float32. Nothing is timed."""
    del turns
    with moved_pair() as (folder, base, moved):
        ids = token_ids(base, ROWS)
        device, dtype = loading.select_device_and_dtype()

        def select(dtype: torch.dtype, size: int, threads: int) -> Masks:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            batches = [pad_right([ids[row] for row in batch], device) for batch in length_sorted_batches(ids, size)]
            cache = ActivationCache(folder / "hidden", BUDGET)
            sums = accumulate_squares(MetaModel(Model(moved), dtype, device), cache, batches, silent)
            torch.set_num_threads(before)
            return select_masks(base, moved, sums)

        ways = [select(dtype, size, threads) for size, threads in itertools.product(SIZES, THREADS)]
        batching = max(disagreement(one, other) for one, other in itertools.combinations(ways, 2))
        rounding = disagreement(
            select(torch.bfloat16, BATCH_SIZE, THREADS[-1]), select(torch.float32, BATCH_SIZE, THREADS[-1])
        )
    limit = f"entries that differ: {batching:.2e} between batchings, {rounding:.2e} between bfloat16 and float32"
    return [Line("mask entries that differ: batchings / bfloat16 to float32", [batching / rounding], "<=", 1.0, limit)]


def select_masks(base: Path, moved: Path, sums: dict[str, torch.Tensor]) -> Masks:
    """The mask of DOSE for every tensor."""
    source, reference = read_layout(moved), read_layout(base)
    masks = {}
    for name, squares in sums.items():
        score = wanda_score(tensors.read_delta(source, reference, name), (squares / ROWS).sqrt())
        masks[name] = pack_masks(score, "row", [DOSE])[0]
    return masks


def disagreement(one: Masks, other: Masks) -> float:
    """The share of all entries that only one of the two covers."""
    differing = sum(int(numpy.unpackbits((one[name] ^ other[name]).numpy()).sum()) for name in one)
    return differing / sum(8 * packed.numel() for packed in one.values())
