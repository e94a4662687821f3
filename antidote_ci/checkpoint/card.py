"""The YAML front matter of a model card, delimited as the Hub delimits it."""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import MAX_OTHER_BYTES, list_files
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.resource_limits import LimitExceeded, WorkFailed, run_limited

if TYPE_CHECKING:
    import yaml

CARD = "README.md"
MAX_CHARACTERS = 512 << 10
"""Characters of the front matter. Cards with the results of many benchmarks have some hundred thousand."""
MAX_EVENTS = 200_000
"""Events of the YAML parser, about one for each value and each bracket."""
MAX_DEPTH = 32
SHORT_CHARACTERS = 8_000
"""Characters of a card whose parsing takes a few milliseconds at most."""
SECONDS = 8
MEMORY = 512 << 20

YAML_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Exceptions of PyYAML, besides YAMLError, for hostile scalars and nesting."""

# The rule of the Hub for the bounds of the metadata. A byte order mark may precede it.
_BLOCK = re.compile(
    r"(\ufeff?\s*---(?:\r\n|\r|\n))"
    r"([\s\S]*?)"
    r"((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z))"
)
# Only the scalars of JSON: YAML 1.1 also reads `1:30:00`, `010`, `2024-01-01`, `no` and `1_000` as other values.
TEXT_TAG = "tag:yaml.org,2002:str"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,99})", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}\.[0-9]{0,40})(?:[eE][-+]?[0-9]{1,3})?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class ExpensiveYaml(ValueError):
    """The front matter is too large, or has anchors, aliases or tags, with which a short text becomes a large value."""


@dataclass(frozen=True)
class CardParts:
    """The parts of a card; joined they give the card. Without metadata the first three are empty."""

    opening: str
    metadata: str
    closing: str
    body: str


def split_card(card: str) -> CardParts:
    """Split a card into metadata and body."""
    block = _BLOCK.match(card)
    if block is None:
        return CardParts("", "", "", card)
    return CardParts(block[1], block[2], block[3], card[block.end() :])


def parse_yaml(text: str) -> object:
    """Parse YAML without aliases, anchors and tags, in this process: call it in `run_on_card` only.

    Raises yaml.YAMLError or one of YAML_ERRORS.
    """
    import yaml

    loader = card_loader()
    _require_plain(text)
    return yaml.load(text, Loader=loader)  # noqa: S506 - a SafeLoader with fewer kinds of scalars


class PlainText(str):
    """A text without quotes that YAML 1.1 reads as another value, such as a date or `no`. It is written as it was."""


@functools.cache
def card_loader() -> "type[yaml.SafeLoader]":
    """Return the loader of cards: PyYAML's safe one, without the scalars that only YAML 1.1 has and without `<<`."""
    import yaml

    class CardLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form

    for name, (pattern, first) in _SCALARS.items():
        CardLoader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z"), first)

    def construct_text(loader: Any, node: yaml.ScalarNode) -> str:  # noqa: ANN401 - one of two classes
        text: str = loader.construct_scalar(node)
        return PlainText(text) if not node.style and resolve_plain(text) != TEXT_TAG else text

    CardLoader.add_constructor(TEXT_TAG, construct_text)
    return CardLoader


def resolve_plain(text: str) -> str:
    """Return the tag of a text without quotes in YAML 1.1."""
    import yaml

    tag: str = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag


def run_on_card(card: str, work: Callable[[], object]) -> Any:  # noqa: ANN401 - JSON
    """Run `work`, which parses `card`, within SECONDS and MEMORY in a fork, and return its result.

    A short card cannot exceed them, so it needs no fork. Raises UnsafeCheckpoint when a limit is exceeded.
    """
    if len(card) <= SHORT_CHARACTERS:
        return work()
    # Imported and built before the fork, which would have to do it each time.
    card_loader()
    try:
        return run_limited(work, SECONDS, MEMORY)
    except (LimitExceeded, WorkFailed) as error:
        raise UnsafeCheckpoint(
            f"the front matter of {CARD} cannot be read within {SECONDS} s and {MEMORY >> 20} MiB",
            cause="real cards take a fraction of a second; this one may be meant to exhaust the machine",
            hint="remove the block between the first two lines `---`, or correct it",
        ) from error


