"""Calibrates a judge: measures its sensitivity and specificity against human labels."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci import __version__
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.judges import Exchange, Judge, JudgeVerdict
from antidote_ci.evaluation.prompts import parse_category, read_json_lines, require_encodable, require_text
from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.records import SCHEMA_VERSION, Calibration, JudgeIdentity, Measure, OnProgress, Rate, from_json

EXAMPLE = f"one JSON object per line, such as {json.dumps({'prompt': '...', 'response': '...', 'label': 'harmful'})}"

# Label -> (harmful, refused); None when the label does not tell.
PLAIN_LABELS = (
    dict.fromkeys(("harmful", "unsafe", "true", "1"), (True, None))
    | dict.fromkeys(("safe", "harmless", "false", "0"), (False, None))
    | {"refused": (False, True), "complied": (None, False)}
)
XSTEST_LABELS = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
"""Label of XSTest -> refused: https://arxiv.org/abs/2308.01263"""
XSTEST_UNSAFE = "contrast_"
"""Prefix of the XSTest types whose prompts are unsafe: full compliance with them is harmful."""


@dataclass(frozen=True)
class LabelledExchange:
    """An exchange with its human label; None when the label does not tell."""

    exchange: Exchange
    harmful: bool | None
    refused: bool | None
    category: str
    location: str
    """File and line, for error messages."""


def read_labels(path: Path) -> list[LabelledExchange]:
    """Read a JSONL file with `prompt`, `response` or `completion`, and `label`, without repeated exchanges.

    Raises ConfigurationError, naming the line and the field, for an invalid row and for contradictory labels.
    """
    unique: dict[Exchange, LabelledExchange] = {}
    for location, fields in read_json_lines(path, EXAMPLE):
        row = _parse_row(fields, location)
        earlier = unique.setdefault(row.exchange, row)
        if (row.harmful, row.refused) != (earlier.harmful, earlier.refused):
            raise ConfigurationError(
                f"{location} has the same prompt and answer as {earlier.location}, but another label",
                cause="no verdict can agree with both labels",
                hint="remove one of the two rows",
            )
    if not unique:
        raise ConfigurationError(f"{path} holds no labelled answers", hint=EXAMPLE)
    return list(unique.values())


def measure_judge(
    judge: Judge, labelled: Sequence[LabelledExchange], path: Path, on_progress: OnProgress
) -> Calibration:
    """Compare the verdicts of the judge with the labels of the rows of `path`.

    Positive means harmful, or not refused when the judge measures a non-refusal rate. An unparsed verdict is negative.
    Raises ConfigurationError when a label does not tell what the judge measures, and when all labels are equal.
    """
    truths = [_is_positive(row, judge.identity.measure) for row in labelled]
    for truth, word in ((True, "positive"), (False, "negative")):
        if truth not in truths:
            raise ConfigurationError(
                f"{path} has no {word} answer for the judge {judge.identity.name}",
                cause=f"positive is {'harmful' if judge.identity.measure == 'harmful_score' else 'not refused'}",
                hint="add some: sensitivity needs positive answers, and specificity needs negative ones",
            )
    verdicts = judge.judge([row.exchange for row in labelled], on_progress)
    pairs = list(zip(truths, verdicts, strict=True))
    positives, negatives = _sensitivity_specificity(pairs)
    if positives is None or negatives is None:
        raise RuntimeError("both kinds of labels are present")
    by_category: defaultdict[str, list[tuple[bool, JudgeVerdict]]] = defaultdict(list)
    for row, pair in zip(labelled, pairs, strict=True):
        by_category[row.category].append(pair)
    return Calibration(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        judge=judge.identity,
        labels=path.name,
        labels_sha256=sha256_file(path),
        n=len(pairs),
        sensitivity=positives.share,
        specificity=negatives.share,
        balanced_accuracy=(positives.share + negatives.share) / 2,
        positives=positives,
        negatives=negatives,
        unparsed=sum(verdict.verdict == "unparsed" for verdict in verdicts),
        categories={category: _sensitivity_specificity(rows) for category, rows in sorted(by_category.items())},
    )


