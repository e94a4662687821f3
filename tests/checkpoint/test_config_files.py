"""The list of types that transformers can build."""

import json

from antidote_ci.checkpoint.config_files import TYPES_FILE, supported_types
from scripts.model_types import installed


def test_list_matches_the_installed_transformers() -> None:
    assert json.loads(TYPES_FILE.read_bytes()) == installed(), (
        "run python -m scripts.model_types, and look at what changed"
    )


def test_lists_of_types_are_consistent() -> None:
    built = supported_types().causal_models
    assert built["llama"] == "LlamaForCausalLM"
    assert built.keys() <= supported_types().model_types
    assert set(built.values()) <= supported_types().architectures


def test_tokenizer_classes_exclude_models_and_auto_classes() -> None:
    assert {"LlamaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"} <= supported_types().tokenizers
    assert not supported_types().tokenizers & supported_types().architectures
    assert not {"AutoTokenizer", "AutoModel", "RagTokenizer"} & supported_types().tokenizers
