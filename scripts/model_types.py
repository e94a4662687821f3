"""Writes the list of what transformers itself can build: `python -m scripts.model_types`, after each upgrade of it."""

import json
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint import model_types

HEADS = {
    "ForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "ForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
}
OTHER_FILES = ("AutoTokenizer", "RagTokenizer")
"""Tokenizers that open further folders."""
BACKENDS = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend", "BloomTokenizer", "PreTrainedTokenizer")
"""Of no model, or of one whose own tokenizer is gone; AutoTokenizer knows them by name."""


def installed() -> dict[str, Any]:
    """What the installed transformers knows, from its tables of names: no model is imported."""
    import transformers
    from transformers.models.auto import configuration_auto, modeling_auto
    from transformers.quantizers import auto as quantizers
    from transformers.utils.quantization_config import QuantizationMethod

    tables = [value for name, value in vars(modeling_auto).items() if name.endswith("_NAMES")]
    heads = {head: getattr(modeling_auto, table) for head, table in HEADS.items()}
    return {
        "transformers": transformers.__version__,
        "model_types": sorted(configuration_auto.CONFIG_MAPPING_NAMES),
        "architectures": sorted({name for table in tables for value in table.values() for name in _names(value)}),
        "heads": {
            head: {kind: name for kind, name in sorted(table.items()) if name.endswith(head)}
            for head, table in heads.items()
        },
        "tokenizers": sorted({*_tokenizers(), *BACKENDS} - {*OTHER_FILES}),
        "quantisations": sorted({*quantizers.AUTO_QUANTIZER_MAPPING, *(method.value for method in QuantizationMethod)}),
    }


def _tokenizers() -> set[str]:
    """Without the ending `Fast`, which AutoTokenizer takes or leaves."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    named = {name for name in TOKENIZER_MAPPING_NAMES.values() if name}
    named |= {name for name in dir(transformers) if name.removesuffix("Fast").endswith("Tokenizer")}
    return {name.removesuffix("Fast") for name in named}


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


if __name__ == "__main__":
    Path(model_types.TYPES_FILE).write_text(json.dumps(installed(), indent=0) + "\n")
