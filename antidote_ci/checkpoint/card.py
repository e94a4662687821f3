"""The front matter of a model card, found as the Hub finds it."""

import re
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import list_files
from antidote_ci.errors import ConfigurationError

CARD = "README.md"
MAX_BYTES = 4 << 20
MAX_KEYS = 10_000

YAML_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What PyYAML raises, beside its own YAMLError, for scalars and nesting made to break it."""

# The Hub's own rule for where metadata begins and ends; a byte order mark may come first.
_BLOCK = re.compile(
    r"(\ufeff?\s*---(?:\r\n|\r|\n))"
    r"([\s\S]*?)"
    r"((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z))"
)


@dataclass(frozen=True)
class CardParts:
    """A card in pieces that give the card when joined. Without metadata the first three are empty."""

    opening: str
    metadata: str
    closing: str
    body: str


def split_card(card: str) -> CardParts:
    """The card's metadata and body."""
    found = _BLOCK.match(card)
    if found is None:
        return CardParts("", "", "", card)
    return CardParts(found[1], found[2], found[3], card[found.end() :])


def parse_yaml(text: str) -> object:
    """What the YAML says, which may be longer than its text, but not without bounds.

    Raises yaml.YAMLError or one of UNREADABLE.
    """
    import yaml

    class Bounded(yaml.SafeLoader):
        """Merge keys, `<<`, unfold into as many pairs as one likes: each level of them into all of the one below."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MAX_KEYS:
                raise ValueError(f"one of its mappings has more than {MAX_KEYS:,} names")

    return yaml.load(text, Loader=Bounded)  # noqa: S506 - a SafeLoader


def parse_front_matter(text: str) -> dict[str, object]:
    """What the card's metadata says, nothing where it has none.

    Raises ConfigurationError when it is no YAML mapping.
    """
    import yaml

    try:
        data = parse_yaml(split_card(text).metadata)
    except (yaml.YAMLError, *YAML_ERRORS) as error:
        raise _card_error(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise _card_error("it is not a mapping of names to values")
    return {str(key): value for key, value in data.items()}


def read_base_model(folder: Path) -> str | None:
    """The one `read_base_model` that the card in `folder` names; None when it names none, or several (a merge).

    Raises ConfigurationError for a card that cannot be read.
    """
    named = read_base_models(folder)
    return named[0] if len(named) == 1 else None


def read_base_models(folder: Path) -> list[str]:
    """All that the card names. Raises ConfigurationError for a card that cannot be read."""
    if CARD not in list_files(folder):
        return []
    named = _read_front_matter(folder / CARD).get("base_model")
    each = named if isinstance(named, list) else [named]
    return [name.strip() for name in each if isinstance(name, str) and name.strip()]


def read_licence(card: Path) -> object:
    """What the card says of the licence; None where it says nothing, or cannot be read."""
    try:
        return _read_front_matter(card).get("license")
    except ConfigurationError:
        return None


def _read_front_matter(card: Path) -> dict[str, object]:
    with card.open("rb") as file:
        return parse_front_matter(file.read(MAX_BYTES).decode("utf-8", errors="replace"))


def _card_error(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the front matter of {CARD} is broken: {why}",
        cause="the block between the first two lines `---` is not valid YAML",
        hint="correct it; https://huggingface.co/docs/hub/model-cards shows its form",
    )
