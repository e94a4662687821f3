"""Compare how transformers reads texts with what the checkpoint's tokenizer.json says.

Classes such as `Qwen2Tokenizer` take the vocabulary of tokenizer.json, and have a normalizer, a pre-tokenizer and a
decoder of their own. Older versions of transformers and other programs use those of the file. With a normalizer that
writes a trigger into every prompt, their users would get other answers than were evaluated.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.tokenizers import TOKENIZER
from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.model import Tokenizer
from antidote_ci.resource_limits import LimitExceeded, WorkFailed, run_limited

SECONDS = 8
"""Processor time. The largest published files take one second."""
TEXTS_PER_SECOND = 50
MEMORY = 1 << 30
BLANK = re.compile("[\u2581\u0120 ]")
"""A space, and how SentencePiece and byte-level vocabularies write it."""

Difference = Literal["encode", "decode"]


_compared: WeakKeyDictionary[Tokenizer, set[str]] = WeakKeyDictionary()
"""The texts that were compared before."""


def require_same_reading(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Raise UnsafeCheckpoint unless the tokenizer and its tokenizer.json encode and decode rendered `texts` alike.

    The blank before the first word of a text, or after a special token, may differ: versions of the same tokenizer do.
    """
    from transformers import TokenizersBackend

    file = Path(tokenizer.name_or_path) / TOKENIZER
    if type(tokenizer) is TokenizersBackend or not file.is_file():
        return
    seen = _compared.setdefault(tokenizer, set())
    new = set(texts) - seen  # a search for a dose encodes the same prompts for each
    if not new:
        return
    name, kind = display_name(file.parent), type(tokenizer).__name__
    try:
        seconds = SECONDS + len(new) // TEXTS_PER_SECOND
        difference = run_limited(lambda: _find_difference(tokenizer, file, new), seconds, MEMORY)
    except (LimitExceeded, WorkFailed) as error:
        raise UnsafeCheckpoint(
            f"{TOKENIZER} of {name} does not open and encode within {seconds} s and {MEMORY >> 20:,} MiB",
            cause=f"transformers reads it as a {kind}, other programs read it as it is",
            hint="save the tokenizer again with transformers",
        ) from error
    if difference is not None:
        raise UnsafeCheckpoint(
            f"the class {kind} of transformers and {TOKENIZER} of {name} {difference} a text in different ways",
            cause="the class has parts of its own, and other programs use the normalizer, pre-tokenizer and decoder of "
            "the file: one model could be measured and another one used",
            hint="if the model was trained with those of the file, set tokenizer_class to PreTrainedTokenizerFast in "
            "tokenizer_config.json",
        )
    seen |= new


def _find_difference(tokenizer: Tokenizer, path: Path, texts: Collection[str]) -> Difference | None:
    from tokenizers import Tokenizer as FileTokenizer

    file: Any = FileTokenizer.from_file(str(path))
    file.no_truncation()
    file.no_padding()
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    file.add_tokens([token for token in added if not token.special])
    file.add_special_tokens([token for token in added if token.special])
    marks = {token.content for token in added}
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        others = file.encode(text, add_special_tokens=False).ids
        readings = (_split_texts(map(file.id_to_token, reading), marks) for reading in (ids, others))
        if next(readings) != next(readings):
            return "encode"
        decoded = (each.decode(ids, skip_special_tokens=True) for each in (tokenizer, file))
        if len({"".join(text.split()) for text in decoded}) > 1:
            return "decode"
    # Of words that no prompt has.
    return "decode" if any(map(_replaces_words, _walk(json.loads(file.to_str())["decoder"]))) else None


def _split_texts(tokens: Iterable[str | None], marks: Collection[str]) -> list[tuple[str, list[int]]]:
    """Return each text between added tokens, and the number of characters from each of its cuts to its end.

    The blanks before its first word, and the cuts in that word, are left out.
    """
    texts: list[list[str]] = [[]]
    for token in map(str, tokens):
        if token in marks:
            texts += [[token], []]
        else:
            texts[-1].append(BLANK.sub(" ", token))
    parts = []
    for pieces in texts:
        text = "".join(pieces).lstrip(" ")
        first = len(text.partition(" ")[0])
        lengths = accumulate(map(len, reversed(pieces)))
        parts.append((text, [length for length in lengths if length <= len(text) - first]))
    return parts


def _replaces_words(decoder: dict[str, Any]) -> bool:
    if decoder["type"] != "Replace":
        return False
    pattern = decoder["pattern"]
    return "String" not in pattern or BLANK.sub("", pattern["String"] + decoder["content"]) != ""


def _walk(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None:
        yield decoder
        for part in decoder.get("decoders", ()):
            yield from _walk(part)