def parse_front_matter(text: str) -> dict[str, object]:
    """Parse the metadata of a card; empty without metadata.

    Values are those of JSON. Raises ConfigurationError when it is no YAML mapping; UnsafeCheckpoint when it is too
    large, has anchors, aliases or tags, or takes too long.
    """
    return parse_metadata(split_card(text).metadata)


def parse_metadata(text: str) -> dict[str, Any]:
    """Parse the text between the lines `---`. Raises the errors of `parse_front_matter`."""
    metadata = text.encode("utf-8", "replace").decode()
    if not metadata.strip():
        return {}
    match run_on_card(metadata, lambda: _try_parse(metadata)):
        case [None, dict() as data]:
            return data
        case ["expensive", fault]:
            raise UnsafeCheckpoint(
                f"the front matter of {CARD} is not read: {fault}",
                cause="real cards need nothing of it, and it can make a short text take minutes and gigabytes",
                hint=f"write the values out in {CARD}; https://huggingface.co/docs/hub/model-cards shows its form",
            )
        case ["broken", fault]:
            raise _card_error(fault)
        case _:
            raise _card_error("it is not a mapping of names to values")


def read_base_model(folder: Path) -> str | None:
    """Return the `base_model` of the card in `folder`; None when it names none or several (a merge of models).

    Raises the errors of `parse_front_matter`.
    """
    models = read_base_models(folder)
    return models[0] if len(models) == 1 else None


def read_base_models(folder: Path) -> list[str]:
    """Return every `base_model` that the card names. Raises the errors of `parse_front_matter`."""
    if CARD not in list_files(folder):
        return []
    value = parse_front_matter(read_card(folder / CARD)).get("base_model")
    names = value if isinstance(value, list) else [value]
    return [name.strip() for name in names if isinstance(name, str) and name.strip()]


def read_licence(card: Path) -> object:
    """Return the `license` of the card; None when it has none or cannot be parsed."""
    try:
        return parse_front_matter(read_card(card)).get("license")
    except (ConfigurationError, UnsafeCheckpoint):
        return None


def read_card(path: Path) -> str:
    """Return the text of a card, of which at most the first MAX_OTHER_BYTES are read; empty when there is none.

    Bytes that are not UTF-8 become surrogates, so that they can be written again.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(MAX_OTHER_BYTES).decode("utf-8", "surrogateescape")


def _try_parse(text: str) -> tuple[str | None, object]:
    """Return None and the data of a front matter, or the kind of its fault and the fault."""
    import yaml

    try:
        data = parse_yaml(text)
        data = {} if data is None else data
        return None, json.loads(json.dumps(data)) if isinstance(data, dict) else None
    except (yaml.YAMLError, *YAML_ERRORS) as error:
        kind = "expensive" if isinstance(error, ExpensiveYaml) else "broken"
        return kind, str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _require_plain(text: str) -> None:
    """Raise yaml.YAMLError for a text that is not YAML, ExpensiveYaml for one that is too large.

    Events are counted before values are built, so that neither can grow beyond the text.
    """
    import yaml

    if len(text) > MAX_CHARACTERS:
        raise ExpensiveYaml(f"it has more than {MAX_CHARACTERS:,} characters")
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=card_loader())):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ExpensiveYaml("it has an anchor or an alias")
        if getattr(event, "tag", None) is not None:
            raise ExpensiveYaml("it has a tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if number > MAX_EVENTS or depth > MAX_DEPTH:
            raise ExpensiveYaml(f"it has more than {MAX_EVENTS:,} values, or nests deeper than {MAX_DEPTH} levels")


def _card_error(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"the front matter of {CARD} is broken: {problem}",
        cause="the block between the first two lines `---` is not valid YAML",
        hint="correct it; https://huggingface.co/docs/hub/model-cards shows its form",
    )
