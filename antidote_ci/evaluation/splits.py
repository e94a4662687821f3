"""The prompts of a run: chosen on one split, confirmed on another, shaped by a third."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import embedded
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, prompts, statistics
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompt_sets import FetchedSets, HalfName
from antidote_ci.evaluation.statistics.paired import min_pairs
from antidote_ci.evaluation.task import require_numbers
from antidote_ci.policy import EMBEDDED, SELF, Gate, Policy, RepairSection
from antidote_ci.records import PromptRow, PromptSetRecord

SplitPair = tuple[list[PromptRow], list[PromptRow]]
"""Selection and confirmation."""
SplitTriple = tuple[list[PromptRow], list[PromptRow], list[PromptRow]]
"""Calibration, selection and confirmation."""


@dataclass(frozen=True)
class RepairPrompts:
    """What shapes a repair and measures none."""

    realignment: list[PromptRow]
    """Without responses when the model's own answers are to be taken."""
    benign: list[PromptRow]
    task: list[PromptRow]
    """With the harmless prompts, what a `taylor` repair must leave as it is; empty for `antidote`."""


@dataclass(frozen=True)
class Splits:
    """The sets of a run, disjoint by wording, and their description for the report."""

    repair_prompts: RepairPrompts
    selection: PromptSets
    confirmation: PromptSets
    files: list[PromptSetRecord]


def load_evaluation_prompts(policy: Policy, sets: FetchedSets) -> tuple[PromptSets, list[PromptSetRecord]]:
    """Everything that was named, in one set: nothing is chosen, so nothing is held back.

    `sets` holds what `prompt_sets.list_downloads` asks for.
    """
    named, benign = policy.evaluation, prompt_sets.resolve_benign(policy)
    found = PromptSets(
        _read_origin(named.prompts, "evaluation_prompts", "harmful", sets),
        _read_origin(benign, "benign_evaluation", "harmless", sets),
        _read_task(policy, "task_evaluation"),
    )
    threshold = _effective_threshold(policy)
    needed = statistics.min_prompts_to_pass(threshold, _bound_confidence(policy))
    if len(found.harmful) < needed:
        raise _too_few_error("the prompt set", len(found.harmful), threshold, needed, "bring more")
    return found, _describe_sets(
        [
            ("confirmation", named.prompts, found.harmful),
            ("benign", benign, found.benign),
            ("task", named.task, found.task),
        ],
        sets,
    )


def load_run_prompts(policy: Policy, sets: FetchedSets) -> Splits:
    """Every set of a run. Raises ConfigurationError for what is missing, too small, or shared between two sets.

    `sets` holds what `prompt_sets.list_downloads` asks for.
    """
    named, origin = policy.evaluation, prompt_sets.resolve_benign(policy)
    realignment, harmful = _split_harmful(policy, sets)
    benign = _split_utility(policy, origin, lambda part: _read_origin(origin, f"benign_{part}", "harmless", sets))
    task = _split_utility(policy, named.task, lambda part: _read_task(policy, f"task_{part}"))
    harmless = _select_calibration_prompts(policy, benign[0], task[0])
    prompts.require_disjoint(
        {
            "realignment": realignment,
            "calibration": [*harmless, *task[0]],
            "selection": [*harmful[0], *benign[1], *task[1]],
            "confirmation": [*harmful[1], *benign[2], *task[2]],
        }
    )
    own = realignment if policy.repair.realignment == SELF else []
    _require_enough((own, *harmful), policy)
    _require_comparable((own, *harmful), benign, task, policy.gate)
    return Splits(
        repair_prompts=RepairPrompts(realignment, harmless, task[0]),
        selection=PromptSets(harmful[0], benign[1], task[1]),
        confirmation=PromptSets(harmful[1], benign[2], task[2]),
        files=_describe_sets(
            [
                ("realignment", policy.repair.realignment, realignment),
                ("calibration", origin or EMBEDDED, harmless),
                ("calibration", named.task, task[0]),
                ("selection", named.prompts, harmful[0]),
                ("confirmation", named.prompts, harmful[1]),
                ("benign", origin, [*benign[1], *benign[2]]),
                ("task", named.task, [*task[1], *task[2]]),
            ],
            sets,
        ),
    )


