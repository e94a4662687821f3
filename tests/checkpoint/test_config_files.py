"""The list of types that transformers can build, and the detection of exponential regular expressions."""

import json

import pytest

from antidote_ci.checkpoint.config_files import has_nested_repeat
from antidote_ci.checkpoint.model_types import TYPES_FILE, supported_types
from scripts.model_types import installed


def test_list_matches_the_installed_transformers() -> None:
    assert json.loads(TYPES_FILE.read_bytes()) == installed(), (
        "run python -m scripts.model_types, and look at what changed"
    )


def test_lists_of_types_are_consistent() -> None:
    assert supported_types().heads.keys() == {"ForCausalLM", "ForSequenceClassification"}
    for head, built in supported_types().heads.items():
        assert built["llama"] == f"Llama{head}"
        assert built.keys() <= supported_types().model_types
        assert set(built.values()) <= supported_types().architectures


def test_tokenizer_classes_exclude_models_and_auto_classes() -> None:
    assert {"LlamaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"} <= supported_types().tokenizers
    assert not supported_types().tokenizers & supported_types().architectures
    assert not {"AutoTokenizer", "AutoModel", "RagTokenizer"} & supported_types().tokenizers


REAL = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n/]*|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"(?=(\d{3})+(?!\d))",
    r"<\|startoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:mlp))",
    "",
    "(",
    ")+",
    "[",
]


@pytest.mark.parametrize("pattern", REAL)
def test_real_patterns_have_no_nested_repeat(pattern: str) -> None:
    assert not has_nested_repeat(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(?:a*)*",
        "((a|b)+c)*",
        r"(\w+\s?)+$",
        "(x+x+)+y",
        "(a{1,}){2,}",
        "([^a]+)*",
        "[[](a+)+",
        r"\((a+)+",
        "((a+)(b))+",
    ],
)
def test_nested_repeats_are_detected(pattern: str) -> None:
    assert has_nested_repeat(pattern)


@pytest.mark.parametrize("pattern", [r"\(a+\)+", "[(a+)+]", "(a+)?", "(a+){3}", "(ab)+"])
def test_escaped_or_bounded_repeats_are_not_nested(pattern: str) -> None:
    assert not has_nested_repeat(pattern)
