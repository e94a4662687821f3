"""What transformers itself can build, from a list beside this file that `scripts/model_types.py` writes.

What is not on the list could only run with a repository's own code.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

TYPES_FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class SupportedTypes:
    """Names, as they stand in configuration files."""

    transformers: str
    """The version that knows them."""
    model_types: frozenset[str]
    architectures: frozenset[str]
    """With any head."""
    heads: dict[str, dict[str, str]]
    """Head -> model type -> the architecture that the framework builds for the two."""
    tokenizers: frozenset[str]
    """Classes, without the ending `Fast`."""
    quantisations: frozenset[str]


@functools.cache
def supported_types() -> SupportedTypes:
    """The list."""
    data = json.loads(TYPES_FILE.read_bytes())
    names = {key: frozenset(data[key]) for key in ("model_types", "architectures", "tokenizers", "quantisations")}
    return SupportedTypes(transformers=data["transformers"], heads=data["heads"], **names)
