"""Plan a repair, and estimate its memory, disk space and time, from names and sizes. No weight is read.

The measured rates are in `cost_model`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from antidote_ci.checkpoint.adapter_config import A_ENDING
from antidote_ci.checkpoint.layout import CheckpointLayout, count_weight_bytes, read_layout
from antidote_ci.cost_model import Computation
from antidote_ci.model import memory
from antidote_ci.model.distillation import ANSWER_TOKENS
from antidote_ci.model.gradients import BATCH_SIZE
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.records import (
    Grouping,
    Method,
    Model,
    OnProgress,
    RepairPlan,
    ReportedReference,
    ReportedSource,
    ScoredTensor,
)
from antidote_ci.repair import masks
from antidote_ci.repair.methods import METHODS, score_method
from antidote_ci.repair.targets import list_scored, resolve_repair_target
from antidote_ci.repair.taylor import FLOAT32, HARMFUL_PER_BENIGN, MAX_HARMFUL, estimate_scratch

CHARACTERS_PER_TOKEN = 4
"""Of English text. No tokenizer is opened."""
ROWS_AT_ONCE = 16
"""Texts in a micro-batch."""
LOGITS_COPIES = 6
"""Tensors of the size of the logits that are in memory at once: measured."""


@dataclass(frozen=True)
class MemoryRequest:
    """What the memory of a repair depends on."""

    model: Model
    method: Method
    texts: list[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""


@dataclass(frozen=True)
class PlanRequest:
    """The arguments of `plan_repair`."""

    source: ReportedSource
    reference: ReportedReference
    dose: float
    memory: MemoryRequest


@dataclass(frozen=True)
class RepairWorkload:
    """The inputs of the estimates."""

    method: Method
    source: CheckpointLayout
    meta_model: MetaModel
    """The model that scoring runs: the source, or the base with the adapter."""
    matrices: Sequence[ScoredTensor]
    texts: Sequence[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""

    @property
    def entries(self) -> int:
        """The number of entries of all scored matrices."""
        return sum(matrix.entries for matrix in self.matrices)


def plan_repair(request: PlanRequest, _on_progress: OnProgress) -> RepairPlan:
    """Compute the plan."""
    matrices, left_alone = list_scored(request.memory.model)
    work = _build_workload(request.memory, matrices)
    per = METHODS[work.method].per
    covered = _count_covered(matrices, per, request.dose)
    return RepairPlan(
        source=request.source,
        reference=request.reference,
        method=work.method,
        target=resolve_repair_target(request.memory.model),
        per=per,
        dose=request.dose,
        effective_dose=covered / work.entries if per else request.dose,
        tensors=matrices,
        left_alone=left_alone,
        entries_covered=covered,
        bytes_written=estimate_bytes_written(work),
        memory_bytes=estimate_peak_memory(work),
        seconds=estimate_computation(
            work.method, work.meta_model.layout.entries, work.texts, count_weight_bytes(work.source)
        ).seconds(),
    )


def estimate_memory(request: MemoryRequest, _on_progress: OnProgress) -> int:
    """The bytes that a repair needs in memory, in addition to the libraries. Reads no weights."""
    return estimate_peak_memory(_build_workload(request, list_scored(request.model)[0]))


def estimate_bytes_written(work: RepairWorkload) -> int:
    """Estimate the disk space that a repair takes: repaired weights, mask and scores, or before them scratch files.

    The mask has one bit per entry (`scale`: no mask). The scores of `antidote` are one float32 norm per column of each
    matrix, those of `taylor` one float32 score per entry. The scratch files of `taylor` are deleted before the weights
    are written.
    """
    norms = FLOAT32 * sum(matrix.columns for matrix in work.matrices) if score_method(work.method) else 0
    scores = FLOAT32 * work.entries if work.method == "taylor" else norms
    mask = 0 if work.method == "scale" else -(-work.entries // 8)
    scratch = estimate_scratch(work.matrices) + _teacher_bytes(work) if work.method == "taylor" else 0
    return max(count_weight_bytes(work.source) + scores + mask, scratch)


def estimate_peak_memory(work: RepairWorkload) -> int:
    """Estimate the peak memory in bytes, without the interpreter and its libraries: the largest of four peaks.

    Scoring: the largest block in its stored and its computing dtype (`taylor`: with gradients, and two float32 sums of
    as many tensors as the budget holds), and the activations of a micro-batch (three vectors of the widest layer and
    three hidden states per token), or the embeddings (`taylor`: with the output layer and logits); plus the hidden
    states of all texts. Answers for `taylor`: the whole model, if it fits in memory. Masks: three
    float32 copies of the largest matrix, and one byte per entry. Writing: four copies in the stored dtype, and two
    bytes per entry.
    """
    largest = max(matrix.entries for matrix in work.matrices)
    infos = [work.source.tensors[matrix.name] for matrix in work.matrices]
    writing = 4 * max(info.end - info.start for info in infos) + 2 * largest
    masking = 0 if work.method == "scale" else (3 * FLOAT32 + 1) * largest
    return max(writing, masking, _scoring_memory(work) if score_method(work.method) else 0)


def estimate_computation(method: Method, weights: int, texts: Sequence[int], written: int) -> Computation:
    """Estimate from the number of weights of the model, the characters of each text, and the bytes to write."""
    scored = METHODS[method].passes * weights * sum(texts) / CHARACTERS_PER_TOKEN
    return Computation(scored=scored, written=written)


def _build_workload(request: MemoryRequest, matrices: Sequence[ScoredTensor]) -> RepairWorkload:
    source = read_layout(request.model.adapter or request.model.folder)
    meta_model = MetaModel(request.model, select_device_and_dtype()[1], "cpu")
    return RepairWorkload(request.method, source, meta_model, matrices, request.texts, request.budget)


def _count_covered(matrices: Sequence[ScoredTensor], per: Grouping | None, dose: float) -> int:
    """Count the entries of the mask. `scale` multiplies all entries, or those of the factors B of an adapter."""
    if per is not None:
        return sum(masks.count_covered(matrix, per, dose) for matrix in matrices)
    if not dose:
        return 0
    return sum(matrix.entries for matrix in matrices if not matrix.name.endswith(A_ENDING))


def _scoring_memory(work: RepairWorkload) -> int:
    meta_model, is_taylor = work.meta_model, work.method == "taylor"
    item, infos = meta_model.dtype.itemsize, meta_model.layout.tensors

    def loaded_bytes(names: Sequence[str], extra: int) -> int:
        return sum(infos[name].end - infos[name].start + (item + extra) * prod(infos[name].shape) for name in names)

    width: int = meta_model.network.config.get_text_config().hidden_size
    token = 3 * item * (width + max(matrix.rows for matrix in work.matrices))
    batch = token * min(ROWS_AT_ONCE, len(work.texts)) * max(work.texts, default=0) // CHARACTERS_PER_TOKEN
    loaded = max(loaded_bytes(meta_model.tensor_names(block), item if is_taylor else 0) for block in meta_model.blocks)
    if is_taylor:
        # The sums of a block, in groups of tensors that keep to the budget.
        entries = max(
            sum(prod(infos[name].shape) for name in meta_model.tensor_names(block)) for block in meta_model.blocks
        )
        largest = max(matrix.entries for matrix in work.matrices)
        loaded += 2 * FLOAT32 * min(entries, max(work.budget // (2 * FLOAT32), largest))
    outside = loaded_bytes(meta_model.tensor_names(EMBEDDINGS_PART), 0)
    answering = 0
    if is_taylor:
        outside += loaded_bytes(meta_model.tensor_names(HEAD_PART), 0) + _logits_memory(meta_model)
        if memory.fits_in_memory(meta_model.full_model):
            answering = item * meta_model.layout.entries
    cached = len(meta_model.blocks) + 1 if is_taylor else 1  # gradients need the input of every block
    hidden_states = cached * item * width * sum(work.texts) // CHARACTERS_PER_TOKEN
    return max(max(loaded + batch, outside) + min(hidden_states, work.budget), answering)


def _logits_memory(meta_model: MetaModel) -> int:
    """Of a micro-batch of answers: the logits in float32, their gradients, and what the loss makes of them."""
    return LOGITS_COPIES * FLOAT32 * meta_model.vocabulary * BATCH_SIZE * ANSWER_TOKENS


def _teacher_bytes(work: RepairWorkload) -> int:
    """Of the reference's logits on disk, for all prompts that it teaches."""
    rows = min(len(work.texts), MAX_HARMFUL + MAX_HARMFUL // HARMFUL_PER_BENIGN)
    return work.meta_model.dtype.itemsize * work.meta_model.vocabulary * rows * ANSWER_TOKENS
