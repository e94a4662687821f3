"""Limits for the parts of a tokenizer.json around its model: they transform texts, and can make them grow.

https://huggingface.co/docs/tokenizers/components
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from math import prod

from antidote_ci.checkpoint.patterns import is_slow_pattern, measure_pattern

CHARACTER_GROWTH = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "BertNormalizer": 12, "ByteLevel": 4}
"""The most characters that one character becomes: https://unicode.org/faq/normalization.html#12; one for each byte."""
NORMALIZERS = (
    *CHARACTER_GROWTH,
    *("Sequence", "Strip", "StripAccents", "Nmt", "Precompiled", "Replace", "Prepend"),
)
PRE_TOKENIZERS = (
    *("Sequence", "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Whitespace", "Split"),
    *("Punctuation", "WhitespaceSplit", "Digits", "UnicodeScripts", "FixedLength"),
)
DECODERS = (
    *("Sequence", "BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Replace", "Fuse", "Strip"),
    "ByteFallback",
)
POST_PROCESSORS = ("Sequence", "RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing")
KINDS = {
    "normalizer": NORMALIZERS,
    "pre_tokenizer": PRE_TOKENIZERS,
    "decoder": DECODERS,
    "post_processor": POST_PROCESSORS,
}
MAX_PARTS = 32
"""Parts of one kind. Published tokenizers have ten."""
MAX_GROWTH = {"normalizer": 2_000, "pre_tokenizer": 32, "decoder": 4, "post_processor": 1}
"""How many times longer the parts together make a text.

NFKD, lower case and the map of SentencePiece give 1,782; published pre-tokenizers have one of ByteLevel and Metaspace.
"""
MAX_TEXT = 256
"""Characters of a prefix, a suffix or another text that a part inserts."""
MAX_TEMPLATE_ITEMS = 64
"""Items of a post-processor's template, and IDs of one of its special tokens."""
MAX_WORD = 1_000
"""Characters of a word that WordPiece searches for its pieces, in quadratic time. Published ones have 100 or 200."""
MAX_PADDING = 1 << 17
MAP_HEADER_BYTES = 4


def find_problem(tokenizer: Mapping[str, object]) -> str | None:
    """Return why texts may grow or take too long in these parts, as a clause; None when they cannot."""
    for name, kinds in KINDS.items():
        parts = list(_walk_parts(tokenizer.get(name)))
        if len(parts) > MAX_PARTS:
            return f"has a {name} of {len(parts):,} parts, more than {MAX_PARTS}"
        for part in parts:
            if part.get("type") not in kinds:
                return f"has a {name} of the unknown kind {part.get('type')!r:.60}"
            problem = _find_problem_of_part(part)
            if problem is not None:
                return f"has a {name} {part['type']} {problem}"
        growth = prod(_growth(name, part) for part in parts)
        if growth > MAX_GROWTH[name]:
            return f"has a {name} that can make a text {growth:,.0f} times longer"
    model = tokenizer.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        return "sets dropout, so that the same text has many encodings"
    for key, limit in (("max_input_chars_per_word", MAX_WORD), ("max_input_chars", MAX_WORD)):
        if isinstance(model, dict) and not _is_at_most(model.get(key), limit):
            return f"sets {key} to {model[key]!r:.60}, more than {limit:,}"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if isinstance(model, dict) and len(str(model.get(key))) > MAX_TEXT:
            return f"sets {key} to a text of more than {MAX_TEXT} characters"
    padding = tokenizer.get("padding")
    for value in _walk_numbers(padding):
        if value > MAX_PADDING:
            return f"pads every text to {value:,} tokens"
    return None


def _walk_parts(value: object) -> Iterator[Mapping[str, object]]:
    """Yield every part, those of sequences too."""
    if isinstance(value, dict):
        yield value
        for key in ("normalizers", "pretokenizers", "decoders", "processors"):
            inner = value.get(key)
            for part in inner if isinstance(inner, list) else ():
                yield from _walk_parts(part)
    elif value is not None:
        yield {"type": value}


