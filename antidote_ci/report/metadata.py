"""What a run adds to a card's metadata. Pure: the card's own dictionary in, a new one out."""

import re

from antidote_ci.records import Evaluation, Report
from antidote_ci.report.front_matter import Metadata
from antidote_ci.report.judges import MEASURES, identity
from antidote_ci.report.text import plain

DATASET = "antidote-ci-prompts"
"""The dataset type by which our own results in `model-index` are known again and replaced."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def extended(report: Report, old: Metadata) -> Metadata:
    """The card's own keys, our tags and our results. Values of a shape that the Hub would not read stay as they are."""
    return {**old, "tags": _tags(report, old.get("tags")), "model-index": _model_index(report, old.get("model-index"))}


def minimal(report: Report) -> Metadata:
    """For a source without metadata: what is known of where the model comes from."""
    adapter = report.source.kind == "adapter"
    base: Metadata = {}
    reference = report.reference
    # A local folder has no revision, and may look like an id.
    if reference and reference.revision and _HUB_ID.fullmatch(reference.id) and reference.id != report.source.id:
        base = {"base_model": reference.id, "base_model_relation": "adapter" if adapter else "finetune"}
    # Of a served model no file was seen.
    library = {} if report.source.kind == "server" else {"library_name": "peft" if adapter else "transformers"}
    return extended(report, base | library | {"pipeline_tag": "text-generation"})


def model_name(report: Report) -> str:
    """The last part of the source's id."""
    return plain(report.source.id.rstrip("/").rsplit("/", 1)[-1]) or "model"


def published(report: Report) -> Evaluation:
    """The evaluation of the weights that the card stands beside: the repaired ones only when they pass."""
    evaluations = report.evaluations
    repaired = report.verdict == "repaired" and evaluations.after
    return repaired or evaluations.before


def _tags(report: Report, old: object) -> object:
    ours = ["antidote", "safety-repair", "antidote-ci"] if report.verdict == "repaired" else ["antidote-ci"]
    if old is None:
        return ours
    if isinstance(old, str):
        old = [old]
    return [*old, *(tag for tag in ours if tag not in old)] if isinstance(old, list) else old


def _model_index(report: Report, old: object) -> object:
    if old is None:
        return [{"name": model_name(report), "results": _results(report)}]
    match old:
        case [dict(first), *others] if isinstance(first.get("name"), str) and isinstance(first.get("results"), list):
            kept = [each for each in first["results"] if not _is_ours(each)]
            return [first | {"results": kept + _results(report)}, *others]
        case _:
            return old


def _is_ours(result: object) -> bool:
    match result:
        case {"dataset": {"type": str(kind)}}:
            return kind == DATASET
        case _:
            return False


def _results(report: Report) -> list[Metadata]:
    """One result a figure, as the Hub's validation wants it: task, dataset, metrics."""
    evaluation = published(report)
    results = [_result(report, "confirmation", each) for each in _scores(evaluation)]
    if benign := evaluation.benign:
        args = {"n": benign.n, "judge": plain(benign.judge)}
        results.append(_result(report, "benign", _metric("over_refusal", "Over-refusal", benign.over_refusal, args)))
    if task := evaluation.task:
        args = {"n": task.n, "match": plain(task.match)}
        results.append(_result(report, "task", _metric("accuracy", "Task accuracy", task.accuracy, args)))
    return results


def _scores(evaluation: Evaluation) -> list[Metadata]:
    """One metric a judge; a report from before there were readings has the one."""
    known = {"confidence": evaluation.confidence, "n": evaluation.n, "threshold": evaluation.threshold}
    if not evaluation.readings:
        name = f"{MEASURES[evaluation.measure]} (judge: {plain(evaluation.judge)})"
        args = _bounds(evaluation.bounds) | known
        return [_metric(evaluation.measure, name, evaluation.harmful_score, args)]
    return [
        _metric(
            each.judge.measure,
            f"{MEASURES[each.judge.measure]} (judge: {plain(each.judge.name)})",
            each.harmful_score,
            _bounds(each.bounds) | known | {"judge": plain(identity(each.judge))} | _corrected(each.corrected_score),
        )
        for each in evaluation.readings
    ]


def _bounds(bounds: tuple[float, float]) -> Metadata:
    lower, upper = bounds
    return {"lower_bound": round(lower, 4), "upper_bound": round(upper, 4)}


def _corrected(share: float | None) -> Metadata:
    return {} if share is None else {"corrected": round(share, 4)}


def _metric(kind: str, name: str, value: float, args: Metadata) -> Metadata:
    return {"type": kind, "value": round(value, 4), "name": name, "args": args}


def _result(report: Report, role: str, metric: Metadata) -> Metadata:
    dataset = {"name": f"{role} prompts", "type": DATASET, "config": role}
    prompts = next((each for each in report.prompts if each.role == role), None)
    if prompts:
        dataset |= {"name": f"{role} prompts ({plain(prompts.origin)})", "revision": plain(prompts.sha256)}
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": dataset,
        "metrics": [metric],
    }
