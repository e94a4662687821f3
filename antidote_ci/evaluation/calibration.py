"""How good a judge is: its verdicts against labels that people gave."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci import __version__
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import tables
from antidote_ci.evaluation.judges.interface import Exchange, Judge, JudgeVerdict
from antidote_ci.evaluation.prompts import parse_category
from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.records import SCHEMA_VERSION, Calibration, JudgeIdentity, Measure, OnProgress, Rate, from_json

EXAMPLE = f"one JSON object a line, such as {json.dumps({'prompt': '...', 'response': '...', 'label': 'harmful'})}"

# What a label says: (harmful, refused), None where it does not say.
PLAIN_LABELS = (
    dict.fromkeys(("harmful", "unsafe", "true", "1"), (True, None))
    | dict.fromkeys(("safe", "harmless", "false", "0"), (False, None))
    | {"refused": (False, True), "complied": (None, False)}
)
XSTEST_LABELS = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
"""Whether the answer refuses: https://arxiv.org/abs/2308.01263."""
XSTEST_UNSAFE = "contrast_"
"""Types of XSTest's prompts that ask for harm begin so; to comply with them fully is harmful."""


@dataclass(frozen=True)
class LabelledExchange:
    """One exchange with what a person said of it; None where the label does not say."""

    exchange: Exchange
    harmful: bool | None
    refused: bool | None
    category: str
    where: str
    """File and line, for errors."""


def read_labels(path: Path) -> list[LabelledExchange]:
    """The rows of a JSONL file with `prompt`, `response` or `completion`, and `label`; each pair once.

    Raises ConfigurationError naming the line, the field and an example.
    """
    first: dict[Exchange, LabelledExchange] = {}
    for where, fields in tables.read_json_lines(path, EXAMPLE):
        row = _parse_row(fields, where)
        before = first.setdefault(row.exchange, row)
        if (row.harmful, row.refused) != (before.harmful, before.refused):
            raise ConfigurationError(
                f"{where} has the prompt and the answer of {before.where}, but another label",
                cause="the judge is asked once, and one of the labels would call it wrong",
                hint="remove one of the two rows",
            )
    if not first:
        raise ConfigurationError(f"{path} holds no labelled answers", hint=EXAMPLE)
    return list(first.values())


def measure_judge(judge: Judge, labelled: Sequence[LabelledExchange], path: Path, report: OnProgress) -> Calibration:
    """What the judge makes of the rows of `path`, against their labels.

    Positive is harmful, or not refused where the judge's measure is a non-refusal rate. An unparsed opinion is not
    called positive. Raises ConfigurationError when a label does not say what the measure needs, or when all say the
    same.
    """
    truths = [_is_positive(row, judge.identity.measure) for row in labelled]
    for wanted, word in ((True, "positive"), (False, "negative")):
        if wanted not in truths:
            raise ConfigurationError(
                f"{path} has no {word} answer for the judge {judge.identity.name}",
                cause=f"positive is {'harmful' if judge.identity.measure == 'harmful_score' else 'not refused'}",
                hint="sensitivity needs positive answers and specificity negative ones",
            )
    opinions = judge.judge([row.exchange for row in labelled], report)
    called = list(zip(truths, opinions, strict=True))
    positives, negatives = _sensitivity_specificity(called)
    if positives is None or negatives is None:
        raise RuntimeError("both kinds of labels were counted above")
    by_category: defaultdict[str, list[tuple[bool, JudgeVerdict]]] = defaultdict(list)
    for row, pair in zip(labelled, called, strict=True):
        by_category[row.category].append(pair)
    return Calibration(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        judge=judge.identity,
        labels=path.name,
        labels_sha256=sha256_file(path),
        n=len(called),
        sensitivity=positives.share,
        specificity=negatives.share,
        balanced_accuracy=(positives.share + negatives.share) / 2,
        positives=positives,
        negatives=negatives,
        unparsed=sum(opinion.verdict == "unparsed" for opinion in opinions),
        categories={category: _sensitivity_specificity(pairs) for category, pairs in sorted(by_category.items())},
    )


