"""Parse and validate the metadata of a model card.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md?plain=1
The validation checks types, not the Hub's lists of licences, languages and tasks.
"""

import re
from collections.abc import Mapping
from typing import Any

BLOCK = re.compile(r"\s*---(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z)", re.DOTALL)
RELATIONS = ("adapter", "merge", "quantized", "finetune")
TEXTS = ("license_name", "license_link", "library_name", "pipeline_tag", "new_version")
LISTS = ("license", "tags", "datasets", "language", "metrics", "base_model")
MODEL = re.compile(r"[\w.-]+(/[\w.-]+)?")


def parse_card(card: str) -> dict[str, Any]:
    """Return the metadata, empty without front matter. Raises ValueError if it is not a YAML mapping."""
    import yaml

    block = BLOCK.match(card)
    if block is None:
        return {}
    try:
        content = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict | None):
        raise ValueError("the metadata is not a mapping")
    return content or {}


def find_faults(card: str) -> list[str]:
    """Return one message for each value that the Hub would reject."""
    try:
        metadata = parse_card(card)
    except ValueError as error:
        return [str(error)]
    faults = [f'"{key}" must be a string' for key in TEXTS if key in metadata and not isinstance(metadata[key], str)]
    faults += [
        f'"{key}" must be a string or a list of strings'
        for key in LISTS
        if key in metadata and not _is_strings(metadata[key])
    ]
    bases = metadata.get("base_model", [])
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []:
        if isinstance(base, str) and not MODEL.fullmatch(base):
            faults.append(f'"base_model" with value "{base}" is not valid')
    if metadata.get("base_model_relation", RELATIONS[0]) not in RELATIONS:
        faults.append(f'"base_model_relation" must be one of {", ".join(RELATIONS)}')
    return faults + _model_index_faults(metadata.get("model-index", []))


def _is_strings(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _model_index_faults(index: object) -> list[str]:
    if not isinstance(index, list):
        return ['"model-index" must be a list']
    faults = []
    for number, model in enumerate(index):
        where = f"model-index[{number}]"
        if not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
            faults.append(f'"{where}.name" is required')
        elif not isinstance(model.get("results"), list):
            faults.append(f'"{where}.results" must be a list')
        else:
            for place, result in enumerate(model["results"]):
                faults += _result_faults(f"{where}.results[{place}]", result)
    return faults


def _result_faults(where: str, result: object) -> list[str]:
    if not isinstance(result, Mapping):
        return [f'"{where}" must be a mapping']
    faults = []
    for part, keys in (("task", ["type"]), ("dataset", ["type", "name"])):
        value = result.get(part)
        if not isinstance(value, Mapping):
            faults.append(f'"{where}.{part}" is required')
        else:
            faults += [f'"{where}.{part}.{key}" is required' for key in keys if key not in value]
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        return [*faults, f'"{where}.metrics" must be a list']
    complete = all(isinstance(m, Mapping) and {"type", "value"} <= m.keys() for m in metrics)
    return faults if complete else [*faults, f'every entry of "{where}.metrics" needs type and value']
