"""The model card: the owner's text and metadata, with this run's block and results added or replaced.

Metadata keys are those of https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

import re
from collections.abc import Callable

from antidote_ci.checkpoint.card import split_card
from antidote_ci.records import Evaluation, Report, is_hub_id
from antidote_ci.report import front_matter
from antidote_ci.report.front_matter import Metadata
from antidote_ci.report.measures import MEASURES, format_identity
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.summary import LOCAL_CARD, CardLocation, card_values
from antidote_ci.report.text import abbreviate_commits, escape_markdown, flatten

BEGIN = "<!-- antidote-ci:begin -->"
END = "<!-- antidote-ci:end -->"
# From a begin marker to the next end marker without another begin between: a stray marker removes none of the
# owner's text.
_BLOCK = re.compile(rf"{BEGIN}(?:(?!{BEGIN})[\s\S])*?{END}")

DATASET = "antidote-ci-prompts"
"""Dataset type that identifies the results of this tool in `model-index`, so that a later run replaces them."""
LICENCE = ("license", "license_name", "license_link")
LINEAGE = ("base_model", "base_model_relation")
INHERITED = ("language", "pipeline_tag", "library_name", "datasets")
GATE_PREFIX = "extra_gated_"
"""Prefix of the keys that set what a reader must agree to."""
SOURCE_KEYS = ("model-index", "new_version")
"""Keys that hold for the source's weights only: its results and its successor."""


def render_card(report: Report, source_card: str, location: CardLocation = LOCAL_CARD) -> str:
    """Return the card for `location` with this run's results.

    It is based on the location's current card, else on the source's, else on a minimal one. Text outside the block
    is kept byte for byte, and rendering twice gives the same card as rendering once.
    """
    card = location.card or source_card
    newline = front_matter.find_line_break(card)
    parts = split_card(card or f"# {escape_markdown(_model_name(report, location))}\n")
    if parts.opening:
        change = _metadata_change(report, source_card, location)
        head = parts.opening + front_matter.merge_metadata(parts.metadata, change, newline) + parts.closing
    else:
        if location.own:
            metadata = _metadata_change(report, source_card, location)({})
        else:
            # A card without metadata gets the known lineage.
            metadata = _add_results(report, _lineage(report, location) | _model_kind(report), location)
        head = f"---{newline}{front_matter.dump_metadata(metadata, newline)}---{newline}{newline}"
    text = render_report_template("model_card.md.jinja", **card_values(report, location))
    block = newline.join([BEGIN, *text.splitlines(), END])
    # In a new repository the source's text follows the block: it describes other weights.
    block_first, body = location.own and not location.card, parts.body
    if report.keeps_failed_weights:
        # Nobody may overlook the heading of the block, which says that the weights did not pass.
        block_first = True
        body = body if _BLOCK.match(body.lstrip()) else _BLOCK.sub("", body)
    return _insert_block(head, body, block, newline, first=block_first and bool(card))


def _insert_block(head: str, body: str, block: str, newline: str, *, first: bool) -> str:
    """Replace the block in the body, or insert it before or after the body."""
    matches = list(_BLOCK.finditer(body))
    if not matches and first:
        above = "" if head.endswith(newline * 2) else newline if head.endswith(("\n", "\r")) else newline * 2
        below = newline if body.startswith(("\n", "\r")) else newline * 2
        return head + above + block + below + body
    if not matches:
        gap = newline if (head + body).endswith(("\n", "\r")) else newline * 2
        return head + body + gap + block + newline
    current, *stale = matches
    for match in reversed(stale):
        body = body[: match.start()] + body[match.end() :]
    return head + body[: current.start()] + block + body[current.end() :]


def _metadata_change(report: Report, source_card: str, location: CardLocation) -> Callable[[Metadata], Metadata]:
    """Return the function from the current metadata to the new metadata."""
    if not location.own:
        return lambda current: _add_results(report, current, location)
    if not location.card:
        return lambda source: _adopt_metadata(report, source, location)
    source = front_matter.load_metadata(split_card(source_card).metadata)
    return lambda current: _complete_metadata(report, current, source, location)


def _add_results(report: Report, current: Metadata, location: CardLocation) -> Metadata:
    """Add tags and results. Values that the Hub could not read are left unchanged."""
    index = _merge_model_index(report, current.get("model-index"), location)
    return {**current, "tags": _merge_tags(report, current.get("tags")), "model-index": index}


def _adopt_metadata(report: Report, source: Metadata, location: CardLocation) -> Metadata:
    """Return the metadata of a new repository: the source's, with the source or its base as base model."""
    inherited = {key: value for key, value in source.items() if key not in SOURCE_KEYS}
    lineage = _lineage(report, location)
    if lineage and source.get("base_model") == [lineage["base_model"]]:
        del lineage["base_model"]
    return _add_results(report, _model_kind(report) | inherited | lineage, location)


def _complete_metadata(report: Report, current: Metadata, source: Metadata, location: CardLocation) -> Metadata:
    """Return the metadata of a repository that has a card: missing keys are taken from the source.

    The keys of the licence are taken together or not at all, and so are those of the lineage.
    """
    adopted = _adopt_metadata(report, source, location)
    keys = [*INHERITED, *(key for key in adopted if str(key).startswith(GATE_PREFIX))]
    keys += [key for group in (LICENCE, LINEAGE) if current.get(group[0]) is None for key in group]
    missing = {key: adopted[key] for key in keys if key in adopted and current.get(key) is None}
    return _add_results(report, current | missing, location)