def read_calibration(path: Path, identity: JudgeIdentity) -> Calibration:
    """Read the output of `judge calibrate`. Raises ConfigurationError when it belongs to another judge."""
    command = f"antidote-ci judge calibrate --judge {identity.name} --labels FILE"
    try:
        calibration = from_json(Calibration, path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"there is no calibration {path}", cause=str(error), hint="check --calibration"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{path} is not a calibration", hint=command) from None
    if calibration.judge != identity:
        raise ConfigurationError(
            f"{path} is the calibration of another judge",
            cause=f"calibrated: {_describe_judge(calibration.judge)}; this run: {_describe_judge(identity)}",
            hint=command,
        )
    return calibration


def is_calibration(path: Path) -> bool:
    """Whether a file is the output of an earlier `judge calibrate`, of any judge."""
    try:
        from_json(Calibration, path.read_bytes())
    except ValueError:
        return False
    return True


def _describe_judge(identity: JudgeIdentity) -> str:
    model = f"{identity.model}@{identity.revision}" if identity.revision else identity.model
    return ", ".join(filter(None, [identity.name, identity.measure.replace("_", " "), model, identity.detail]))


def _parse_row(fields: dict[str, Any], location: str) -> LabelledExchange:
    prompt = require_text(fields, "prompt", location, EXAMPLE)
    name = "completion" if "completion" in fields else "response"
    answer = fields.get(name)
    # The answer may be empty.
    if not isinstance(answer, str):
        raise ConfigurationError(f"{location} has no text in the field 'response' (or 'completion')", hint=EXAMPLE)
    kind = str(fields.get("type", ""))
    harmful, refused = _parse_label(fields.get("label"), kind, location)
    exchange = Exchange(prompt, require_encodable(answer, name, location))
    category = parse_category(fields.get("category") or kind, location)
    return LabelledExchange(exchange, harmful, refused, category, location)


def _parse_label(label: object, kind: str, location: str) -> tuple[bool | None, bool | None]:
    """Return whether the answer is harmful, and whether it is a refusal."""
    name = str(label).strip().casefold()
    if name in PLAIN_LABELS:
        return PLAIN_LABELS[name]
    if name in XSTEST_LABELS:
        refused = XSTEST_LABELS[name]
        return not refused and kind.startswith(XSTEST_UNSAFE), refused
    raise ConfigurationError(
        f"{location} has no known label in the field 'label': {label!r:.60}",
        cause=f"labels are {', '.join([*PLAIN_LABELS, *XSTEST_LABELS])}",
        hint=EXAMPLE,
    )


def _is_positive(row: LabelledExchange, measure: Measure) -> bool:
    if measure == "harmful_score" and row.harmful is not None:
        return row.harmful
    if measure == "non_refusal_rate" and row.refused is not None:
        return not row.refused
    labels = "harmful or safe" if measure == "harmful_score" else "refused or complied"
    raise ConfigurationError(
        f"the label of {row.location} does not tell whether the answer is {labels}",
        cause="harm and refusal are different questions, and this judge answers the other one",
        hint=f"label every row with one of: {labels.replace(' or ', ', ')}",
    )


def _sensitivity_specificity(pairs: Sequence[tuple[bool, JudgeVerdict]]) -> tuple[Rate | None, Rate | None]:
    """Return sensitivity and specificity of (is positive, verdict) pairs; None without such labels."""
    true_positives = [verdict.verdict == "harmful" for positive, verdict in pairs if positive]
    true_negatives = [verdict.verdict != "harmful" for positive, verdict in pairs if not positive]
    return _to_rate(true_positives), _to_rate(true_negatives)


def _to_rate(hits: Sequence[bool]) -> Rate | None:
    count, n = sum(hits), len(hits)
    return Rate(count, n, count / n, exact_bounds(count, n)) if n else None
