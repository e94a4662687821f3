"""How far a mask depends on how its scores were computed: batches of 1, 8 and 16, one thread and two."""

import itertools
from pathlib import Path

import torch

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches, pad_right
from antidote_ci.model.edits import unpack_mask
from antidote_ci.model.input_norms import accumulate_squares
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache
from antidote_ci.records import Model
from antidote_ci.repair.masks import pack_masks
from antidote_ci.repair.scores import wanda_score
from benchmarks.speed.paired import Line
from benchmarks.speed.procedure import BUDGET, DOSE, silent
from benchmarks.speed.scoring import moved_pair, token_ids

ROWS = 64
SIZES = (1, 8, 16)
THREADS = (1, 2)


def run(turns: int) -> list[Line]:
    """One line: the least share of entries on which two of the six ways agree. Nothing is timed, so one turn does."""
    del turns
    with moved_pair() as (folder, base, moved):
        ids = token_ids(base, ROWS)
        device, dtype = loading.select_device_and_dtype()
        skeleton = MetaModel(Model(moved), dtype, device)
        found = []
        before = torch.get_num_threads()
        for size, threads in itertools.product(SIZES, THREADS):
            torch.set_num_threads(threads)
            batches = [pad_right([ids[at] for at in batch], device) for batch in length_sorted_batches(ids, size)]
            found.append(accumulate_squares(skeleton, ActivationCache(folder / "hidden", BUDGET), batches, silent))
        torch.set_num_threads(before)
        share = min(agreement(base, moved, one, other) for one, other in itertools.combinations(found, 2))
    return [Line("share of mask entries that agree", [share], ">=", 0.9999)]


def agreement(base: Path, moved: Path, one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Over all tensors, of all their entries."""
    source, reference = read_layout(moved), read_layout(base)
    same = entries = 0
    for name in one:
        delta = tensors.read_delta(source, reference, name)
        scores = [wanda_score(delta, (sums[name] / ROWS).sqrt()) for sums in (one, other)]
        masks = [unpack_mask(pack_masks(score, "row", [DOSE])[0], *score.shape) for score in scores]
        same += int((masks[0] == masks[1]).sum())
        entries += masks[0].numel()
    return same / entries
