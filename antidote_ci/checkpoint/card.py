"""The YAML front matter of a model card, delimited as the Hub delimits it."""

import re
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import list_files
from antidote_ci.errors import ConfigurationError

CARD = "README.md"
MAX_BYTES = 4 << 20
MAX_KEYS = 10_000

YAML_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Exceptions of PyYAML, besides YAMLError, for hostile scalars and nesting."""

# The rule of the Hub for the bounds of the metadata. A byte order mark may precede it.
_BLOCK = re.compile(
    r"(\ufeff?\s*---(?:\r\n|\r|\n))"
    r"([\s\S]*?)"
    r"((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z))"
)


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
    """Parse YAML with a limit for merge keys. Raises yaml.YAMLError or one of YAML_ERRORS."""
    import yaml

    class Bounded(yaml.SafeLoader):
        """Limits the expansion of merge keys (`<<`): nested ones grow exponentially."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MAX_KEYS:
                raise ValueError(f"one of its mappings has more than {MAX_KEYS:,} names")

    return yaml.load(text, Loader=Bounded)  # noqa: S506 - a SafeLoader


def parse_front_matter(text: str) -> dict[str, object]:
    """Parse the metadata of a card; empty without metadata. Raises ConfigurationError when it is no YAML mapping."""
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
    """Return the `base_model` of the card in `folder`; None when it names none or several (a merge of models).

    Raises ConfigurationError when the card cannot be parsed.
    """
    models = read_base_models(folder)
    return models[0] if len(models) == 1 else None


def read_base_models(folder: Path) -> list[str]:
    """Return every `base_model` that the card names. Raises ConfigurationError when it cannot be parsed."""
    if CARD not in list_files(folder):
        return []
    value = _read_front_matter(folder / CARD).get("base_model")
    names = value if isinstance(value, list) else [value]
    return [name.strip() for name in names if isinstance(name, str) and name.strip()]


def read_licence(card: Path) -> object:
    """Return the `license` of the card; None when it has none or cannot be parsed."""
    try:
        return _read_front_matter(card).get("license")
    except ConfigurationError:
        return None


def _read_front_matter(card: Path) -> dict[str, object]:
    with card.open("rb") as file:
        return parse_front_matter(file.read(MAX_BYTES).decode("utf-8", errors="replace"))


def _card_error(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"the front matter of {CARD} is broken: {problem}",
        cause="the block between the first two lines `---` is not valid YAML",
        hint="correct it; https://huggingface.co/docs/hub/model-cards shows its form",
    )
