"""Write the list of models that transformers implements: `python -m scripts.model_types`, after each upgrade of it."""

import json
from typing import Any

from antidote_ci.checkpoint.config_files import HEAD, TYPES_FILE

OTHER_FILES = ("AutoTokenizer", "RagTokenizer")
"""Tokenizers that open other folders."""
BACKENDS = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend", "BloomTokenizer", "PreTrainedTokenizer")
"""Tokenizers without a model of their own that AutoTokenizer knows by name."""


def installed() -> dict[str, Any]:
    """Return the names from the tables of the installed transformers, without importing a model."""
    import transformers
    from transformers.models.auto import configuration_auto, modeling_auto
    from transformers.quantizers import auto as quantizers
    from transformers.utils.quantization_config import QuantizationMethod

    tables = [value for name, value in vars(modeling_auto).items() if name.endswith("_NAMES")]
    causal_models = sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items())
    return {
        "transformers": transformers.__version__,
        "model_types": sorted(configuration_auto.CONFIG_MAPPING_NAMES),
        "architectures": sorted({name for table in tables for value in table.values() for name in _names(value)}),
        "causal_models": {kind: name for kind, name in causal_models if name.endswith(HEAD)},
        "tokenizers": sorted({*_tokenizers(), *BACKENDS} - {*OTHER_FILES}),
        "quantisations": sorted({*quantizers.AUTO_QUANTIZER_MAPPING, *(method.value for method in QuantizationMethod)}),
    }


def _tokenizers() -> set[str]:
    """Return the names of all tokenizers without the suffix `Fast`, which AutoTokenizer ignores."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    names = {name for name in TOKENIZER_MAPPING_NAMES.values() if name}
    names |= {name for name in dir(transformers) if name.removesuffix("Fast").endswith("Tokenizer")}
    return {name.removesuffix("Fast") for name in names}


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


if __name__ == "__main__":
    TYPES_FILE.write_text(json.dumps(installed(), indent=0) + "\n")