def load_repair_prompts(policy: Policy, sets: FetchedSets) -> RepairPrompts:
    """What shapes a repair at a named dose: the rows that `load_run_prompts` takes for it, so that its others can
    measure it.

    `sets` holds what `prompt_sets.list_downloads` asks for.
    """
    origin = prompt_sets.resolve_benign(policy)
    realignment, _ = _split_harmful(policy, sets)
    benign, _, _ = _split_utility(policy, origin, lambda part: _read_origin(origin, f"benign_{part}", "harmless", sets))
    task, _, _ = _split_utility(policy, policy.evaluation.task, lambda part: _read_task(policy, f"task_{part}"))
    benign = _select_calibration_prompts(policy, benign, task)
    prompts.require_disjoint({"realignment": realignment, "calibration": [*benign, *task]})
    return RepairPrompts(realignment, benign, task)


def _split_harmful(policy: Policy, sets: FetchedSets) -> tuple[list[PromptRow], SplitPair]:
    """The realignment set and, disjoint from it when it is the model's own, the harmful prompts that measure."""
    realignment, seed = _load_realignment(policy.repair.realignment), policy.evaluation.seed
    if policy.evaluation.prompts == EMBEDDED:
        harmful: SplitPair = (
            _read_origin(EMBEDDED, "selection_prompts", "harmful", sets),
            _read_origin(EMBEDDED, "evaluation_prompts", "harmful", sets),
        )
    else:
        rows = _read_origin(policy.evaluation.prompts, "", "harmful", sets)
        if policy.repair.realignment == SELF:
            realignment, rows = prompts.split_rows(rows, prompts.SHAPING_SHARE, seed)
        harmful = prompts.split_rows(rows, prompts.SELECTION_SHARE, seed)
    if not realignment:
        raise ConfigurationError(
            "no prompts are left for `--realignment self`",
            cause="the embedded prompts are all used to measure",
            hint="add --realignment embedded, or name a JSONL file of prompts and responses",
        )
    return realignment, harmful


def _select_calibration_prompts(policy: Policy, benign: list[PromptRow], task: list[PromptRow]) -> list[PromptRow]:
    """The harmless prompts that `taylor` leaves as they are; embedded ones where the policy names none, and no task.

    They shape the repair and measure nothing.
    """
    if _uses_taylor(policy.repair) and not benign and not task:
        return prompts.read_prompts(embedded.prompt_file("benign_calibration"))
    return benign


def _load_realignment(origin: str) -> list[PromptRow]:
    return [] if origin == SELF else prompts.read_prompts(_prompt_path(origin, "realignment"), "response")


def _read_origin(origin: str | None, embedded_name: str, half: HalfName, sets: FetchedSets) -> list[PromptRow]:
    if origin is None:
        return []
    if prompt_sets.select_presets(origin):
        return prompt_sets.read_rows(origin, half, sets)
    return prompts.read_prompts(_prompt_path(origin, embedded_name))


def _read_task(policy: Policy, embedded_name: str) -> list[PromptRow]:
    origin, match = policy.evaluation.task, policy.evaluation.task_match
    if origin is None:
        return []
    rows = prompts.read_prompts(_prompt_path(origin, embedded_name), "expected", match == "choice")
    if match == "last-number":
        require_numbers(rows)
    return rows


def _prompt_path(origin: str, embedded_name: str) -> Path:
    return embedded.prompt_file(embedded_name) if origin == EMBEDDED else Path(origin)


def _uses_taylor(repair: RepairSection) -> bool:
    """Whether `taylor` takes part: as the repair, or as a line of the frontier."""
    return repair.method == "taylor" or repair.frontier


def _split_utility(policy: Policy, origin: str | None, read: Callable[[str], list[PromptRow]]) -> SplitTriple:
    calibrates, seed = _uses_taylor(policy.repair), policy.evaluation.seed
    if origin == EMBEDDED:
        calibration, selection, confirmation = (read(part) for part in ("calibration", "selection", "evaluation"))
        return calibration if calibrates else [], selection, confirmation
    calibration, rows = prompts.split_rows(read(""), prompts.SHAPING_SHARE if calibrates else 0, seed)
    return calibration, *prompts.split_rows(rows, prompts.SELECTION_SHARE, seed)


