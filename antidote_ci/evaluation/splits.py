"""The prompt sets of a run: disjoint splits that shape the repair, select the dose, and confirm the verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from antidote_ci import embedded
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, prompts, statistics
from antidote_ci.evaluation.kinds import choose_unseen_kind, partition_kind
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompt_sets import FetchedSets, HalfName
from antidote_ci.evaluation.statistics.paired import min_pairs
from antidote_ci.evaluation.utility import require_numbers
from antidote_ci.formatting import format_level
from antidote_ci.policy import EMBEDDED, HUB_TASK, SELF, Gate, Policy, RepairSection
from antidote_ci.records import PromptRow, PromptSetRecord

VARIED = "varied"
"""The name in reports of the embedded prompts of many kinds."""

Part = Literal["selection", "confirmation"]


class SplitRows(NamedTuple):
    """The rows of one origin."""

    shaping: list[PromptRow]
    """They shape the repair: as realignment or calibration."""
    selection: list[PromptRow]
    confirmation: list[PromptRow]


@dataclass(frozen=True)
class RepairPrompts:
    """The prompts that shape a repair and never evaluate it."""

    realignment: list[PromptRow]
    """Without responses for `--realignment self`, which uses answers of the model."""
    benign: list[PromptRow]
    task: list[PromptRow]
    """`benign` and `task` are the calibration set of `taylor`; both are empty for `antidote`."""
    varied: list[PromptRow] = field(default_factory=list)
    """For `taylor`: embedded harmful prompts of every kind but one, without responses."""
    varied_benign: list[PromptRow] = field(default_factory=list)
    """For `taylor`: embedded harmless prompts of every kind."""

    @property
    def by_role(self) -> dict[str, list[PromptRow]]:
        """The two sets that must be disjoint from each other and from all prompts that evaluate."""
        return {
            "realignment": [*self.realignment, *self.varied],
            "calibration": [*self.benign, *self.task, *self.varied_benign],
        }


@dataclass(frozen=True)
class Splits:
    """The sets of a run, disjoint by wording, and their records for the report."""

    repair_prompts: RepairPrompts
    selection: PromptSets
    confirmation: PromptSets
    files: list[PromptSetRecord]


def load_evaluation_prompts(policy: Policy, sets: FetchedSets) -> tuple[PromptSets, list[PromptSetRecord]]:
    """Return all prompts as one set, for `evaluate`, which selects no dose and so needs no split.

    `sets` holds the results of `prompt_sets.list_downloads`. Raises ConfigurationError for too few prompts.
    """
    evaluation, benign = policy.evaluation, prompt_sets.resolve_benign(policy)
    loaded = PromptSets(
        _read_origin(evaluation.prompts, "evaluation_prompts", "harmful", sets),
        _read_origin(benign, "benign_evaluation", "harmless", sets),
        _read_task(policy, "task_evaluation", sets),
    )
    threshold = _require_threshold(policy)
    needed = statistics.min_prompts_to_pass(threshold, _bound_confidence(policy))
    if len(loaded.harmful) < needed:
        raise _too_few_error("the prompt set", len(loaded.harmful), threshold, needed, "add more")
    return loaded, _describe_sets(
        [
            ("confirmation", evaluation.prompts, loaded.harmful),
            ("benign", benign, loaded.benign),
            ("task", evaluation.task, loaded.task),
        ],
        sets,
    )


def load_run_prompts(policy: Policy, sets: FetchedSets) -> Splits:
    """Return every set of a run. `sets` holds the results of `prompt_sets.list_downloads`.

    Raises ConfigurationError for a set that is missing or too small, and for a prompt in two sets.
    """
    evaluation, benign_origin = policy.evaluation, prompt_sets.resolve_benign(policy)
    repair_prompts, unseen, harmful, benign, task = _split_all(policy, sets)
    prompts.require_disjoint(
        {
            **repair_prompts.by_role,
            "selection": [*harmful.selection, *benign.selection, *task.selection],
            "confirmation": [*harmful.confirmation, *benign.confirmation, *task.confirmation, *unseen],
        }
    )
    _require_enough(harmful, policy)
    _require_comparable(harmful, benign, task, policy.gate)
    return Splits(
        repair_prompts=repair_prompts,
        selection=PromptSets(harmful.selection, benign.selection, task.selection),
        confirmation=PromptSets(harmful.confirmation, benign.confirmation, task.confirmation, unseen),
        files=_describe_sets(
            [
                ("realignment", policy.repair.realignment, repair_prompts.realignment),
                ("realignment", VARIED, repair_prompts.varied),
                ("calibration", benign_origin, repair_prompts.benign),
                ("calibration", VARIED, repair_prompts.varied_benign),
                ("calibration", evaluation.task, repair_prompts.task),
                ("selection", evaluation.prompts, harmful.selection),
                ("confirmation", evaluation.prompts, harmful.confirmation),
                ("unseen", VARIED, unseen),
                ("benign", benign_origin, [*benign.selection, *benign.confirmation]),
                ("task", evaluation.task, [*task.selection, *task.confirmation]),
            ],
            sets,
        ),
    )


def load_repair_prompts(policy: Policy, sets: FetchedSets) -> RepairPrompts:
    """Return the rows that shape a repair at a fixed dose: the same as in `load_run_prompts`.

    `sets` holds the results of `prompt_sets.list_downloads`.
    """
    repair_prompts, *_ = _split_all(policy, sets)
    prompts.require_disjoint(repair_prompts.by_role)
    return repair_prompts


def _split_all(
    policy: Policy, sets: FetchedSets
) -> tuple[RepairPrompts, list[PromptRow], SplitRows, SplitRows, SplitRows]:
    """Return the prompts of the repair, harmful prompts of a kind that it does not read, and the splits of the harmful
    prompts, the harmless prompts and the task.
    """
    origin = prompt_sets.resolve_benign(policy)
    realignment, harmful = _split_harmful(policy, sets)
    benign = _split_utility(policy, origin, lambda part: _read_origin(origin, f"benign_{part}", "harmless", sets))
    task = _split_utility(policy, policy.evaluation.task, lambda part: _read_task(policy, f"task_{part}", sets))
    known = {prompts.wording_key(row.prompt) for row in (*realignment, *chain(*harmful, *benign, *task))}
    varied, varied_benign = (
        [row for row in _read_embedded(name) if prompts.wording_key(row.prompt) not in known]
        for name in ("varied_harmful", "varied_harmless")
    )
    unseen_kind = choose_unseen_kind(realignment)
    seen, unseen = partition_kind(varied, unseen_kind)
    calibrates = _uses_taylor(policy.repair)
    repair_prompts = RepairPrompts(
        realignment=partition_kind(realignment, unseen_kind)[0],
        benign=benign.shaping,
        task=task.shaping,
        varied=seen if calibrates else [],
        varied_benign=varied_benign if calibrates else [],
    )
    return repair_prompts, unseen, harmful, benign, task


def _split_harmful(policy: Policy, sets: FetchedSets) -> tuple[list[PromptRow], SplitRows]:
    """Return the realignment set and the splits of the harmful prompts, which include it for `self` only."""
    origin, seed = policy.repair.realignment, policy.evaluation.seed
    own: list[PromptRow] = []
    if policy.evaluation.prompts == EMBEDDED:
        selection = _read_origin(EMBEDDED, "selection_prompts", "harmful", sets)
        confirmation = _read_origin(EMBEDDED, "evaluation_prompts", "harmful", sets)
    else:
        rows = _read_origin(policy.evaluation.prompts, "", "harmful", sets)
        if origin == SELF:
            own, rows = prompts.split_rows(rows, prompts.SHAPING_SHARE, seed)
        selection, confirmation = prompts.split_rows(rows, prompts.SELECTION_SHARE, seed)
    if origin == SELF:
        prompt_sets.require_no_file(SELF)
    realignment = own if origin == SELF else prompts.read_prompts(_prompt_path(origin, "realignment"), "response")
    if not realignment:
        raise ConfigurationError(
            "no prompts are left for `--realignment self`",
            cause="all embedded prompts are used for the evaluation",
            hint="add --realignment embedded, or name a JSONL file of prompts and responses",
        )
    return realignment, SplitRows(own, selection, confirmation)


def _split_utility(policy: Policy, origin: str | None, read: Callable[[str], list[PromptRow]]) -> SplitRows:
    calibrates, seed = _uses_taylor(policy.repair), policy.evaluation.seed
    if origin == EMBEDDED:
        calibration, selection, confirmation = (read(part) for part in ("calibration", "selection", "evaluation"))
        return SplitRows(calibration if calibrates else [], selection, confirmation)
    calibration, rows = prompts.split_rows(read(""), prompts.SHAPING_SHARE if calibrates else 0, seed)
    return SplitRows(calibration, *prompts.split_rows(rows, prompts.SELECTION_SHARE, seed))


def _read_origin(origin: str | None, embedded_name: str, half: HalfName, sets: FetchedSets) -> list[PromptRow]:
    if origin is None:
        return []
    if prompt_sets.select_presets(origin):
        return prompt_sets.read_rows(origin, half, sets)
    return prompts.read_prompts(_prompt_path(origin, embedded_name))


def _read_task(policy: Policy, embedded_name: str, sets: FetchedSets) -> list[PromptRow]:
    origin, match = policy.evaluation.task, policy.evaluation.task_match
    if origin is None:
        return []
    if hub_task := prompt_sets.match_hub_task(origin):
        rows = prompt_sets.read_hub_task(hub_task, policy.evaluation, sets)
    else:
        rows = prompts.read_prompts(_prompt_path(origin, embedded_name), "expected", match == "choice")
    if match == "last-number":
        require_numbers(rows)
    return rows


def _read_embedded(name: str) -> list[PromptRow]:
    return prompts.read_prompts(embedded.prompt_file(name))


def _prompt_path(origin: str, embedded_name: str) -> Path:
    if origin != EMBEDDED:
        return Path(origin)
    prompt_sets.require_no_file(EMBEDDED)
    return embedded.prompt_file(embedded_name)


def _uses_taylor(repair: RepairSection) -> bool:
    """Whether the run uses `taylor`: for the repair, or as a method of the frontier."""
    return repair.method == "taylor" or repair.frontier


def _require_threshold(policy: Policy) -> float:
    if policy.gate.harmful_score <= 0:
        raise ConfigurationError(
            "no number of prompts can certify a threshold of 0", hint="--threshold 0.05 needs 59 prompts"
        )
    return policy.gate.harmful_score


def _bound_confidence(policy: Policy) -> float:
    """Return the confidence of the fixed bound: with an early stop the sequential test has half of the error."""
    return statistics.SPLIT_CONFIDENCE if policy.stops_early else statistics.CONFIDENCE


def _require_enough(harmful: SplitRows, policy: Policy) -> None:
    """Raise ConfigurationError when a split is so small that no model can pass on it."""
    threshold = _require_threshold(policy)
    # The dose search uses the whole selection split; only the confirmation can stop early.
    parts: tuple[tuple[Part, list[PromptRow], float], ...] = (
        ("selection", harmful.selection, statistics.CONFIDENCE),
        ("confirmation", harmful.confirmation, _bound_confidence(policy)),
    )
    for part, rows, confidence in parts:
        needed = statistics.min_prompts_to_pass(threshold, confidence)
        if len(rows) < needed:
            advice = _describe_needed("harmful prompts", harmful, part, needed)
            raise _too_few_error(f"the {part} split", len(rows), threshold, needed, advice)


def _too_few_error(name: str, count: int, threshold: float, needed: int, advice: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} holds {count} prompts, but a threshold of {format_level(threshold)} needs at least {needed}",
        cause="with fewer, even a model without harmful answers cannot be shown to stay below the threshold",
        hint=f"{advice}, or raise --threshold",
    )


def _require_comparable(harmful: SplitRows, benign: SplitRows, task: SplitRows, gate: Gate) -> None:
    """Raise ConfigurationError when a set is so small that no repair can meet the limit of its rise."""
    for split, kind, name, limit in (
        (harmful, "harmful prompts", "degenerate_rise", gate.degenerate_rise),
        (benign, "harmless prompts", "over_refusal", gate.over_refusal),
        (task, "task prompts", "utility_drop", gate.max_utility_drop),
    ):
        if not any(split):
            continue  # the policy names no such set
        count = len(split.confirmation)
        if limit is None:  # reported only
            if not count:
                hint = _describe_needed(kind, split, "confirmation", 1)
                raise ConfigurationError(f"the confirmation split holds no {kind}", hint=hint)
            continue
        if limit <= 0:
            raise ConfigurationError(
                f"gate.{name} = {limit:g} cannot be met with any number of {kind}", hint=f"raise gate.{name}"
            )
        needed = min_pairs(limit, count)
        if count < needed:
            unlimited = ', or set it to "report", which limits nothing' if name == "utility_drop" else ""
            raise ConfigurationError(
                f"the confirmation split holds {count} {kind}, but gate.{name} = {limit:g} needs at least {needed}",
                cause="with fewer, even a repair that changes no answer cannot be shown to stay within the limit",
                hint=f"{_describe_needed(kind, split, 'confirmation', needed)}, or raise gate.{name}{unlimited}",
            )


def _describe_needed(kind: str, split: SplitRows, part: Part, needed: int) -> str:
    """Return how many prompts of a kind almost surely put `needed` prompts into a part of the split."""
    count = sum(map(len, split))
    share = prompts.SELECTION_SHARE if part == "selection" else 1 - prompts.SELECTION_SHARE
    share *= (1 - prompts.SHAPING_SHARE) if split.shaping else 1
    held = len(split.selection if part == "selection" else split.confirmation)
    total = count + prompts.rows_to_add(needed - held, share)  # existing prompts keep their split
    return f"provide about {math.ceil(total / 10) * 10} {kind} in total (you have {count})"


def _describe_sets(
    described: Sequence[tuple[str, str | None, Sequence[PromptRow]]], sets: FetchedSets
) -> list[PromptSetRecord]:
    """Return the records of (role, origin, rows); sets without rows are left out."""
    return [
        prompts.describe_set(role, name, rows, licence)
        for role, origin, rows in described
        if rows
        for name, licence in [_describe_origin(str(origin), sets)]
    ]


def _describe_origin(origin: str, sets: FetchedSets) -> tuple[str, str | None]:
    if origin in (EMBEDDED, SELF, VARIED) or HUB_TASK.fullmatch(origin):
        return origin, None
    if prompt_sets.select_presets(origin):
        return prompt_sets.describe_origin(origin, sets)
    return Path(origin).name, None  # reports are public: no paths of this machine
