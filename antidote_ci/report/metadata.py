"""What a run adds to a card's metadata. Pure: the card's own dictionary in, a new one out.

https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

from antidote_ci.identifiers import is_hub_id
from antidote_ci.records import Evaluation, Report
from antidote_ci.report.front_matter import Metadata
from antidote_ci.report.judges import MEASURES, format_identity
from antidote_ci.report.places import CardLocation
from antidote_ci.report.text import abbreviate_commits, flatten

DATASET = "antidote-ci-prompts"
"""The dataset type by which our own results in `model-index` are known again and replaced."""

LICENCE = ("license", "license_name", "license_link")
LINEAGE = ("base_model", "base_model_relation")
INHERITED = ("language", "pipeline_tag", "library_name", "datasets")
GATE_PREFIX = "extra_gated_"
"""How the names of all keys begin that say what a reader must agree to."""
SOURCE_KEYS = ("model-index", "new_version")
"""What is said of the source's weights and would be untrue of others: its results, and what has replaced it."""


def extend_metadata(report: Report, old: Metadata, place: CardLocation) -> Metadata:
    """The card's own keys, our tags and our results. Values of a shape that the Hub would not read stay as they are."""
    index = _merge_model_index(report, old.get("model-index"), place)
    return {**old, "tags": _merge_tags(report, old.get("tags")), "model-index": index}


def minimal_metadata(report: Report, place: CardLocation) -> Metadata:
    """For a source without metadata: what is known of where the model comes from."""
    return extend_metadata(report, _lineage_metadata(report, place) | _kind_metadata(report), place)


def adopt_metadata(report: Report, source: Metadata, place: CardLocation) -> Metadata:
    """For a new repository of its own: the source's metadata, with the source or its base as the base model."""
    kept = {key: value for key, value in source.items() if key not in SOURCE_KEYS}
    lineage = _lineage_metadata(report, place)
    if lineage and source.get("base_model") == [lineage["base_model"]]:
        del lineage["base_model"]
    return extend_metadata(report, _kind_metadata(report) | kept | lineage, place)


def complete_metadata(report: Report, old: Metadata, source: Metadata, place: CardLocation) -> Metadata:
    """For a repository of its own that has a card: what its owner wrote, and the rest from the source.

    Licence and lineage are taken whole or not at all.
    """
    new = adopt_metadata(report, source, place)
    wanted = [*INHERITED, *(key for key in new if str(key).startswith(GATE_PREFIX))]
    wanted += [key for group in (LICENCE, LINEAGE) if old.get(group[0]) is None for key in group]
    return extend_metadata(
        report, old | {key: new[key] for key in wanted if key in new and old.get(key) is None}, place
    )


def model_name(report: Report, place: CardLocation) -> str:
    """The last part of the repository's id, or of the source's."""
    name = place.repository if place.own and place.repository else report.source.id
    return flatten(name.rstrip("/").rsplit("/", 1)[-1]) or "model"


def published_evaluation(report: Report) -> Evaluation:
    """The evaluation of the weights that the card stands beside: the repaired ones only when they pass."""
    evaluations = report.evaluations
    repaired = report.verdict == "repaired" and evaluations.after
    return repaired or evaluations.before


def _merge_tags(report: Report, old: object) -> object:
    ours = ["antidote", "safety-repair", "antidote-ci"] if report.verdict == "repaired" else ["antidote-ci"]
    if old is None:
        return ours
    if isinstance(old, str):
        old = [old]
    return [*old, *(tag for tag in ours if tag not in old)] if isinstance(old, list) else old


def _lineage_metadata(report: Report, place: CardLocation) -> Metadata:
    """The branch of the Hub's tree of models: https://huggingface.co/docs/hub/model-cards#specifying-a-base-model

    Full weights of their own stand upon their source, an adapter upon the model that it is loaded with. Empty where
    that is not known to be on the Hub, or is the model itself.
    """
    adapter = report.source.kind == "adapter"
    base = report.source if place.own and not adapter else report.reference
    itself = place.repository if place.own else report.source.id
    # A local folder has no revision, and may look like an id.
    if base is None or base.revision is None or not is_hub_id(base.id) or base.id == itself:
        return {}
    return {"base_model": base.id, "base_model_relation": "adapter" if adapter else "finetune"}


