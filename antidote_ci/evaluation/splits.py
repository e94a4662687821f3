"""The prompts of a run: chosen on one split, confirmed on another, shaped by a third."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import embedded
from antidote_ci.config import EMBEDDED, SELF, Policy
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompts, statistics
from antidote_ci.evaluation.measure import PromptSets
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
    """What a `taylor` repair must leave as it is; empty for `antidote`."""
    files: list[PromptFile]


def for_evaluation(policy: Policy) -> tuple[PromptSets, list[PromptFile]]:
    """Everything that was named, in one set: nothing is chosen, so nothing is held back."""
    named = policy.evaluation
    origin = _required(named.prompts)
    sets = {
        "confirmation": _read(origin, "evaluation_prompts"),
        "benign": _read(named.benign, "benign_evaluation"),
        "task": _read(named.task, "task_evaluation", "expected"),
    }
    origins = {"confirmation": origin, "benign": named.benign, "task": named.task}
    _require_enough(sets["confirmation"], "these prompts", policy.gate.harmful_score)
    return (
        PromptSets(sets["confirmation"], sets["benign"], sets["task"]),
        _described(sets, origins),
    )


def for_run(policy: Policy) -> Splits:
    """Every set of a run. Raises ConfigurationError for what is missing, too small, or shared between two sets."""
    named, seed = policy.evaluation, policy.evaluation.seed
    origin = _required(named.prompts)
    realignment = _realignment(policy.repair.realignment)
    if origin == EMBEDDED:
        harmful: Pair = (_read(origin, "selection_prompts"), _read(origin, "evaluation_prompts"))
    else:
        rows = prompts.read(Path(origin))
        if policy.repair.realignment == SELF:
            realignment, rows = prompts.take(rows, prompts.REALIGNMENT_SHARE, seed)
        harmful = prompts.take(rows, prompts.SELECTION_SHARE, seed)
    if not realignment:
        raise ConfigurationError(
            "no prompts are left for `--realignment self`",
            cause="the embedded prompts are all used to measure",
            hint="add --realignment embedded, or name a JSONL file of prompts and responses",
        )
    benign = _useful(policy, named.benign, "benign")
    task = _useful(policy, named.task, "task", "expected")
    calibration = [*benign[0], *task[0]]
    if policy.repair.method == "taylor" and not calibration:
        raise ConfigurationError(
            "a `taylor` repair needs to know what the model must keep",
            hint="add --task FILE.jsonl with samples of its task, or --benign FILE.jsonl",
        )
    sets = {"realignment": realignment, "selection": harmful[0], "confirmation": harmful[1]}
    prompts.require_disjoint(sets)
    for name, rows in zip(("selection", "confirmation"), harmful, strict=True):
        _require_enough(rows, f"the {name} split", policy.gate.harmful_score)
    described = sets | {
        "calibration": calibration,
        "benign": [*benign[1], *benign[2]],
        "task": [*task[1], *task[2]],
    }
    origins = {
        "realignment": policy.repair.realignment,
        "calibration": named.task or named.benign,
        "selection": origin,
        "confirmation": origin,
        "benign": named.benign,
        "task": named.task,
    }
    return Splits(
        selection=PromptSets(harmful[0], benign[1], task[1]),
        confirmation=PromptSets(harmful[1], benign[2], task[2]),
        realignment=realignment,
        benign_calibration=benign[0],
        task_calibration=task[0],
        files=_described(described, origins),
    )


def _required(origin: str | None) -> str:
    if origin is None:
        raise ConfigurationError(
            "no prompts are named",
            cause="the default sets of the Hub are not built in yet, and nothing stands in for them silently",
            hint="add --prompts FILE.jsonl, or --prompts embedded for the small set of the demo",
        )
    return origin


def _realignment(origin: str) -> list[Row]:
    return [] if origin == SELF else _read(origin, "realignment", "response")


def _read(origin: str | None, embedded_name: str, response_field: str | None = None) -> list[Row]:
    if origin is None:
        return []
    path = embedded.path(embedded_name) if origin == EMBEDDED else Path(origin)
    return prompts.read(path, response_field)


def _useful(policy: Policy, origin: str | None, name: str, response_field: str | None = None) -> Triple:
    calibrates, seed = policy.repair.method == "taylor", policy.evaluation.seed
    if origin == EMBEDDED:
        calibration, selection, confirmation = (
            _read(origin, f"{name}_{part}", response_field) for part in ("calibration", "selection", "evaluation")
        )
        return calibration if calibrates else [], selection, confirmation
    calibration, rows = prompts.take(
        _read(origin, name, response_field), prompts.CALIBRATION_SHARE if calibrates else 0, seed
    )
    return calibration, *prompts.take(rows, prompts.SELECTION_SHARE, seed)


def _require_enough(rows: Sequence[Row], what: str, threshold: float) -> None:
    if threshold <= 0:
        raise ConfigurationError(
            "no number of prompts can certify a threshold of 0", hint="--threshold 0.05 needs 59 prompts"
        )
    needed = statistics.smallest_n_that_can_pass(threshold)
    if len(rows) < needed:
        raise ConfigurationError(
            f"{what} holds {len(rows)} prompts; a threshold of {threshold:g} needs {needed}",
            cause="with fewer, even a model that never fails has an upper bound above it",
            hint="more prompts, or a higher --threshold",
        )


def _described(sets: Mapping[str, Sequence[Row]], origins: Mapping[str, str | None]) -> list[PromptFile]:
    return [prompts.described(role, _shown(origins[role]), rows) for role, rows in sets.items() if rows]


def _shown(origin: str | None) -> str:
    # a path of the user's machine does not belong into a public report
    return origin if origin in (None, EMBEDDED, SELF) else Path(origin).name  # type: ignore[return-value]
