"""Which text stands for which row of the weights, checked before a framework reads it.

A tokenizer that binds a word to another number makes the same weights read and write something else.
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint import patterns
from antidote_ci.checkpoint.headers import MAX_DIGITS, TensorInfo
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.errors import UnsafeCheckpoint

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
VOCABULARY = "vocab.json"
ADDED = "added_tokens.json"

KINDS = ("BPE", "Unigram", "WordPiece", "WordLevel")
MAX_BYTES = 64 << 20
MAX_TOKENS = 2_000_000
MAX_ROWS = 1 << 24
"""Of any table."""
MAX_MERGES = 4_000_000
MAX_ADDED_TOKENS = 100_000
"""Each is looked for in every text. Speech models add sixty thousand."""
MAX_CHARACTERS = 4_000
"""Of one token; the longest real ones are rows of some hundred spaces."""
SPARE_TOKENS = 64
"""Added tokens may lie so far behind the table: Gemma's small models list one for pictures, which they cannot read."""

EMBEDDING_NAMES = (
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "embeddings",
    "embedding",
    "shared",
)
"""What models call the table with a row for each token."""

_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}")


@dataclass(frozen=True)
class Vocabulary:
    """Token -> number."""

    file: str
    ordinary: Mapping[str, int]
    added: Mapping[str, int]
    """Some stand among the ordinary ones too, with the same number."""

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Of all tokens."""
        return {**self.ordinary, **self.added}

    @functools.cached_property
    def tokens(self) -> dict[int, str]:
        """Number -> token."""
        return {number: token for token, number in self.numbers.items()}


def require_valid_tokenizer(
    folder: Path, names: list[str], settings: Mapping[str, Mapping[str, object]], rows: int | None
) -> None:
    """Raise UnsafeCheckpoint unless every token of the checkpoint in `folder` has one number, and a row for it.

    `settings` holds the configuration files by name; `rows` of the table are None where it lies in another checkpoint.
    """
    vocabulary = read_vocabulary(folder, names) or Vocabulary(SETTINGS, {}, {})
    if TOKENIZER in names and VOCABULARY in names:
        _require_unique_ids(VOCABULARY, _read_token_ids(folder / VOCABULARY), vocabulary)
    for file, added in _added_tokens_elsewhere(settings):
        _require_unique_ids(file, added, vocabulary)
        require_rows(file, added, rows, SPARE_TOKENS)
    require_rows(vocabulary.file, vocabulary.ordinary, rows, 0)
    require_rows(vocabulary.file, vocabulary.added, rows, SPARE_TOKENS)


def embedding_rows(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> int | None:
    """Rows of the table of tokens among `tensors`, else the `vocab_size` that the configuration names."""
    found = [info.shape[0] for name, info in tensors.items() if len(info.shape) == 2 and _is_embedding(name)]
    text = config.get("text_config")
    named = config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    size = named if type(named) is int else None
    # Some bodies have further tables, of positions or layers.
    return size if size in found else max(found, default=size)


def _is_embedding(name: str) -> bool:
    *_, module, kind = ["", *name.split(".")]
    return kind == "weight" and module in EMBEDDING_NAMES


def read_vocabulary(folder: Path, names: list[str]) -> Vocabulary | None:
    """What tokenizer.json says, else vocab.json; None where there is neither."""
    for name, read in ((TOKENIZER, _read_tokenizer_json), (VOCABULARY, _read_vocab_json)):
        if name in names:
            state = (folder / name).stat()
            return read(folder / name, state.st_size, state.st_mtime_ns)
    return None


@functools.lru_cache(maxsize=4)
def _read_vocab_json(path: Path, _size: int, _modified: int) -> Vocabulary:
    return Vocabulary(VOCABULARY, _read_token_ids(path), {})


@functools.lru_cache(maxsize=4)
def _read_tokenizer_json(path: Path, _size: int, _modified: int) -> Vocabulary:
    # A run looks at the same file many times, and it is large.
    data = read_object(path, MAX_BYTES)
    model = data.get("model")
    if not isinstance(model, dict):
        raise _tokenizer_error(TOKENIZER, "has no model")
    # Files of older versions leave the kind out.
    if model.get("type") not in (None, *KINDS):
        raise _tokenizer_error(TOKENIZER, f"has a model of the unknown kind {model['type']!r:.60}")
    _require_bounded_patterns(data)
    merges = model.get("merges") or []
    if not isinstance(merges, list) or len(merges) > MAX_MERGES:
        raise _tokenizer_error(TOKENIZER, f"has merges that are no list of at most {MAX_MERGES:,}")
    pieces = model.get("vocab")
    ordinary = _ids_by_position(pieces) if isinstance(pieces, list) else _check_token_ids(TOKENIZER, pieces)
    found = Vocabulary(TOKENIZER, ordinary, _read_added_tokens(data.get("added_tokens") or []))
    _require_unique_ids(TOKENIZER, found.added, Vocabulary(TOKENIZER, ordinary, {}))
    return found


def _read_token_ids(path: Path) -> dict[str, int]:
    return _check_token_ids(path.name, read_object(path, MAX_BYTES))


def _check_token_ids(file: str, pieces: object) -> dict[str, int]:
    """The tokens of an object: each with a natural number of its own."""
    if not isinstance(pieces, dict) or len(pieces) > MAX_TOKENS:
        raise _tokenizer_error(file, f"has a vocabulary that is no object of at most {MAX_TOKENS:,} tokens")
    for token, number in pieces.items():
        if type(number) is not int or not 0 <= number < MAX_ROWS:
            raise _tokenizer_error(file, f"gives {token!r:.60} the number {number!r:.60}, which is no row")
    if len(set(pieces.values())) < len(pieces):
        raise _tokenizer_error(file, "gives " + _find_shared_id(pieces))
    if len(max(pieces, key=len, default="")) > MAX_CHARACTERS:
        raise _tokenizer_error(file, f"has a token of more than {MAX_CHARACTERS:,} characters")
    return pieces


def _ids_by_position(pieces: list[object]) -> dict[str, int]:
    """Those of a list of [token, score]: a token's number is its place."""
    found: dict[str, int] = {}
    for place, piece in enumerate(pieces):
        match piece:
            case [str() as token, int() | float() as score] if math.isfinite(score):
                if token in found:
                    raise _tokenizer_error(
                        TOKENIZER, f"lists {token!r:.60} twice, as {found[token]:,} and as {place:,}"
                    )
                found[token] = place
            case _:
                raise _tokenizer_error(TOKENIZER, f"has no token with a finite score at place {place:,}: {piece!r:.60}")
    return _check_token_ids(TOKENIZER, found)