def read_calibration(path: Path, identity: JudgeIdentity) -> Calibration:
    """What `judge calibrate` wrote. Raises ConfigurationError unless it was this judge that was measured."""
    try:
        found = from_json(Calibration, path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"there is no calibration {path}", cause=str(error), hint="check --calibration"
        ) from None
    except ValueError:
        raise ConfigurationError(
            f"{path} is not a calibration", hint=f"antidote-ci judge calibrate --judge {identity.name} --labels FILE"
        ) from None
    if found.judge != identity:
        raise ConfigurationError(
            f"{path} measured another judge than this run's",
            cause=f"measured: {_describe_judge(found.judge)}; this run: {_describe_judge(identity)}",
            hint=f"antidote-ci judge calibrate --judge {identity.name} --labels FILE",
        )
    return found


def _describe_judge(identity: JudgeIdentity) -> str:
    model = f"{identity.model}@{identity.revision}" if identity.revision else identity.model
    return ", ".join(filter(None, [identity.name, identity.measure.replace("_", " "), model, identity.detail]))


def _parse_row(fields: dict[str, Any], where: str) -> LabelledExchange:
    prompt = tables.require_text(fields, "prompt", where, EXAMPLE)
    name = "completion" if "completion" in fields else "response"
    answer = fields.get(name)
    # An empty answer is an answer.
    if not isinstance(answer, str):
        raise ConfigurationError(f"{where} has no text in the field 'response' (or 'completion')", hint=EXAMPLE)
    kind = str(fields.get("type", ""))
    harmful, refused = _parse_label(fields.get("label"), kind, where)
    exchange = Exchange(prompt, tables.require_writable_text(answer, name, where))
    return LabelledExchange(exchange, harmful, refused, parse_category(fields.get("category") or kind, where), where)


def _parse_label(label: object, kind: str, where: str) -> tuple[bool | None, bool | None]:
    """Whether the answer is harmful, and whether it refuses."""
    name = str(label).strip().casefold()
    if name in PLAIN_LABELS:
        return PLAIN_LABELS[name]
    if name in XSTEST_LABELS:
        refused = XSTEST_LABELS[name]
        return not refused and kind.startswith(XSTEST_UNSAFE), refused
    raise ConfigurationError(
        f"{where} has no known label in the field 'label': {label!r:.60}",
        cause=f"labels are {', '.join([*PLAIN_LABELS, *XSTEST_LABELS])}",
        hint=EXAMPLE,
    )


def _is_positive(row: LabelledExchange, measure: Measure) -> bool:
    if measure == "harmful_score" and row.harmful is not None:
        return row.harmful
    if measure == "non_refusal_rate" and row.refused is not None:
        return not row.refused
    wanted = "harmful or safe" if measure == "harmful_score" else "refused or complied"
    raise ConfigurationError(
        f"the label of {row.where} does not say whether the answer is {wanted}",
        cause="harm and refusal are two questions, and this judge answers the other one",
        hint=f"label every row with one of: {wanted.replace(' or ', ', ')}",
    )


def _sensitivity_specificity(called: Sequence[tuple[bool, JudgeVerdict]]) -> tuple[Rate | None, Rate | None]:
    """Sensitivity and specificity of pairs (is positive, opinion); None where nothing of that label stands."""
    found = [opinion.verdict == "harmful" for positive, opinion in called if positive]
    spared = [opinion.verdict != "harmful" for positive, opinion in called if not positive]
    return _to_rate(found), _to_rate(spared)


def _to_rate(hits: Sequence[bool]) -> Rate | None:
    count, n = sum(hits), len(hits)
    return Rate(count, n, count / n, exact_bounds(count, n)) if n else None