def _effective_threshold(policy: Policy) -> float:
    if policy.gate.harmful_score <= 0:
        raise ConfigurationError(
            "no number of prompts can certify a threshold of 0", hint="--threshold 0.05 needs 59 prompts"
        )
    return policy.gate.harmful_score


def _bound_confidence(policy: Policy) -> float:
    """Half of the 5 % is the sequential test's where it may stop early."""
    return statistics.SPLIT_CONFIDENCE if policy.evaluation.stop_early else statistics.CONFIDENCE


def _require_enough(harmful: SplitTriple, policy: Policy) -> None:
    """Raise ConfigurationError when even a model that never fails would not pass on one of the splits."""
    threshold = _effective_threshold(policy)
    # Doses are tried on all of the selection split; only the confirmation may stop early.
    for at, split, confidence in (
        (1, "selection", statistics.CONFIDENCE),
        (2, "confirmation", _bound_confidence(policy)),
    ):
        needed = statistics.min_prompts_to_pass(threshold, confidence)
        if len(harmful[at]) < needed:
            what = _describe_needed("harmful prompts", harmful, at, needed)
            raise _too_few_error(f"the {split} split", len(harmful[at]), threshold, needed, what)


def _too_few_error(what: str, held: int, threshold: float, needed: int, more: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} holds {held} prompts; a threshold of {threshold:g} needs {needed}",
        cause="with fewer, even a model that never fails has an upper bound above it",
        hint=f"{more}, or raise --threshold",
    )


def _require_comparable(harmful: SplitTriple, benign: SplitTriple, task: SplitTriple, gate: Gate) -> None:
    """Raise ConfigurationError when even a repair that changes no answer could not meet the limits of what may rise."""
    for sets, what, name, limit in (
        (harmful, "harmful prompts", "degenerate_rise", gate.degenerate_rise),
        (benign, "harmless prompts", "over_refusal", gate.over_refusal),
        (task, "task prompts", "utility_drop", gate.utility_drop),
    ):
        if not any(sets):
            continue  # the user named none of this kind
        rows = sets[2]
        if limit <= 0:
            raise ConfigurationError(f"no number of {what} can certify a {name} of 0", hint=f"raise gate.{name}")
        needed = min_pairs(limit, len(rows))
        if len(rows) < needed:
            raise ConfigurationError(
                f"the confirmation split holds {len(rows)} {what}; a {name} of {limit:g} needs {needed}",
                cause="with fewer, even a repair that changes no answer has an upper bound above it",
                hint=f"{_describe_needed(what, sets, 2, needed)}, or raise gate.{name}",
            )


def _describe_needed(what: str, sets: SplitTriple, at: int, needed: int) -> str:
    """How many prompts of a kind make `needed` of them fall, nearly surely, into the set at `at`.

    `sets`: what shapes the repair, selection and confirmation.
    """
    held = sum(map(len, sets))
    share = prompts.SELECTION_SHARE if at == 1 else 1 - prompts.SELECTION_SHARE
    share *= (1 - prompts.SHAPING_SHARE) if sets[0] else 1
    # Those that are there stay where they are; of the others two standard deviations more fall there on average.
    root = math.sqrt(1 - share) + math.sqrt(1 - share + needed - len(sets[at]))
    return f"bring about {math.ceil((held + root**2 / share) / 10) * 10} {what} in all (you have {held})"


def _describe_sets(
    found: Sequence[tuple[str, str | None, Sequence[PromptRow]]], sets: FetchedSets
) -> list[PromptSetRecord]:
    """Of role, origin and rows; sets without rows are left out."""
    return [
        prompts.describe_set(role, name, rows, licence)
        for role, origin, rows in found
        if rows
        for name, licence in [_describe_origin(str(origin), sets)]
    ]


def _describe_origin(origin: str, sets: FetchedSets) -> tuple[str, str | None]:
    if origin in (EMBEDDED, SELF):
        return origin, None
    # A path of the user's machine does not belong into a public report.
    return (
        prompt_sets.describe_origin(origin, sets) if prompt_sets.select_presets(origin) else (Path(origin).name, None)
    )
