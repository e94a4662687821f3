"""What scoring the weights needs: the prompts that it reads, and memory for the model and its gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import InfrastructureError
from antidote_ci.evaluation import kinds, model_answers
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.hub import memory_needs
from antidote_ci.model import memory
from antidote_ci.pipeline import resolve
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.policy import Policy
from antidote_ci.records import Method, PromptRow, ScoreMethod
from antidote_ci.repair import planning
from antidote_ci.repair.planning import CHARACTERS_PER_TOKEN, MemoryRequest
from antidote_ci.repair.taylor import MAX_BENIGN, MAX_HARMFUL, MAX_TASK, sample_evenly, select_taught

CANDIDATES_PER_PROMPT = 2
"""Harmful prompts that the reference is asked for each one that is used."""


@dataclass(frozen=True)
class ScoringPrompts:
    """The prompts that `taylor` reads: the user's and the varied ones of the package."""

    harmful: list[PromptRow]
    """Prompts that the reference refuses."""
    taught: list[PromptRow]
    """Harmless prompts that the reference answers."""
    benign: list[PromptRow]


def choose_scoring_prompts(
    prompts: RepairPrompts, rows: Sequence[PromptRow], find_refused: Callable[[Sequence[PromptRow]], list[bool]] | None
) -> ScoringPrompts:
    """Choose the prompts that tell most about refusals. `rows` are the realignment set.

    Distillation from the reference teaches refusals only where the reference refuses, which `find_refused` decides.
    Harmless prompts that it refuses must not be distilled. When it refuses hardly any of the harmful prompts, all are
    used. Without `find_refused` the reference is not asked.
    """
    benign = kinds.mix_rows(prompts.benign, prompts.varied_benign, MAX_BENIGN)
    if find_refused is None:
        return ScoringPrompts(kinds.mix_rows(rows, prompts.varied, MAX_HARMFUL), benign, benign)
    harmful = kinds.mix_rows(rows, prompts.varied, CANDIDATES_PER_PROMPT * MAX_HARMFUL)
    refused = find_refused([*harmful, *benign])
    declined = [row for row, is_refused in zip(harmful, refused, strict=False) if is_refused]
    if len(declined) < model_answers.MIN_REALIGNMENT_ANSWERS:
        declined = harmful
    answered = [row for row, is_refused in zip(benign, refused[len(harmful) :], strict=True) if not is_refused]
    return ScoringPrompts(kinds.sample_kinds(declined, MAX_HARMFUL), answered, benign)


def list_text_lengths(policy: Policy, method: Method, prompts: RepairPrompts) -> list[int]:
    """Characters of each text that scoring reads. A missing answer counts with its maximum length."""
    if method == "taylor":
        chosen = choose_scoring_prompts(prompts, prompts.realignment, None)
        task = sample_evenly(prompts.task, MAX_TASK)
        distilled = chosen.harmful + select_taught(chosen.taught, len(chosen.harmful))
        retained = [*chosen.benign, *task]
        return [len(row.prompt) for row in (*distilled, *(chosen.benign or task), *retained)]
    longest = CHARACTERS_PER_TOKEN * policy.evaluation.max_new_tokens
    return [len(row.prompt) + (len(row.response) or longest) for row in prompts.realignment]


def can_answer(layout: CheckpointLayout) -> bool:
    """Whether a model fits into the memory of this machine, as generating answers requires."""
    try:
        memory_needs.require_memory(display_name(layout.folder), layout.entries)
    except InfrastructureError:
        return False
    return True


def build_memory_request(
    policy: Policy, method: Method, source: Checkpoint, base: Checkpoint | None, prompts: RepairPrompts
) -> MemoryRequest:
    """The arguments of the estimates for a repair by `method`."""
    return MemoryRequest(
        model=resolve.to_model(source, base),
        method=method,
        texts=list_text_lengths(policy, method, prompts),
        budget=policy.repair.activation_megabytes * 1_000_000,
    )


def require_memory_for_run(
    context: RunContext, source: Checkpoint, base: Checkpoint | None, prompts: RepairPrompts
) -> None:
    """Raise InfrastructureError if a method that the run scores may need more memory than is free."""
    policy = context.config.policy
    for method in get_args(ScoreMethod) if policy.repair.frontier else [policy.repair.method]:
        request = build_memory_request(policy, method, source, base, prompts)
        needed = context.sandbox.call(planning.estimate_memory, request, context.console.report)
        require_memory(method, needed, is_chosen=method == policy.repair.method)


def require_memory(method: Method, needed: int, *, is_chosen: bool = True) -> None:
    """Raise InfrastructureError if a repair may need more memory than is free: otherwise it would fail after the work.

    `needed`: an estimate of the bytes in addition to the libraries, which memory.HEADROOM allows to be too small. With
    a GPU, the weights are in its memory, and only scoring them can tell. `is_chosen`: not for the frontier alone.
    """
    free = memory.available_bytes()
    needed = round(needed * memory.HEADROOM)
    alternative = ", or --method antidote, which needs no gradients" if method == "taylor" else ""
    if not memory_needs.has_accelerator() and needed > free:
        raise InfrastructureError(
            f"not enough memory for a repair by {method}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free",
            cause="scoring holds the embeddings, or a block of the model, its gradients and a model that fits whole",
            hint=f"use a larger machine{alternative if is_chosen else ', or drop --frontier'}",
        )
