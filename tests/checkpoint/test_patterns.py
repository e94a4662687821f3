"""Regular expressions of strangers: those of published models are accepted, slow ones refused."""

import time

import pytest
from tokenizers import NormalizedString, Regex

from antidote_ci.checkpoint.patterns import is_slow_pattern

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LOWER, UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + END,
    "Qwen": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + END,
    "DeepSeek-V3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek-V3, scripts": r"[一-龥\u3040-ゟ゠-ヿ]+",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    rf"{CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "thousands": r"(?=(\d{3})+(?!\d))",
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "possessive": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+",
    "intersection": r"[\p{Han}]+|[^\r\n\p{L}]?[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+",
    "spaces": " {2,}",
    "case": r"(?i)[a-z]+[^\p{N}]*|\p{L}+",
    "case of a group": "(?:(?i)a)[ßs]+",
    "nothing": "",
}
SLOW = [
    *("(a+)+$", "(a|a)+$", "(?:a*)*b", r"(\w+\s?)+$", "(x+x+)+y", "(a{1,}){2,}", "(a{1,50}){1,50}b", "(a?){50}b"),
    *("((a|b)+c)*", "([^a]+)*", "[[](a+)+", r"\((a+)+", "((a+)(b))+", "(a+|b){9,}", "(?:a+)++", "()*"),
    *("a*a*a*a*b", "a?" * 20 + "b", "a{2,60}" * 3 + "b", r"(a)\1", r"(?<n>a)\k<n>", r"(a\g<0>)", "(?x) (a+)+"),
    *(r"a\K", r"\y", r"\012", r"\x4", "a\\", "(?i)[ßs]+$", r"(?i)[\p{L}]+$", "(?i)[[:alpha:]]+$", "a|(?i)b|[ßs]+$"),
    *("(?i:(?:[ßs])+)$", "(", ")+", "[", "(?(1)a|b)", "(?~a)", "+a", "[]a](b+)+", "a" * 10_001, "(" * 100 + ")" * 100),
]


@pytest.mark.parametrize("model", PUBLISHED)
def test_pattern_of_a_published_tokenizer_is_accepted(model: str) -> None:
    assert not is_slow_pattern(PUBLISHED[model])


@pytest.mark.parametrize("pattern", SLOW, ids=lambda pattern: pattern[:20])
def test_slow_or_unknown_pattern_is_refused(pattern: str) -> None:
    assert is_slow_pattern(pattern)


@pytest.mark.parametrize("model", PUBLISHED)
def test_accepted_pattern_splits_long_texts_quickly(model: str) -> None:
    began = time.process_time()
    for text in ("a" * 5_000, " " * 5_000, "aA1 \n," * 1_000):
        if PUBLISHED[model]:
            NormalizedString(text).split(Regex(PUBLISHED[model]), "isolated")
    assert time.process_time() - began < 5
