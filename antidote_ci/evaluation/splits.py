"""The prompts of a run: chosen on one split, confirmed on another, shaped by a third."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import embedded
from antidote_ci.config import EMBEDDED, SELF, Gate, Policy, RepairSection
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, prompts, statistics
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompt_sets import Half, Sets
from antidote_ci.evaluation.statistics.paired import smallest_n
from antidote_ci.evaluation.task import require_numbers
from antidote_ci.records import PromptFile, Row

Pair = tuple[list[Row], list[Row]]
"""Selection and confirmation."""
Triple = tuple[list[Row], list[Row], list[Row]]
"""Calibration, selection and confirmation."""


@dataclass(frozen=True)
class Splits:
    """The sets of a run, disjoint by wording, and their description for the report."""

    selection: PromptSets
    confirmation: PromptSets
    realignment: list[Row]
    """Without responses when the model's own answers are to be taken."""
    benign_calibration: list[Row]
    task_calibration: list[Row]
    """What a `taylor` repair must leave as it is; empty where there is none."""
    files: list[PromptFile]


@dataclass(frozen=True)
class Shaping:
    """What shapes a repair and measures none."""

    realignment: list[Row]
    """Without responses when the model's own answers are to be taken."""
    benign: list[Row]
    task: list[Row]
    """What a `taylor` repair must leave as it is; empty for `antidote`."""


def for_evaluation(policy: Policy, sets: Sets) -> tuple[PromptSets, list[PromptFile]]:
    """Everything that was named, in one set: nothing is chosen, so nothing is held back.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    origins = _origins(policy)
    found = {
        "confirmation": _read(origins["confirmation"], "evaluation_prompts", "harmful", sets),
        "benign": _read(origins["benign"], "benign_evaluation", "harmless", sets),
        "task": _task(policy, "task_evaluation"),
    }
    _require_enough(found["confirmation"], "the prompt set", policy)
    return (
        PromptSets(found["confirmation"], found["benign"], found["task"]),
        _described(found, origins, sets),
    )


def for_run(policy: Policy, sets: Sets) -> Splits:
    """Every set of a run. Raises ConfigurationError for what is missing, too small, or shared between two sets.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    origins = _origins(policy)
    realignment, harmful = _harmful(policy, sets)
    benign = _useful(
        policy, origins["benign"], lambda part: _read(origins["benign"], f"benign_{part}", "harmless", sets)
    )
    task = _useful(policy, origins["task"], lambda part: _task(policy, f"task_{part}"))
    harmless = _calibration(policy, benign[0], task[0])
    calibration = [*harmless, *task[0]]
    prompts.require_disjoint(
        {
            "realignment": realignment,
            "calibration": calibration,
            "selection": [*harmful[0], *benign[1], *task[1]],
            "confirmation": [*harmful[1], *benign[2], *task[2]],
        }
    )
    for name, rows in zip(("selection", "confirmation"), harmful, strict=True):
        _require_enough(rows, f"the {name} split", policy)
    confirmation = PromptSets(harmful[1], benign[2], task[2])
    _require_comparable(confirmation, policy.gate)
    described = {
        "realignment": realignment,
        "calibration": calibration,
        "selection": harmful[0],
        "confirmation": harmful[1],
        "benign": [*benign[1], *benign[2]],
        "task": [*task[1], *task[2]],
    }
    return Splits(
        selection=PromptSets(harmful[0], benign[1], task[1]),
        confirmation=confirmation,
        realignment=realignment,
        benign_calibration=harmless,
        task_calibration=task[0],
        files=_described(described, origins, sets),
    )


def for_repair(policy: Policy, sets: Sets) -> Shaping:
    """What shapes a repair at a named dose: the rows that `for_run` takes for it, so that its others can measure it.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    origins = _origins(policy)
    realignment, _ = _harmful(policy, sets)
    benign, _, _ = _useful(
        policy, origins["benign"], lambda part: _read(origins["benign"], f"benign_{part}", "harmless", sets)
    )
    task, _, _ = _useful(policy, origins["task"], lambda part: _task(policy, f"task_{part}"))
    benign = _calibration(policy, benign, task)
    prompts.require_disjoint({"realignment": realignment, "calibration": [*benign, *task]})
    return Shaping(realignment, benign, task)


def _origins(policy: Policy) -> dict[str, str | None]:
    named, benign = policy.evaluation, prompt_sets.benign_origin(policy)
    return {
        "realignment": policy.repair.realignment,
        "calibration": named.task or benign or EMBEDDED,
        "selection": named.prompts,
        "confirmation": named.prompts,
        "benign": benign,
        "task": named.task,
    }


def _harmful(policy: Policy, sets: Sets) -> tuple[list[Row], Pair]:
    """The realignment set and, disjoint from it when it is the model's own, the harmful prompts that measure."""
    realignment, seed = _realignment(policy.repair.realignment), policy.evaluation.seed
    if policy.evaluation.prompts == EMBEDDED:
        harmful: Pair = (
            _read(EMBEDDED, "selection_prompts", "harmful", sets),
            _read(EMBEDDED, "evaluation_prompts", "harmful", sets),
        )
    else:
        rows = _read(policy.evaluation.prompts, "", "harmful", sets)
        if policy.repair.realignment == SELF:
            realignment, rows = prompts.take(rows, prompts.REALIGNMENT_SHARE, seed)
        harmful = prompts.take(rows, prompts.SELECTION_SHARE, seed)
    if not realignment:
        raise ConfigurationError(
            "no prompts are left for `--realignment self`",
            cause="the embedded prompts are all used to measure",
            hint="add --realignment embedded, or name a JSONL file of prompts and responses",
        )
    return realignment, harmful


