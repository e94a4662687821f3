"""The front matter of a model card."""

import re
from pathlib import Path

from antidote_ci.checkpoint.files import listing
from antidote_ci.errors import ConfigurationError

CARD = "README.md"
MAX_BYTES = 4 << 20

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(?P<yaml>.*?)(?:^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)


def front_matter(text: str) -> tuple[dict[str, object], str]:
    """The card's YAML front matter and the text after it; an empty one where the card has none.

    Raises ConfigurationError when it is no YAML mapping.
    """
    import yaml

    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        data = yaml.safe_load(match["yaml"])
    # Beside its own errors the parser lets those of dates and numbers through, and nests as deep as it is led.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise _broken(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise _broken("it is not a mapping of names to values")
    return {str(key): value for key, value in data.items()}, text[match.end() :]


def base_model(folder: Path) -> str | None:
    """The one `base_model` that the card in `folder` names; None when it names none, or several (a merge).

    Raises ConfigurationError for a card that cannot be read.
    """
    named = base_models(folder)
    return named[0] if len(named) == 1 else None


def base_models(folder: Path) -> list[str]:
    """All that the card names. Raises ConfigurationError for a card that cannot be read."""
    if CARD not in listing(folder):
        return []
    with (folder / CARD).open("rb") as file:
        data = file.read(MAX_BYTES)
    named = front_matter(data.decode("utf-8", errors="replace"))[0].get("base_model")
    each = named if isinstance(named, list) else [named]
    return [name.strip() for name in each if isinstance(name, str) and name.strip()]


def _broken(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the front matter of {CARD} is broken: {why}",
        cause="the block between the first two lines `---` is not valid YAML",
        hint="correct it; https://huggingface.co/docs/hub/model-cards shows its form",
    )
