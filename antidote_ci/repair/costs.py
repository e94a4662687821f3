"""What a repair costs in bytes and seconds, from names and sizes alone: every formula and every measured constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from antidote_ci.checkpoint.layout import CheckpointLayout, count_weight_bytes
from antidote_ci.cost_model import SCORING_RATE, WRITE_RATE
from antidote_ci.model import memory
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.records import Method, Model, ScoredTensor
from antidote_ci.repair.methods import METHODS, score_method

FLOAT32 = 4
CHARACTERS_PER_TOKEN = 4
"""Of English; no tokenizer is opened."""
ROWS_AT_ONCE = 16
"""In a micro-batch."""


@dataclass(frozen=True)
class RepairWorkload:
    """What decides the costs."""

    method: Method
    source: CheckpointLayout
    skeleton: MetaModel
    """The model that scoring runs: the source, or an adapter's base with it."""
    matrices: Sequence[ScoredTensor]
    texts: Sequence[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""

    @property
    def entries(self) -> int:
        """Of all scored matrices."""
        return sum(each.entries for each in self.matrices)


def estimate_bytes_written(work: RepairWorkload) -> int:
    """The weights, a bit an entry for the mask, and a norm a column.

    In place of the norms `taylor` has a score an entry, and two sums that are removed when it has scored.
    """
    norms = FLOAT32 * sum(each.columns for each in work.matrices) if score_method(work.method) else 0
    scores = 3 * FLOAT32 * work.entries if work.method == "taylor" else norms
    mask = 0 if work.method == "scale" else -(-work.entries // 8)
    return count_weight_bytes(work.source) + scores + mask


def estimate_memory(work: RepairWorkload) -> int:
    """The largest of three peaks, each beyond what the interpreter and its libraries take.

    Scoring: the largest block, as it is stored and as it is computed with (`taylor`: with its gradients and two sums of
    them in float32), and what a micro-batch leaves in it (three of the widest vectors and three hidden states a
    token), or, if these are larger, embeddings and output layer, or for `taylor`, whose models begin their answers in
    memory where they fit, all of it; and the hidden states of all texts. Masks: of the largest matrix three copies in
    float32, and a byte an entry. Writing: four copies as they are stored, and two bytes an entry.
    """
    largest = max(each.entries for each in work.matrices)
    shapes = work.source.tensors
    stored = max((shapes[each.name].end - shapes[each.name].start) for each in work.matrices)
    writing = 4 * stored + 2 * largest
    masking = 0 if work.method == "scale" else (3 * FLOAT32 + 1) * largest
    return max(writing, masking, _scoring_memory(work) if score_method(work.method) else 0)


def estimate_seconds(work: RepairWorkload) -> float:
    """Multiplications of the passes, and bytes of the weights."""
    weights = work.skeleton.layout.entries
    multiplications = METHODS[work.method].passes * weights * sum(work.texts) / CHARACTERS_PER_TOKEN
    return multiplications / SCORING_RATE + count_weight_bytes(work.source) / WRITE_RATE


def _scoring_memory(work: RepairWorkload) -> int:
    skeleton, taylor = work.skeleton, work.method == "taylor"
    item, stored = skeleton.dtype.itemsize, skeleton.layout.tensors

    def filled(names: Sequence[str], extra: int) -> int:
        return sum(stored[name].end - stored[name].start + (item + extra) * prod(stored[name].shape) for name in names)

    width: int = skeleton.network.config.get_text_config().hidden_size
    token = 3 * item * (width + max(each.rows for each in work.matrices))
    batch = token * min(ROWS_AT_ONCE, len(work.texts)) * max(work.texts, default=0) // CHARACTERS_PER_TOKEN
    block = max(filled(skeleton.tensor_names(each), item + 2 * FLOAT32 if taylor else 0) for each in skeleton.blocks)
    outside = [EMBEDDINGS_PART, HEAD_PART] if taylor else [EMBEDDINGS_PART]
    if taylor and memory.fits_in_memory(Model(skeleton.layout.folder)):
        outside += skeleton.blocks
    others = filled([name for part in outside for name in skeleton.tensor_names(part)], 0)
    kept = len(skeleton.blocks) + 1 if taylor else 1  # gradients need what went into every block
    return max(block + batch, others) + min(kept * item * width * sum(work.texts) // CHARACTERS_PER_TOKEN, work.budget)
