"""The YAML metadata at the top of a model card, edited without changing what its owner wrote."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.card import YAML_ERRORS, CardParts, PlainText, resolve_plain, split_card
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.report.text import flatten

Metadata = dict[str, Any]


def find_line_break(card: str) -> str:
    """Return the card's first line break, \\n or \\r\\n."""
    first = re.search(r"\r\n|\r|\n", card)
    return "\r\n" if first and first[0] == "\r\n" else "\n"


def load_metadata(text: str) -> Metadata:
    """Parse the metadata; empty when the text is not a YAML mapping, or exceeds a limit of `checkpoint.card`."""
    try:
        return cards.parse_metadata(text)
    except (ConfigurationError, UnsafeCheckpoint):
        return {}


def dump_metadata(metadata: Metadata, newline: str) -> str:
    """Return the metadata as block YAML, with the keys in their order and a final line break."""
    import yaml

    class CardDumper(yaml.SafeDumper):
        """Leaves a text without quotes as the owner of a card wrote it."""

    CardDumper.add_representer(PlainText, lambda dumper, text: dumper.represent_scalar(resolve_plain(text), str(text)))

    def dump(*, allow_unicode: bool) -> str:
        text: str = yaml.dump(metadata, Dumper=CardDumper, sort_keys=False, allow_unicode=allow_unicode)
        return text

    # PyYAML writes U+0085 unescaped, but reads it as a space.
    return dump(allow_unicode="\x85" not in dump(allow_unicode=True)).replace("\n", newline)


def find_fault(card: str) -> str | None:
    """Return why results cannot be added to the card's metadata, as a clause; None when they can.

    The Hub reports other faults itself, such as an unknown licence. Raises UnsafeCheckpoint when parsing takes too
    long.
    """
    fault: str | None = cards.run_on_card(card, lambda: _find_fault(card))
    return fault


def _find_fault(card: str) -> str | None:
    import yaml

    parts = split_card(card)
    if any("\ud800" <= character <= "\udfff" for character in card):
        return "the file is not UTF-8"
    try:
        loaded = cards.parse_yaml(parts.metadata)
        root = yaml.compose(parts.metadata, Loader=cards.card_loader())
        # Other readers of the card also read dates, and fail at 2024-13-45.
        yaml.load(parts.metadata, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        return f"it is not valid YAML: {flatten(error.problem)}{_error_line(parts, error.problem_mark)}"
    except (yaml.YAMLError, *YAML_ERRORS) as error:
        return f"it is not valid YAML: {flatten(str(error).partition(chr(10))[0] or type(error).__name__)}"
    if loaded is None:
        return None
    if not isinstance(loaded, dict):
        return "it is not a mapping of names to values"
    names = Counter(key.value for key, _ in root.value) if isinstance(root, yaml.MappingNode) else {}
    for name, count in names.items():
        if count > 1:
            return f"it has the key {flatten(name)} twice"
    for key in loaded:
        if not isinstance(key, str):
            return f"it has the key {flatten(key)}, which YAML does not read as text"
    tags, index = loaded.get("tags"), loaded.get("model-index")
    if not (tags is None or isinstance(tags, str) or _is_list_of(lambda tag: isinstance(tag, str), tags)):
        return "its tags are not a list of strings"
    if not (index is None or _is_list_of(_is_indexed_model, index)):
        return "its model-index is not a list of models, each with a name and results"
    return None


def merge_metadata(text: str, change: Callable[[Metadata], Metadata], newline: str) -> str:
    """Apply `change` to the metadata text. Unchanged keys keep their exact characters.

    Text that is not a YAML mapping, or exceeds a limit of `checkpoint.card`, is returned unchanged; the Hub reports the
    error to its owner.
    """
    try:
        merged: str = cards.run_on_card(text, lambda: _merge_metadata(text, change, newline))
    except UnsafeCheckpoint:
        return text
    return merged


def _merge_metadata(text: str, change: Callable[[Metadata], Metadata], newline: str) -> str:
    import yaml

    try:
        loaded = cards.parse_yaml(text)
        current = {} if loaded is None else loaded
        if not isinstance(current, dict):
            return text
        new = change(current)
        removed = current.keys() - new.keys()
        changed = {key for key in new if key not in current or new[key] != current[key]}
        if not removed and not changed:
            return text
        spliced = _splice(text, new, changed, removed, newline)
        return dump_metadata(new, newline).removesuffix(newline) if spliced is None else spliced
    except (yaml.YAMLError, *YAML_ERRORS):
        return text


def _error_line(parts: CardParts, mark: Any) -> str:  # noqa: ANN401
    return "" if mark is None else f" (line {parts.opening.count(chr(10)) + mark.line + 1} of the file)"


def _is_list_of(predicate: Callable[[object], bool], values: object) -> bool:
    return isinstance(values, list) and all(map(predicate, values))


def _is_indexed_model(model: object) -> bool:
    match model:
        case {"name": str(), "results": results}:
            return _is_list_of(_is_result, results)
        case _:
            return False


def _is_result(result: object) -> bool:
    match result:
        case {"task": {"type": _}, "dataset": {"type": _, "name": _}, "metrics": metrics}:
            return _is_list_of(lambda metric: isinstance(metric, dict) and {"type", "value"} <= metric.keys(), metrics)
        case _:
            return False


def _splice(text: str, new: Metadata, changed: set[str], removed: set[str], newline: str) -> str | None:
    """Return the YAML `text` with only its `changed` and `removed` keys rewritten, so that comments and order stay.

    Returns None when the result would not parse as `new`, for example because of flow style.
    """
    import yaml

    root = yaml.compose(text, Loader=cards.card_loader())
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    starts = [key.start_mark.index for key, _ in pairs]
    pieces = [text[: starts[0]] if starts else text]
    for (key, _), (start, end) in zip(pairs, pairwise([*starts, len(text)]), strict=True):
        piece = text[start:end]
        if key.value in removed:
            piece = _trailing_comments(piece)
        elif key.value in changed:
            piece = dump_metadata({key.value: new[key.value]}, newline) + _trailing_comments(piece)
        pieces.append(piece)
    spliced = "".join(pieces)
    present = {key.value for key, _ in pairs}
    added = {key: value for key, value in new.items() if key in changed and key not in present}
    if added:
        gap = newline if spliced and not spliced.endswith(("\n", "\r")) else ""
        spliced += gap + dump_metadata(added, newline)
    spliced = spliced.removesuffix(newline)
    try:
        reparsed = cards.parse_yaml(spliced)
    except yaml.YAMLError:
        return None
    # Values are compared by repr, so that NaN equals NaN.
    is_equal = isinstance(reparsed, dict) and _reprs(reparsed) == _reprs(new)
    return spliced if is_equal else None


def _reprs(metadata: Metadata) -> dict[str, str]:
    return {key: repr(value) for key, value in metadata.items()}


def _trailing_comments(piece: str) -> str:
    """Return the comment and blank lines after a value: they belong to the next key."""
    lines = piece.splitlines(keepends=True)
    end = len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return "".join(lines[end:])