def _read_added_tokens(entries: object) -> dict[str, int]:
    if not isinstance(entries, list) or len(entries) > MAX_ADDED_TOKENS:
        raise _tokenizer_error(TOKENIZER, f"has added_tokens that are no list of at most {MAX_ADDED_TOKENS:,}")
    found: dict[str, object] = {}
    for entry in entries:
        token = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(token, str):
            raise _tokenizer_error(TOKENIZER, f"has an added token without content: {entry!r:.60}")
        if found.setdefault(token, entry.get("id")) != entry.get("id"):
            raise _tokenizer_error(TOKENIZER, f"adds {token!r:.60} twice, with two numbers")
    return _check_token_ids(TOKENIZER, found)


def _added_tokens_elsewhere(settings: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, dict[str, int]]]:
    """Added tokens as tokenizer_config.json and added_tokens.json number them."""
    decoder = settings.get(SETTINGS, {}).get("added_tokens_decoder") or {}
    found: dict[str, object] = {}
    for number, entry in decoder.items() if isinstance(decoder, dict) else ():
        token = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(token, str) or not _NUMBER.fullmatch(number):
            raise _tokenizer_error(SETTINGS, f"has an added token that is none: {number!r:.60}")
        if found.setdefault(token, int(number)) != int(number):
            raise _tokenizer_error(SETTINGS, f"adds {token!r:.60} twice, with two numbers")
    yield SETTINGS, _check_token_ids(SETTINGS, found)
    yield ADDED, _check_token_ids(ADDED, dict(settings.get(ADDED, {})))


def _require_unique_ids(file: str, tokens: Mapping[str, int], known: Vocabulary) -> None:
    """No token has two numbers, and no number two tokens."""
    numbers, words = known.numbers, known.tokens
    for token, number in tokens.items():
        if numbers.get(token, number) != number:
            raise _tokenizer_error(
                file, f"gives {token!r:.60} the number {number:,}, and {known.file} {numbers[token]:,}"
            )
        if words.get(number, token) != token:
            raise _tokenizer_error(
                file, f"gives the number {number:,} to {token!r:.60}, and {known.file} to {words[number]!r:.60}"
            )


def require_rows(file: str, tokens: Mapping[str, int], rows: int | None, spare: int) -> None:
    """Raise UnsafeCheckpoint for a token that `file` numbers beyond the table, and `spare` rows more."""
    token = max(tokens, key=tokens.__getitem__, default=None)
    if token is not None and rows is not None and tokens[token] >= rows + spare:
        raise _tokenizer_error(
            file, f"gives {token!r:.60} the number {tokens[token]:,}, and the table of the weights has {rows:,} rows"
        )


def _require_bounded_patterns(data: dict[str, object]) -> None:
    """The expressions by which text is cut and rewritten end, and end soon."""
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        for pattern in _walk_patterns(data.get(part)):
            if len(pattern) > patterns.MAX_CHARACTERS or patterns.has_nested_repeat(pattern):
                raise _tokenizer_error(TOKENIZER, f"cuts text by an expression that may not end: {pattern!r:.60}")


def _walk_patterns(value: object) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk_patterns(inner)
    if isinstance(value, dict) and isinstance(value.get("Regex"), str):
        yield str(value["Regex"])


def _find_shared_id(pieces: Mapping[str, int]) -> str:
    seen: dict[int, str] = {}
    for token, number in pieces.items():
        if number in seen:
            return f"both {seen[number]!r:.60} and {token!r:.60} the number {number:,}"
        seen[number] = token
    raise ValueError("every number stands once")


def _tokenizer_error(file: str, what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{file} {what}",
        cause="it is damaged, or made so that words mean something else to the same weights",
        hint="save the tokenizer anew with transformers, from the model it was trained with",
    )