def _calibration(policy: Policy, benign: list[Row], task: list[Row]) -> list[Row]:
    """The harmless prompts that `taylor` leaves as they are; embedded ones where the policy names none, and no task.

    They shape the repair and measure nothing.
    """
    if _calibrates(policy.repair) and not benign and not task:
        return prompts.read(embedded.path("benign_calibration"))
    return benign


def _realignment(origin: str) -> list[Row]:
    return [] if origin == SELF else prompts.read(_path(origin, "realignment"), "response")


def _read(origin: str | None, embedded_name: str, half: Half, sets: Sets) -> list[Row]:
    if origin is None:
        return []
    if prompt_sets.chosen(origin):
        return prompt_sets.rows(origin, half, sets)
    return prompts.read(_path(origin, embedded_name))


def _task(policy: Policy, embedded_name: str) -> list[Row]:
    origin, match = policy.evaluation.task, policy.evaluation.task_match
    if origin is None:
        return []
    rows = prompts.read(_path(origin, embedded_name), "expected", match == "choice")
    if match == "last-number":
        require_numbers(rows)
    return rows


def _path(origin: str, embedded_name: str) -> Path:
    return embedded.path(embedded_name) if origin == EMBEDDED else Path(origin)


def _calibrates(repair: RepairSection) -> bool:
    """Whether `taylor` takes part: as the repair, or as a line of the frontier."""
    return repair.method == "taylor" or (repair.frontier and repair.target != "dense")


def _useful(policy: Policy, origin: str | None, read: Callable[[str], list[Row]]) -> Triple:
    calibrates, seed = _calibrates(policy.repair), policy.evaluation.seed
    if origin == EMBEDDED:
        calibration, selection, confirmation = (read(part) for part in ("calibration", "selection", "evaluation"))
        return calibration if calibrates else [], selection, confirmation
    calibration, rows = prompts.take(read(""), prompts.CALIBRATION_SHARE if calibrates else 0, seed)
    return calibration, *prompts.take(rows, prompts.SELECTION_SHARE, seed)


def _require_enough(rows: Sequence[Row], what: str, policy: Policy) -> None:
    threshold = policy.gate.harmful_score
    if threshold <= 0:
        raise ConfigurationError(
            "no number of prompts can certify a threshold of 0", hint="--threshold 0.05 needs 59 prompts"
        )
    # Half of the 5 % is the sequential test's where it may stop early.
    confidence = statistics.SPLIT_CONFIDENCE if policy.evaluation.stop_early else statistics.CONFIDENCE
    needed = statistics.smallest_n_that_can_pass(threshold, confidence)
    if len(rows) < needed:
        raise ConfigurationError(
            f"{what} holds {len(rows)} prompts; a threshold of {threshold:g} needs {needed}",
            cause="with fewer, even a model that never fails has an upper bound above it",
            hint="more prompts, or a higher --threshold",
        )


def _require_comparable(sets: PromptSets, gate: Gate) -> None:
    """Raise ConfigurationError when even a repair that changes no answer could not meet the limits of what may rise."""
    for rows, what, name, limit in (
        (sets.harmful, "harmful prompts", "degenerate_rise", gate.degenerate_rise),
        (sets.benign, "harmless prompts", "over_refusal", gate.over_refusal),
        (sets.task, "task prompts", "utility_drop", gate.utility_drop),
    ):
        if not rows:
            continue
        if limit <= 0:
            raise ConfigurationError(f"no number of {what} can certify a {name} of 0", hint=f"raise gate.{name}")
        needed = smallest_n(limit, len(rows))
        if len(rows) < needed:
            raise ConfigurationError(
                f"the confirmation split holds {len(rows)} {what}; a {name} of {limit:g} needs {needed}",
                cause="with fewer, even a repair that changes no answer has an upper bound above it",
                hint=f"more {what}, or a higher gate.{name}",
            )


def _described(found: Mapping[str, Sequence[Row]], origins: Mapping[str, str | None], sets: Sets) -> list[PromptFile]:
    return [
        prompts.described(role, name, rows, licence)
        for role, rows in found.items()
        if rows
        for name, licence in [_shown(str(origins[role]), sets)]
    ]


def _shown(origin: str, sets: Sets) -> tuple[str, str | None]:
    if origin in (EMBEDDED, SELF):
        return origin, None
    # A path of the user's machine does not belong into a public report.
    return prompt_sets.shown(origin, sets) if prompt_sets.chosen(origin) else (Path(origin).name, None)
