"""The YAML at the head of a model card, changed without touching what a person wrote."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.card import YAML_ERRORS, CardParts, split_card
from antidote_ci.report.text import flatten

Metadata = dict[str, Any]


def find_line_break(card: str) -> str:
    """The card's own line break, by its first one."""
    first = re.search(r"\r\n|\r|\n", card)
    return "\r\n" if first and first[0] == "\r\n" else "\n"


def dump_metadata(metadata: Metadata, newline: str) -> str:
    """The metadata as block YAML, keys in their order, each line ended."""
    import yaml

    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    # PyYAML writes U+0085 unescaped in a way that it reads as spaces.
    if "\x85" in text:
        text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=False)
    return text.replace("\n", newline)


def find_fault(card: str) -> str | None:
    """Why the results of a run cannot be put into this card's metadata, in half a sentence; None where they can.

    What else the Hub may refuse, such as a licence that it does not know, it says itself.
    """
    import yaml

    parts = split_card(card)
    if any("\ud800" <= character <= "\udfff" for character in card):
        return "the file is not UTF-8"
    try:
        loaded = cards.parse_yaml(parts.metadata)
        root = yaml.compose(parts.metadata, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return f"it is not valid YAML: {flatten(error.problem)}{_error_line(parts, error.problem_mark)}"
    except (yaml.YAMLError, *YAML_ERRORS) as error:
        return f"it is not valid YAML: {flatten(str(error).partition(chr(10))[0] or type(error).__name__)}"
    if loaded is None:
        return None
    if not isinstance(loaded, dict):
        return "it is not a mapping of names to values"
    named = Counter(key.value for key, _ in root.value) if isinstance(root, yaml.MappingNode) else {}
    for name, times in named.items():
        if times > 1:
            return f"it names {flatten(name)} twice"
    for key in loaded:
        if not isinstance(key, str):
            return f"it names something {flatten(key)}, which YAML does not read as text"
    return _find_unreadable(loaded)


def _error_line(parts: CardParts, mark: Any) -> str:  # noqa: ANN401
    return "" if mark is None else f" (line {parts.opening.count(chr(10)) + mark.line + 1} of the file)"


def _find_unreadable(metadata: Metadata) -> str | None:
    """What is said in a form in which our own could not be added."""
    tags, index = metadata.get("tags"), metadata.get("model-index")
    if not (tags is None or isinstance(tags, str) or _is_list_of(_is_text, tags)):
        return "its tags are not a list of texts"
    if not (index is None or _is_list_of(_is_indexed, index)):
        return "its model-index is not a list of models, each with a name and results"
    return None


def _is_list_of(fits: Callable[[object], bool], values: object) -> bool:
    return isinstance(values, list) and all(map(fits, values))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_indexed(model: object) -> bool:
    match model:
        case {"name": str(), "results": results}:
            return _is_list_of(_is_result, results)
        case _:
            return False


def _is_result(result: object) -> bool:
    match result:
        case {"task": {"type": _}, "dataset": {"type": _, "name": _}, "metrics": metrics}:
            return _is_list_of(_is_metric, metrics)
        case _:
            return False


def _is_metric(metric: object) -> bool:
    return isinstance(metric, dict) and {"type", "value"} <= metric.keys()


def load_metadata(text: str) -> Metadata:
    """What the metadata text says; empty where it is no YAML mapping."""
    import yaml

    try:
        loaded = cards.parse_yaml(text)
    except (yaml.YAMLError, *YAML_ERRORS):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def merge_metadata(text: str, change: Callable[[Metadata], Metadata], newline: str) -> str:
    """The metadata text with what `change` returns; keys that it leaves alone keep their very characters.

    Text that is no YAML mapping comes back as it was: it is the owner's to mend, and the Hub names the mistake.
    """
    import yaml

    try:
        loaded = cards.parse_yaml(text)
        old = {} if loaded is None else loaded
        if not isinstance(old, dict):
            return text
        new = change(old)
        gone = old.keys() - new.keys()
        changed = {key for key in new if key not in old or (new[key] is not old[key] and new[key] != old[key])}
        if not gone and not changed:
            return text
        spliced = _splice(text, new, changed, gone, newline)
        return dump_metadata(new, newline).removesuffix(newline) if spliced is None else spliced
    except (yaml.YAMLError, *YAML_ERRORS):
        return text


def _splice(text: str, new: Metadata, changed: set[str], gone: set[str], newline: str) -> str | None:
    """Only the changed keys written anew; None when that would not read as `new` (flow style, anchors, odd keys)."""
    import yaml

    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        return None
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    starts = [key.start_mark.index for key, _ in pairs]
    pieces = [text[: starts[0]] if starts else text]
    for (key, _), (start, end) in zip(pairs, pairwise([*starts, len(text)]), strict=True):
        piece = text[start:end]
        if key.value in gone:
            piece = _trailing_comments(piece)
        elif key.value in changed:
            piece = dump_metadata({key.value: new[key.value]}, newline) + _trailing_comments(piece)
        pieces.append(piece)
    written = "".join(pieces)
    present = {key.value for key, _ in pairs}
    added = {key: value for key, value in new.items() if key in changed and key not in present}
    if added:
        gap = newline if written and not written.endswith(("\n", "\r")) else ""
        written += gap + dump_metadata(added, newline)
    written = written.removesuffix(newline)
    try:
        return written if _is_equal(cards.parse_yaml(written), new) else None
    except yaml.YAMLError:
        return None


def _is_equal(one: Any, other: Metadata) -> bool:  # noqa: ANN401
    """By what they print as: NaN is then what it was. There are no aliases here that could make that long."""
    return isinstance(one, dict) and {key: repr(value) for key, value in one.items()} == {
        key: repr(value) for key, value in other.items()
    }


def _trailing_comments(piece: str) -> str:
    """Comment and blank lines after a value: they belong to the key that follows."""
    lines = piece.splitlines(keepends=True)
    kept = len(lines)
    while kept and (not lines[kept - 1].strip() or lines[kept - 1].lstrip().startswith("#")):
        kept -= 1
    return "".join(lines[kept:])
