"""The models and tokenizers that transformers itself can build, from the list that `scripts/model_types.py` writes.

A type that is not on the list could only run with code from a repository.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

TYPES_FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class SupportedTypes:
    """Names as they appear in configuration files."""

    transformers: str
    """The version of transformers that the list is from."""
    model_types: frozenset[str]
    architectures: frozenset[str]
    heads: dict[str, dict[str, str]]
    """For each head: model type -> the architecture that transformers builds."""
    tokenizers: frozenset[str]
    """Class names without the suffix `Fast`."""
    quantisations: frozenset[str]


@functools.cache
def supported_types() -> SupportedTypes:
    """Read the list."""
    data = json.loads(TYPES_FILE.read_bytes())
    names = {key: frozenset(data[key]) for key in ("model_types", "architectures", "tokenizers", "quantisations")}
    return SupportedTypes(transformers=data["transformers"], heads=data["heads"], **names)