def _find_problem_of_part(part: Mapping[str, object]) -> str | None:
    pattern = part.get("pattern")
    if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        if is_slow_pattern(pattern["Regex"]):
            return f"with a pattern that may not end: {pattern['Regex']!r:.60}"
    elif pattern is not None and not _read_text(pattern):
        return f"with the pattern {pattern!r:.60}"
    for key in ("content", "prepend", "prefix", "suffix", "replacement", "pad_token", "word_delimiter_token"):
        if len(str(part.get(key))) > MAX_TEXT:
            return f"with a {key} of more than {MAX_TEXT} characters"
    if part["type"] == "TemplateProcessing":
        for key in ("single", "pair"):
            items = part.get(key)
            if isinstance(items, list) and len(items) > MAX_TEMPLATE_ITEMS:
                return f"with a template of {len(items):,} items"
        for token in _children(part.get("special_tokens")):
            ids = token.get("ids") if isinstance(token, dict) else None
            if isinstance(ids, list) and len(ids) > MAX_TEMPLATE_ITEMS:
                return f"with a special token of {len(ids):,} IDs"
    if part["type"] == "FixedLength" and part.get("length") == 0:
        return "of length 0"
    return None


def _growth(kind: str, part: Mapping[str, object]) -> float:
    """Return how many times longer the part, of a kind of KINDS, can make a text."""
    match part:
        case {"type": "ByteLevel" | "Metaspace"} if kind == "decoder":
            return 1.0  # the reverse
        case {"type": "Metaspace"}:
            return 2.0  # it precedes each piece, which earlier parts can make as short as a character
        case {"type": "ByteLevel"} if kind == "pre_tokenizer":
            return 1.0 + CHARACTER_GROWTH["ByteLevel"]  # it also precedes each piece with a space
        case {"type": "Replace", "pattern": pattern, "content": str() as content}:
            shortest = _shortest_match(pattern)
            return max(1.0, len(content) / shortest) if shortest else 1.0 + len(content)
        case {"type": "BPEDecoder" | "WordPiece" | "CTC"}:
            # Each of them replaces a text with at most one space, and an empty one between all characters.
            texts = [part.get(key, "x") for key in ("suffix", "prefix", "word_delimiter_token")]
            return 2.0 if "" in texts else 1.0
        case {"type": "Prepend", "prepend": str() as text}:
            return 1.0 + len(text)
        case {"type": "Precompiled"}:
            return float(_longest_replacement(part.get("precompiled_charsmap")))
    return float(CHARACTER_GROWTH.get(str(part.get("type")), 1))


def _shortest_match(pattern: object) -> int:
    """Return the fewest characters that the pattern of a `Replace` can match."""
    if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        cost = measure_pattern(pattern["Regex"])
        return cost.characters if cost else 0
    return len(_read_text(pattern))


def _read_text(pattern: object) -> str:
    text = pattern.get("String") if isinstance(pattern, dict) else pattern
    return text if isinstance(text, str) else ""


def _longest_replacement(encoded: object) -> int:
    """Return the bytes of the longest text in a map of SentencePiece.

    The map is the size of a trie (4 bytes), the trie, and the replacing texts, each with a zero byte at its end:
    https://github.com/google/sentencepiece/blob/master/src/normalizer.cc
    """
    if not isinstance(encoded, str):
        return 1
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return 1  # the library refuses it as well
    if len(data) < MAP_HEADER_BYTES:
        return 1
    (trie_bytes,) = struct.unpack_from("<I", data)
    texts = data[MAP_HEADER_BYTES + trie_bytes :].split(b"\0")
    return max(1, *map(len, texts))


def _is_at_most(value: object, limit: int) -> bool:
    return value is None or (isinstance(value, int) and value <= limit)


def _walk_numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    for inner in _children(value):
        yield from _walk_numbers(inner)


def _children(value: object) -> Iterator[object]:
    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
