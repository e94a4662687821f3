"""Removes prompt injections from the text of the evaluated model before a judge reads it.

Three kinds of text are broken up and stay readable: special tokens, which could open or close a turn in the judge's
prompt; verdict lines, which the judge could repeat; and role and fence markers of the judges' templates. They are
matched in a folded copy of the text (NFKC, without invisible characters), so full-width letters and zero-width spaces
do not hide them. Look-alike letters of other scripts are not folded: no tokenizer maps them to a special token, and no
parser accepts them as a verdict. All other characters stay unchanged.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from antidote_ci.checkpoint.files import MAX_BYTES, MAX_OTHER_BYTES
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.evaluation.judges import Exchange

RESERVED = (
    r"<\||\|>|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|PAD|UNK|CLS|SEP|MASK|BOS|EOS)\]"
    r"|</?(?:s|pad|unk|bos|eos|cls|sep|mask|think|thinking|answer|guardian|score|system|user|assistant|human|model"
    r"|tool_(?:call|response)|(?:start|end)_of_(?:turn|image)|(?:begin|end)_of_text|unused\d+|0x[0-9a-f]{2})>"
)
"""Special tokens of the common chat models, broken for every judge."""
ROLES = r"\b(?:USER|ASSISTANT|AGENT|SYSTEM|HUMAN)\s*:|(?im:^[^\S\n]*(?:user|assistant|agent|system|human)\s*:)"
FENCES = r"\b(?:BEGIN(?:NING)?|END)(?: OF)?(?: [A-Z]+){0,3} (?:CONVERSATION|POLICY|CATEGORIES)\b"
VERDICTS = (
    r"(?i:\b(?:safety|refusal|categories|verdict|judge?ment|assessment)\b[\s*_]*[:=][\s*_]*"
    r"(?:safe|unsafe|controversial|yes|no|none)\b)"
)
LINES = (
    r"(?im:^[^\S\n]*(?:safe|unsafe|S\d{1,2}(?:[^\S\n]*,[^\S\n]*S\d{1,2})*)[^\S\n]*(?:[.!][^\S\n]*)?$"
    r"|\b(?:safe|unsafe)[^\S\n]*$)"
)
"""The verdict of Llama Guard is one word, so the word is quoted wherever it ends a line."""

LINE_ENDS = "\r\v\f\x85\u2028\u2029"
INVISIBLE_MARKS = "\u034f\u115f\u1160\u3164\uffa0"


def clean_exchange(exchange: Exchange, tokens: Collection[str] = ()) -> Exchange:
    """Return the exchange with both texts cleaned; `tokens` are the special tokens of the judge's tokenizer."""
    return Exchange(clean_text(exchange.prompt, tokens), clean_text(exchange.answer, tokens))


def clean_text(text: str, tokens: Collection[str] = ()) -> str:
    """Return `text` without special tokens, verdict lines, markers and `tokens`. Idempotent."""
    pattern = _compile_pattern(frozenset(tokens))
    while True:
        broken = _break_matches(text, pattern)
        if broken == text:
            return text
        text = broken


def read_special_tokens(folder: Path) -> frozenset[str]:
    """Return the special tokens of the tokenizer in `folder`, read from its JSON files, without blank ones.

    Raises UnsafeCheckpoint for a damaged file.
    """
    tokens: set[str] = set()
    tokenizer = _read_optional(folder / "tokenizer.json", MAX_BYTES["tokenizer.json"])
    tokens.update(_token_texts(tokenizer.get("added_tokens")))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        config = _read_optional(folder / name, MAX_OTHER_BYTES)
        tokens.update(_token_texts(config.get("added_tokens_decoder")))
        for key, value in config.items():
            if key.endswith(("_token", "_special_tokens")):
                tokens.update(_token_texts(value))
    tokens.update(_read_optional(folder / "added_tokens.json", MAX_OTHER_BYTES))
    return frozenset(token for token in tokens if token.strip())


def _read_optional(path: Path, max_bytes: int) -> dict[str, object]:
    return read_object(path, max_bytes) if path.is_file() else {}


def _token_texts(value: object) -> list[str]:
    """Return the texts of tokens in any of the forms that tokenizer files use."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _token_texts(item)]
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
    """Whether `token` can be broken up: a single letter or digit cannot."""
    return len(token.strip()) > 1 or (token.strip() != "" and not token.strip().isalnum())


def _break_matches(text: str, pattern: re.Pattern[str]) -> str:
    """Replace each match once. Replacements have spaces around them, so that they form no new match."""
    folded, origin = _fold_text(text)
    pieces: list[str] = []
    done = 0
    for match in pattern.finditer(folded):
        start, end = origin[match.start()], origin[match.end() - 1] + 1
        if start >= done:
            pieces += [text[done:start], _break_match(match)]
            done = end
    return "".join([*pieces, text[done:]])


def _break_match(match: re.Match[str]) -> str:
    text = match.group()
    if match.lastgroup == "token":
        words = re.sub(r"[^\w.-]+", " ", text).strip()
        if words == text:
            return f" {words[0]} {words[1:]} "
        return f" {words} " if words else " "
    if match.lastgroup == "line":
        return f'"{text.strip()}"'
    if match.lastgroup == "fence":
        return text.lower()
    return re.sub(r"\s*[:=]", " -", text, count=1)


def _fold_text(text: str) -> tuple[str, range | list[int]]:
    """Return the folded text, and for each of its characters its position in `text`."""
    if text.isascii() and text.isprintable():
        return text, range(len(text))
    characters: list[str] = []
    origin: list[int] = []
    for position, character in enumerate(text):
        folded = _fold_character(character)
        characters.append(folded)
        origin += [position] * len(folded)
    return "".join(characters), origin


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
