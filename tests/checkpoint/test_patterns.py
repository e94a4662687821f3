"""Expressions that may not end, told from those that real tokenizers and adapters carry."""

import pytest

from antidote_ci.checkpoint.config_files import has_nested_repeat

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
def test_real_expressions_end(pattern: str) -> None:
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
def test_nested_repetitions_do_not(pattern: str) -> None:
    assert has_nested_repeat(pattern)


@pytest.mark.parametrize("pattern", [r"\(a+\)+", "[(a+)+]", "(a+)?", "(a+){3}", "(ab)+"])
def test_what_only_looks_like_one_ends(pattern: str) -> None:
    assert not has_nested_repeat(pattern)