def _kind_metadata(report: Report) -> Metadata:
    """How it is loaded, which the Hub does not infer. Of a served model no file was seen."""
    library = "peft" if report.source.kind == "adapter" else "transformers"
    named = {} if report.source.kind == "server" else {"library_name": library}
    return named | {"pipeline_tag": "text-generation"}


def _merge_model_index(report: Report, old: object, place: CardLocation) -> object:
    ours = _build_results(report)
    match old:
        case None | []:
            return [{"name": model_name(report, place), "results": ours}]
        case [dict(first), *others] if isinstance(first.get("name"), str) and isinstance(first.get("results"), list):
            return [first | {"results": _renew_results(first["results"], ours)}, *others]
        case _:
            return old


def _renew_results(old: list[object], ours: list[Metadata]) -> list[object]:
    """Each result of ours in the place of the one that it replaces, new ones last. What it no longer says is gone."""
    by_key = {_result_key(each): each for each in ours}
    found = [each if _result_key(each) is None else by_key.pop(_result_key(each), None) for each in old]
    return [each for each in found if each is not None] + list(by_key.values())


def _result_key(result: object) -> tuple[str, ...] | None:
    """By which a result of ours is known: the prompts' role, the measure, and its name, which names the judge."""
    match result:
        case {
            "dataset": {"type": str(kind), "config": str(role)},
            "metrics": [{"type": str(measure), "name": str(name)}, *_],
        } if kind == DATASET:
            return role, measure, name
        case {"dataset": {"type": str(kind)}} if kind == DATASET:
            return ("",)
        case _:
            return None


def _build_results(report: Report) -> list[Metadata]:
    """One result a figure, as the Hub's validation wants it: task, dataset, metrics."""
    evaluation = published_evaluation(report)
    results = [_build_result(report, "confirmation", each) for each in _score_metrics(evaluation)]
    if benign := evaluation.benign:
        args = {"n": benign.n, "judge": flatten(benign.judge)}
        results.append(
            _build_result(report, "benign", _build_metric("over_refusal", "Over-refusal", benign.over_refusal, args))
        )
    if task := evaluation.task:
        args = {"n": task.n, "match": flatten(task.match)}
        results.append(_build_result(report, "task", _build_metric("accuracy", "Task accuracy", task.accuracy, args)))
    return results


def _score_metrics(evaluation: Evaluation) -> list[Metadata]:
    """One metric a judge."""
    known = {"confidence": evaluation.confidence, "n": evaluation.n, "threshold": evaluation.threshold}
    return [
        _build_metric(
            each.judge.measure,
            f"{MEASURES[each.judge.measure]} (judge: {flatten(each.judge.name)})",
            each.harmful_score,
            _bounds_metadata(each.bounds)
            | known
            | {"judge": flatten(format_identity(each.judge))}
            | _corrected_metadata(each.corrected_score),
        )
        for each in evaluation.readings
    ]


def _bounds_metadata(bounds: tuple[float, float]) -> Metadata:
    lower, upper = bounds
    return {"lower_bound": round(lower, 4), "upper_bound": round(upper, 4)}


def _corrected_metadata(share: float | None) -> Metadata:
    return {} if share is None else {"corrected": round(share, 4)}


def _build_metric(kind: str, name: str, value: float, args: Metadata) -> Metadata:
    return {"type": kind, "value": round(value, 4), "name": name, "args": args}


def _build_result(report: Report, role: str, metric: Metadata) -> Metadata:
    dataset = {"name": f"{role} prompts", "type": DATASET, "config": role}
    sets = [each for each in report.prompts if each.role == role]
    if sets:
        dataset["name"] += f" ({', '.join(flatten(abbreviate_commits(each.origin)) for each in sets)})"
    if len(sets) == 1:
        dataset["revision"] = flatten(sets[0].sha256)
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": dataset,
        "metrics": [metric],
    }
