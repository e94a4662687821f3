"""The prompts of a run: chosen on one split, confirmed on another, shaped by a third."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import embedded
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, prompts, statistics
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompt_sets import Half, Sets
from antidote_ci.evaluation.statistics.paired import smallest_n
from antidote_ci.evaluation.task import require_numbers
from antidote_ci.policy import EMBEDDED, SELF, Gate, Policy, RepairSection
from antidote_ci.records import PromptFile, Row

Pair = tuple[list[Row], list[Row]]
"""Selection and confirmation."""
Triple = tuple[list[Row], list[Row], list[Row]]
"""Calibration, selection and confirmation."""


@dataclass(frozen=True)
class Shaping:
    """What shapes a repair and measures none."""

    realignment: list[Row]
    """Without responses when the model's own answers are to be taken."""
    benign: list[Row]
    task: list[Row]
    """With the harmless prompts, what a `taylor` repair must leave as it is; empty for `antidote`."""


@dataclass(frozen=True)
class Splits:
    """The sets of a run, disjoint by wording, and their description for the report."""

    shaping: Shaping
    selection: PromptSets
    confirmation: PromptSets
    files: list[PromptFile]


def for_evaluation(policy: Policy, sets: Sets) -> tuple[PromptSets, list[PromptFile]]:
    """Everything that was named, in one set: nothing is chosen, so nothing is held back.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    named, benign = policy.evaluation, prompt_sets.benign_origin(policy)
    found = PromptSets(
        _read(named.prompts, "evaluation_prompts", "harmful", sets),
        _read(benign, "benign_evaluation", "harmless", sets),
        _task(policy, "task_evaluation"),
    )
    threshold = _threshold(policy)
    needed = statistics.smallest_n_that_can_pass(threshold, _confidence(policy))
    if len(found.harmful) < needed:
        raise _too_few("the prompt set", len(found.harmful), threshold, needed, "bring more")
    return found, _described(
        [
            ("confirmation", named.prompts, found.harmful),
            ("benign", benign, found.benign),
            ("task", named.task, found.task),
        ],
        sets,
    )


def for_run(policy: Policy, sets: Sets) -> Splits:
    """Every set of a run. Raises ConfigurationError for what is missing, too small, or shared between two sets.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    named, origin = policy.evaluation, prompt_sets.benign_origin(policy)
    realignment, harmful = _harmful(policy, sets)
    benign = _useful(policy, origin, lambda part: _read(origin, f"benign_{part}", "harmless", sets))
    task = _useful(policy, named.task, lambda part: _task(policy, f"task_{part}"))
    harmless = _calibration(policy, benign[0], task[0])
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
        shaping=Shaping(realignment, harmless, task[0]),
        selection=PromptSets(harmful[0], benign[1], task[1]),
        confirmation=PromptSets(harmful[1], benign[2], task[2]),
        files=_described(
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


def for_repair(policy: Policy, sets: Sets) -> Shaping:
    """What shapes a repair at a named dose: the rows that `for_run` takes for it, so that its others can measure it.

    `sets` holds what `prompt_sets.wanted` asks for.
    """
    origin = prompt_sets.benign_origin(policy)
    realignment, _ = _harmful(policy, sets)
    benign, _, _ = _useful(policy, origin, lambda part: _read(origin, f"benign_{part}", "harmless", sets))
    task, _, _ = _useful(policy, policy.evaluation.task, lambda part: _task(policy, f"task_{part}"))
    benign = _calibration(policy, benign, task)
    prompts.require_disjoint({"realignment": realignment, "calibration": [*benign, *task]})
    return Shaping(realignment, benign, task)


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
            realignment, rows = prompts.take(rows, prompts.SHAPING_SHARE, seed)
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
    calibration, rows = prompts.take(read(""), prompts.SHAPING_SHARE if calibrates else 0, seed)
    return calibration, *prompts.take(rows, prompts.SELECTION_SHARE, seed)


def _threshold(policy: Policy) -> float:
    if policy.gate.harmful_score <= 0:
        raise ConfigurationError(
            "no number of prompts can certify a threshold of 0", hint="--threshold 0.05 needs 59 prompts"
        )
    return policy.gate.harmful_score


def _confidence(policy: Policy) -> float:
    """Half of the 5 % is the sequential test's where it may stop early."""
    return statistics.SPLIT_CONFIDENCE if policy.evaluation.stop_early else statistics.CONFIDENCE


def _require_enough(harmful: Triple, policy: Policy) -> None:
    """Raise ConfigurationError when even a model that never fails would not pass on one of the splits."""
    threshold = _threshold(policy)
    # Doses are tried on all of the selection split; only the confirmation may stop early.
    for at, split, confidence in ((1, "selection", statistics.CONFIDENCE), (2, "confirmation", _confidence(policy))):
        needed = statistics.smallest_n_that_can_pass(threshold, confidence)
        if len(harmful[at]) < needed:
            what = _bring("harmful prompts", harmful, at, needed)
            raise _too_few(f"the {split} split", len(harmful[at]), threshold, needed, what)


def _too_few(what: str, held: int, threshold: float, needed: int, more: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} holds {held} prompts; a threshold of {threshold:g} needs {needed}",
        cause="with fewer, even a model that never fails has an upper bound above it",
        hint=f"{more}, or raise --threshold",
    )


def _require_comparable(harmful: Triple, benign: Triple, task: Triple, gate: Gate) -> None:
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
        needed = smallest_n(limit, len(rows))
        if len(rows) < needed:
            raise ConfigurationError(
                f"the confirmation split holds {len(rows)} {what}; a {name} of {limit:g} needs {needed}",
                cause="with fewer, even a repair that changes no answer has an upper bound above it",
                hint=f"{_bring(what, sets, 2, needed)}, or raise gate.{name}",
            )


def _bring(what: str, sets: Triple, at: int, needed: int) -> str:
    """How many prompts of a kind make `needed` of them fall, nearly surely, into the set at `at`.

    `sets`: what shapes the repair, selection and confirmation.
    """
    held = sum(map(len, sets))
    share = prompts.SELECTION_SHARE if at == 1 else 1 - prompts.SELECTION_SHARE
    share *= (1 - prompts.SHAPING_SHARE) if sets[0] else 1
    # Those that are there stay where they are; of the others two standard deviations more fall there on average.
    root = math.sqrt(1 - share) + math.sqrt(1 - share + needed - len(sets[at]))
    return f"bring about {math.ceil((held + root**2 / share) / 10) * 10} {what} in all (you have {held})"


def _described(found: Sequence[tuple[str, str | None, Sequence[Row]]], sets: Sets) -> list[PromptFile]:
    """Of role, origin and rows; sets without rows are left out."""
    return [
        prompts.described(role, name, rows, licence)
        for role, origin, rows in found
        if rows
        for name, licence in [_shown(str(origin), sets)]
    ]


def _shown(origin: str, sets: Sets) -> tuple[str, str | None]:
    if origin in (EMBEDDED, SELF):
        return origin, None
    # A path of the user's machine does not belong into a public report.
    return prompt_sets.shown(origin, sets) if prompt_sets.chosen(origin) else (Path(origin).name, None)
