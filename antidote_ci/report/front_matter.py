"""The YAML at the head of a model card: found as the Hub finds it, changed without touching what a person wrote."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Metadata = dict[str, Any]

# The Hub's own rule for where metadata begins and ends; a byte order mark may come first.
_BLOCK = re.compile(
    r"(\ufeff?\s*---(?:\r\n|\r|\n))"
    r"([\s\S]*?)"
    r"((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z))"
)
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What PyYAML raises, beside its own YAMLError, for scalars and nesting made to break it."""


@dataclass(frozen=True)
class Parts:
    """A card in pieces that give the card when joined. Without metadata the first three are empty."""

    opening: str
    metadata: str
    closing: str
    body: str


def split(card: str) -> Parts:
    """The card's metadata and body."""
    found = _BLOCK.match(card)
    if found is None:
        return Parts("", "", "", card)
    return Parts(found[1], found[2], found[3], card[found.end() :])


def line_break(card: str) -> str:
    """The card's own line break, by its first one."""
    first = re.search(r"\r\n|\r|\n", card)
    return "\r\n" if first and first[0] == "\r\n" else "\n"


def dump(metadata: Metadata, newline: str) -> str:
    """The metadata as block YAML, keys in their order, each line ended."""
    import yaml

    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return text.replace("\n", newline)


def merged(text: str, change: Callable[[Metadata], Metadata], newline: str) -> str:
    """The metadata text with what `change` returns; keys that it leaves alone keep their very characters.

    Text that is no YAML mapping comes back as it was: it is the owner's to mend, and the Hub names the mistake.
    """
    import yaml

    try:
        loaded = yaml.safe_load(text)
        old = {} if loaded is None else loaded
        if not isinstance(old, dict):
            return text
        new = change(old)
        changed = {key for key in new if key not in old or new[key] != old[key]}
        if not changed:
            return text
        return _spliced(text, new, changed, newline) or dump(new, newline).removesuffix(newline)
    except (yaml.YAMLError, *_UNREADABLE):
        return text


def _spliced(text: str, new: Metadata, changed: set[str], newline: str) -> str | None:
    """Only the changed keys written anew; None when that would not read as `new` (flow style, anchors, odd keys)."""
    import yaml

    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        return None
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    starts = [key.start_mark.index for key, _ in pairs]
    pieces = [text[: starts[0]] if starts else text]
    for (key, _), start, end in zip(pairs, starts, [*starts[1:], len(text)], strict=True):
        piece = text[start:end]
        if key.value in changed:
            piece = dump({key.value: new[key.value]}, newline) + _trailing_comments(piece)
        pieces.append(piece)
    written = "".join(pieces)
    present = {key.value for key, _ in pairs}
    added = {key: value for key, value in new.items() if key in changed and key not in present}
    if added:
        gap = newline if written and not written.endswith(("\n", "\r")) else ""
        written += gap + dump(added, newline)
    written = written.removesuffix(newline)
    try:
        return written if yaml.safe_load(written) == new else None
    except yaml.YAMLError:
        return None


def _trailing_comments(piece: str) -> str:
    """Comment and blank lines after a value: they belong to the key that follows."""
    lines = piece.splitlines(keepends=True)
    kept = len(lines)
    while kept and (not lines[kept - 1].strip() or lines[kept - 1].lstrip().startswith("#")):
        kept -= 1
    return "".join(lines[kept:])
