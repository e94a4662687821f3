"""Text of the evaluated model, made unable to speak to the judge. Pure.

Three things are broken, readably: reserved tokens, which would open or close a turn of the judge's own prompt; verdict
markers, which a judge might repeat as its own; role and fence markers of the judges' templates. They are looked for in
a folded shadow of the text (NFKC, without invisible characters), so that full-width letters and zero-width spaces hide
nothing. Letters of other scripts that only look alike are left: no tokenizer takes them for a token, and no parser for
a verdict. What is not broken stays as it was, character by character.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.checkpoint.layout import MAX_BYTES, MAX_CONFIG_BYTES
from antidote_ci.evaluation.judges.interface import Exchange

RESERVED = (
    r"<\||\|>|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|PAD|UNK|CLS|SEP|MASK|BOS|EOS)\]"
    r"|</?(?:s|pad|unk|bos|eos|cls|sep|mask|think|thinking|answer|guardian|score|system|user|assistant|human|model"
    r"|tool_(?:call|response)|(?:start|end)_of_(?:turn|image)|(?:begin|end)_of_text|unused\d+|0x[0-9a-f]{2})>"
)
"""Of the families of chat models that there are, whichever of them the judge belongs to."""
ROLES = r"\b(?:USER|ASSISTANT|AGENT|SYSTEM|HUMAN)\s*:|(?im:^[^\S\n]*(?:user|assistant|agent|system|human)\s*:)"
FENCES = r"\b(?:BEGIN(?:NING)?|END)(?: OF)?(?: [A-Z]+){0,3} (?:CONVERSATION|POLICY|CATEGORIES)\b"
VERDICTS = (
    r"(?i:\b(?:safety|refusal|categories|verdict|judge?ment|assessment)\b[\s*_]*[:=][\s*_]*"
    r"(?:safe|unsafe|controversial|yes|no|none)\b)"
)
LINES = r"(?im:^[^\S\n]*(?:safe|unsafe|S\d{1,2}(?:\s*,\s*S\d{1,2})*)[^\S\n]*[.!]?[^\S\n]*$|\b(?:safe|unsafe)[^\S\n]*$)"
"""Llama Guard's verdict is one word, so the word is quoted wherever it ends a line."""

LINE_ENDS = "\r\v\f\x85\u2028\u2029"
INVISIBLE_MARKS = "\u034f\u115f\u1160\u3164\uffa0"


def clean_exchange(exchange: Exchange, tokens: Collection[str] = ()) -> Exchange:
    """The exchange with both its texts cleaned. `tokens` are those of the judge's own tokenizer."""
    return Exchange(clean_text(exchange.prompt, tokens), clean_text(exchange.answer, tokens))


def clean_text(text: str, tokens: Collection[str] = ()) -> str:
    """`text` with nothing left in it that is reserved, a verdict, or one of `tokens`. Idempotent."""
    pattern = _compile_pattern(frozenset(tokens))
    while True:
        broken = _break_matches(text, pattern)
        if broken == text:
            return text
        text = broken


def read_special_tokens(folder: Path) -> frozenset[str]:
    """Every token that the tokenizer in `folder` reads as one whole, from its JSON files alone.

    Runs of spaces are tokens of some tokenizers, and harmless.
    """
    found: set[str] = set()
    tokenizer = _read_optional(folder / "tokenizer.json", MAX_BYTES["tokenizer.json"])
    found.update(_token_texts(tokenizer.get("added_tokens")))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        config = _read_optional(folder / name, MAX_CONFIG_BYTES)
        found.update(_token_texts(config.get("added_tokens_decoder")))
        for key, value in config.items():
            if key.endswith(("_token", "_special_tokens")):
                found.update(_token_texts(value))
    found.update(_read_optional(folder / "added_tokens.json", MAX_CONFIG_BYTES))
    return frozenset(token for token in found if token.strip())


def _read_optional(path: Path, max_bytes: int) -> dict[str, object]:
    return read_object(path, max_bytes) if path.is_file() else {}


def _token_texts(value: object) -> list[str]:
    """The texts of tokens, however a tokenizer's files list them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for each in value for text in _token_texts(each)]
    if isinstance(value, dict):
        return _token_texts(value["content"]) if "content" in value else _token_texts(list(value.values()))
    return []


@lru_cache(maxsize=16)
def _compile_pattern(tokens: frozenset[str]) -> re.Pattern[str]:
    reserved = re.compile(RESERVED, re.IGNORECASE)
    folded = {_fold_text(token)[0] for token in tokens}
    own = sorted(
        (token for token in folded if _is_breakable(token) and not reserved.search(token)), key=len, reverse=True
    )
    token = "|".join([f"(?i:{RESERVED})", *map(re.escape, own)])
    return re.compile(f"(?P<token>{token})|(?P<fence>{FENCES})|(?P<line>{LINES})|(?P<marker>{VERDICTS}|{ROLES})")


def _is_breakable(token: str) -> bool:
    """A single letter cannot be broken."""
    return len(token.strip()) > 1 or (token.strip() != "" and not token.strip().isalnum())


def _break_matches(text: str, pattern: re.Pattern[str]) -> str:
    """One pass. What is put in place of a match has spaces around it, so that it joins nothing into a new one."""
    shadow, origin = _fold_text(text)
    pieces: list[str] = []
    done = 0
    for match in pattern.finditer(shadow):
        start, end = origin[match.start()], origin[match.end() - 1] + 1
        if start >= done:
            pieces += [text[done:start], _break_match(match)]
            done = end
    return "".join([*pieces, text[done:]])


def _break_match(match: re.Match[str]) -> str:
    found = match.group()
    if match.lastgroup == "token":
        words = re.sub(r"[^\w.-]+", " ", found).strip()
        if words == found:
            return f" {words[0]} {words[1:]} "
        return f" {words} " if words else " "
    if match.lastgroup == "line":
        return f'"{found.strip()}"'
    if match.lastgroup == "fence":
        return found.lower()
    return re.sub(r"\s*[:=]", " -", found, count=1)


def _fold_text(text: str) -> tuple[str, range | list[int]]:
    """The text's shadow, and for each of its characters the position in `text` that it came from."""
    if text.isascii() and text.isprintable():
        return text, range(len(text))
    shadow: list[str] = []
    origin: list[int] = []
    for position, character in enumerate(text):
        folded = _fold_character(character)
        shadow.append(folded)
        origin += [position] * len(folded)
    return "".join(shadow), origin


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    if character in "\t\n":
        return character
    if character in LINE_ENDS:
        return "\n"
    category = unicodedata.category(character)
    variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    if category in ("Cf", "Cc") or variation or character in INVISIBLE_MARKS:
        return ""
    return unicodedata.normalize("NFKC", character)
