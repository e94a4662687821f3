"""The list of what transformers can build is that of the installed one."""

import json

from antidote_ci.checkpoint.model_types import LIST, known
from scripts.model_types import installed


def test_the_list_is_of_the_installed_transformers() -> None:
    assert json.loads(LIST.read_bytes()) == installed(), "run python -m scripts.model_types, and look at what changed"


def test_the_tables_agree_with_one_another() -> None:
    assert known().heads.keys() == {"ForCausalLM", "ForSequenceClassification"}
    for head, built in known().heads.items():
        assert built["llama"] == f"Llama{head}"
        assert built.keys() <= known().model_types
        assert set(built.values()) <= known().architectures


def test_a_tokenizer_is_none_of_the_other_classes() -> None:
    assert {"LlamaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"} <= known().tokenizers
    assert not known().tokenizers & known().architectures
    assert not {"AutoTokenizer", "AutoModel", "RagTokenizer"} & known().tokenizers