def _model_name(report: Report, location: CardLocation) -> str:
    name = location.repository if location.own and location.repository else report.source.id
    return flatten(name.rstrip("/").rsplit("/", 1)[-1]) or "model"


def _merge_tags(report: Report, current: object) -> object:
    tags = ["antidote", "safety-repair", "antidote-ci"] if report.verdict == "repaired" else ["antidote-ci"]
    if current is None:
        return tags
    if isinstance(current, str):
        current = [current]
    return [*current, *(tag for tag in tags if tag not in current)] if isinstance(current, list) else current


def _lineage(report: Report, location: CardLocation) -> Metadata:
    """Return the base model: https://huggingface.co/docs/hub/model-cards#specifying-a-base-model

    The base of full weights in their own repository is their source; the base of an adapter is the model that it is
    loaded with. Empty when the base is not known to be on the Hub, or is the model itself.
    """
    is_adapter = report.source.kind == "adapter"
    base = report.source if location.own and not is_adapter else report.reference
    this_model = location.repository if location.own else report.source.id
    # A local folder has no revision, and its path may look like a repository id.
    if base is None or base.revision is None or not is_hub_id(base.id) or base.id == this_model:
        return {}
    return {"base_model": base.id, "base_model_relation": "adapter" if is_adapter else "finetune"}


def _model_kind(report: Report) -> Metadata:
    """Return how the model is loaded, which the Hub does not infer. A served model's library is unknown."""
    library = {"full": "transformers", "adapter": "peft"}.get(report.source.kind)
    return ({"library_name": library} if library else {}) | {"pipeline_tag": "text-generation"}


def _merge_model_index(report: Report, current: object, location: CardLocation) -> object:
    results = _build_results(report)
    match current:
        case None | []:
            return [{"name": _model_name(report, location), "results": results}]
        case [dict(first), *others] if isinstance(first.get("name"), str) and isinstance(first.get("results"), list):
            return [first | {"results": _replace_results(first["results"], results)}, *others]
        case _:
            return current


def _replace_results(current: list[object], results: list[Metadata]) -> list[object]:
    """Replace results in place by their key, append new ones, and drop this tool's results that no longer exist."""
    by_key = {_result_key(result): result for result in results}
    merged = [result if _result_key(result) is None else by_key.pop(_result_key(result), None) for result in current]
    return [result for result in merged if result is not None] + list(by_key.values())


def _result_key(result: object) -> tuple[str, ...] | None:
    """Return role, measure and name (with the judge) of a result of this tool; None for other results."""
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
    """Return one result per figure, of the weights next to the card: the repaired ones when they pass or are kept."""
    evaluations = report.evaluations
    is_repaired = report.verdict == "repaired" or report.keeps_failed_weights
    evaluation = evaluations.after if is_repaired and evaluations.after else evaluations.before
    results = [_build_result(report, "confirmation", metric) for metric in _score_metrics(evaluation)]
    if benign := evaluation.benign:
        args = {"n": benign.n, "judge": flatten(benign.judge)}
        metric = _build_metric("over_refusal", "Over-refusal", benign.over_refusal, args)
        results.append(_build_result(report, "benign", metric))
    if task := evaluation.task:
        args = {"n": task.n, "match": flatten(task.match)}
        results.append(_build_result(report, "task", _build_metric("accuracy", "Task accuracy", task.accuracy, args)))
    return results


def _score_metrics(evaluation: Evaluation) -> list[Metadata]:
    """Return one metric per judge."""
    metrics = []
    for result in evaluation.readings:
        args = {
            "lower_bound": round(result.bounds[0], 4),
            "upper_bound": round(result.bounds[1], 4),
            "confidence": evaluation.confidence,
            "n": evaluation.n,
            "threshold": evaluation.threshold,
            "judge": flatten(format_identity(result.judge)),
        }
        if result.corrected_score is not None:
            args["corrected"] = round(result.corrected_score, 4)
        name = f"{MEASURES[result.judge.measure]} (judge: {flatten(result.judge.name)})"
        metrics.append(_build_metric(result.judge.measure, name, result.harmful_score, args))
    return metrics


def _build_metric(kind: str, name: str, value: float, args: Metadata) -> Metadata:
    return {"type": kind, "value": round(value, 4), "name": name, "args": args}


def _build_result(report: Report, role: str, metric: Metadata) -> Metadata:
    """Return a result in the form that the Hub validates: task, dataset, metrics."""
    dataset = {"name": f"{role} prompts", "type": DATASET, "config": role}
    prompt_sets = [prompt_set for prompt_set in report.prompts if prompt_set.role == role]
    if prompt_sets:
        origins = ", ".join(flatten(abbreviate_commits(prompt_set.origin)) for prompt_set in prompt_sets)
        dataset["name"] += f" ({origins})"
    if len(prompt_sets) == 1:
        dataset["revision"] = flatten(prompt_sets[0].sha256)
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": dataset,
        "metrics": [metric],
    }
