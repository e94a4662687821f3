"""Checks of the vocabulary: every token has one ID, and the embedding has a row for it.

A tokenizer that assigns a token another ID makes the same weights read and write different text.
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint import tokenizer_parts
from antidote_ci.checkpoint.budget import Budget
from antidote_ci.checkpoint.files import MAX_BYTES
from antidote_ci.checkpoint.headers import MAX_DIGITS, TensorInfo
from antidote_ci.checkpoint.json_files import count_values, read_object
from antidote_ci.errors import UnsafeCheckpoint

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
VOCABULARY = "vocab.json"
ADDED = "added_tokens.json"

KINDS = ("BPE", "Unigram", "WordPiece", "WordLevel")
MAX_TOKENS = 2_000_000
MAX_ROWS = 1 << 24
"""Rows of any embedding."""
MAX_MERGES = 4_000_000
MAX_ADDED_TOKENS = 100_000
"""Each one is searched for in every text. Speech models add sixty thousand."""
MAX_CHARACTERS = 4_000
"""Characters of one token. The longest real ones are runs of some hundred spaces."""
SPARE_TOKENS = 64
"""IDs behind the embedding that an added token may have. Small Gemma models list an image token they cannot read."""

EMBEDDING_NAMES = (
    *("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"),
    *("embeddings", "embedding", "shared"),
)
"""Names of the token embedding in the architectures of transformers."""

_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}")


@dataclass(frozen=True)
class Vocabulary:
    """The token IDs in one file."""

    file: str
    ordinary: Mapping[str, int]
    added: Mapping[str, int]
    """Added tokens. Some are ordinary ones, too, with the same ID."""
    values: int = 0
    """The number of JSON values of the file."""

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Token -> ID, of all tokens."""
        return {**self.ordinary, **self.added}

    @functools.cached_property
    def tokens(self) -> dict[int, str]:
        """ID -> token."""
        return {token_id: token for token, token_id in self.ids.items()}


def require_valid_tokenizer(
    folder: Path,
    names: list[str],
    settings: Mapping[str, Mapping[str, object]],
    rows: int | None,
    budget: Budget | None = None,
) -> None:
    """Raise UnsafeCheckpoint unless every token of the checkpoint in `folder` has one ID and a row of the embedding.

    `settings` holds the parsed configuration files by name; `rows` is None when the embedding is in another checkpoint.
    """
    vocabulary = read_vocabulary(folder, names) or Vocabulary(SETTINGS, {}, {})
    if budget is not None:
        budget.charge(vocabulary.file, "JSON values", vocabulary.values)
    if TOKENIZER in names and VOCABULARY in names:
        _require_consistent_ids(VOCABULARY, _read_token_ids(folder / VOCABULARY, budget), vocabulary)
    for file, added in _added_tokens_elsewhere(settings):
        _require_consistent_ids(file, added, vocabulary)
        _require_rows(file, added, rows, SPARE_TOKENS)
    require_embedding_rows(vocabulary, rows)


def require_embedding_rows(vocabulary: Vocabulary, rows: int | None) -> None:
    """Raise UnsafeCheckpoint for a token ID without a row; added tokens may exceed the rows by SPARE_TOKENS."""
    _require_rows(vocabulary.file, vocabulary.ordinary, rows, 0)
    _require_rows(vocabulary.file, vocabulary.added, rows, SPARE_TOKENS)


def embedding_rows(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> int | None:
    """Return the rows of the token embedding among `tensors`, else the `vocab_size` of the configuration."""
    rows = [info.shape[0] for name, info in tensors.items() if len(info.shape) == 2 and is_embedding(name)]
    text_config = config.get("text_config")
    nested_size = text_config.get("vocab_size") if isinstance(text_config, dict) else None
    configured = config.get("vocab_size", nested_size)
    size = configured if type(configured) is int else None
    # Some models have further embeddings, of positions or layers.
    return size if size in rows else max(rows, default=size)


def is_embedding(name: str) -> bool:
    """Return whether a tensor of this name is a token embedding [rows, columns]."""
    *_, module, kind = ["", *name.split(".")]
    return kind == "weight" and module in EMBEDDING_NAMES


def read_vocabulary(folder: Path, names: list[str]) -> Vocabulary | None:
    """Read tokenizer.json, else vocab.json; return None when both are missing."""
    for name, read in ((TOKENIZER, _read_tokenizer_json), (VOCABULARY, _read_vocab_json)):
        if name in names:
            state = (folder / name).stat()
            return read(folder / name, state.st_size, state.st_mtime_ns)
    return None


@functools.lru_cache(maxsize=4)
def _read_vocab_json(path: Path, _size: int, _modified: int) -> Vocabulary:
    ids = _read_token_ids(path)
    return Vocabulary(VOCABULARY, ids, {}, values=2 * len(ids))


@functools.lru_cache(maxsize=4)
def _read_tokenizer_json(path: Path, _size: int, _modified: int) -> Vocabulary:
    # Cached: a run reads the same large file many times.
    data = read_object(path, MAX_BYTES[TOKENIZER])
    model = data.get("model")
    if not isinstance(model, dict):
        raise _tokenizer_error(TOKENIZER, "has no model")
    # Older versions of tokenizers omit the type.
    if model.get("type") not in (None, *KINDS):
        raise _tokenizer_error(TOKENIZER, f"has a model of the unknown kind {model['type']!r:.60}")
    problem = tokenizer_parts.find_problem(data)
    if problem is not None:
        raise _tokenizer_error(TOKENIZER, problem)
    merges = model.get("merges") or []
    if not isinstance(merges, list) or len(merges) > MAX_MERGES:
        raise _tokenizer_error(TOKENIZER, f"has merges that are not a list of at most {MAX_MERGES:,}")
    vocab = model.get("vocab")
    ordinary = _ids_by_position(vocab) if isinstance(vocab, list) else _check_token_ids(TOKENIZER, vocab)
    values = count_values(path.read_bytes())
    vocabulary = Vocabulary(TOKENIZER, ordinary, _read_added_tokens(data.get("added_tokens") or []), values)
    _require_consistent_ids(TOKENIZER, vocabulary.added, Vocabulary(TOKENIZER, ordinary, {}))
    return vocabulary


def _read_token_ids(path: Path, budget: Budget | None = None) -> dict[str, int]:
    return _check_token_ids(path.name, read_object(path, MAX_BYTES[VOCABULARY], budget=budget))


def _check_token_ids(file: str, ids: object) -> dict[str, int]:
    """Return a mapping of tokens to IDs, each of which is a natural number and unique."""
    if not isinstance(ids, dict) or len(ids) > MAX_TOKENS:
        raise _tokenizer_error(file, f"has a vocabulary that is not an object of at most {MAX_TOKENS:,} tokens")
    for token, token_id in ids.items():
        if type(token_id) is not int or not 0 <= token_id < MAX_ROWS:
            raise _tokenizer_error(
                file, f"gives {token!r:.60} the ID {token_id!r:.60}, which is not a row of the embeddings"
            )
    if len(set(ids.values())) < len(ids):
        seen: dict[int, str] = {}
        for token, token_id in ids.items():
            if token_id in seen:
                raise _tokenizer_error(file, f"gives both {seen[token_id]!r:.60} and {token!r:.60} the ID {token_id:,}")
            seen[token_id] = token
    if len(max(ids, key=len, default="")) > MAX_CHARACTERS:
        raise _tokenizer_error(file, f"has a token of more than {MAX_CHARACTERS:,} characters")
    return ids


def _ids_by_position(pieces: list[object]) -> dict[str, int]:
    """Return the tokens of a list of [token, score]: the ID of a token is its position."""
    ids: dict[str, int] = {}
    for position, piece in enumerate(pieces):
        match piece:
            case [str() as token, int() | float() as score] if math.isfinite(score):
                if token in ids:
                    raise _tokenizer_error(
                        TOKENIZER, f"lists {token!r:.60} twice, as {ids[token]:,} and as {position:,}"
                    )
                ids[token] = position
            case _:
                raise _tokenizer_error(
                    TOKENIZER, f"has no token with a finite score at position {position:,}: {piece!r:.60}"
                )
    return _check_token_ids(TOKENIZER, ids)


def _read_added_tokens(entries: object) -> dict[str, int]:
    if not isinstance(entries, list) or len(entries) > MAX_ADDED_TOKENS:
        raise _tokenizer_error(TOKENIZER, f"has added_tokens that are not a list of at most {MAX_ADDED_TOKENS:,}")
    ids: dict[str, object] = {}
    for entry in entries:
        token = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(token, str):
            raise _tokenizer_error(TOKENIZER, f"has an added token without content: {entry!r:.60}")
        if ids.setdefault(token, entry.get("id")) != entry.get("id"):
            raise _tokenizer_error(TOKENIZER, f"adds {token!r:.60} twice, with two IDs")
    return _check_token_ids(TOKENIZER, ids)


def _added_tokens_elsewhere(settings: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the added tokens in tokenizer_config.json and in added_tokens.json."""
    decoder = settings.get(SETTINGS, {}).get("added_tokens_decoder") or {}
    ids: dict[str, object] = {}
    for digits, entry in decoder.items() if isinstance(decoder, dict) else ():
        token = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(token, str) or not _NUMBER.fullmatch(digits):
            raise _tokenizer_error(SETTINGS, f"has an invalid added token: {digits!r:.60}")
        if ids.setdefault(token, int(digits)) != int(digits):
            raise _tokenizer_error(SETTINGS, f"adds {token!r:.60} twice, with two IDs")
    yield SETTINGS, _check_token_ids(SETTINGS, ids)
    yield ADDED, _check_token_ids(ADDED, dict(settings.get(ADDED, {})))


def _require_consistent_ids(file: str, ids: Mapping[str, int], vocabulary: Vocabulary) -> None:
    """Raise UnsafeCheckpoint when `file` and `vocabulary` give one token two IDs, or one ID to two tokens."""
    for token, token_id in ids.items():
        if vocabulary.ids.get(token, token_id) != token_id:
            other = vocabulary.ids[token]
            raise _tokenizer_error(file, f"gives {token!r:.60} the ID {token_id:,}, and {vocabulary.file} {other:,}")
        if vocabulary.tokens.get(token_id, token) != token:
            raise _tokenizer_error(
                file,
                f"gives the ID {token_id:,} to {token!r:.60}, and {vocabulary.file} to "
                f"{vocabulary.tokens[token_id]!r:.60}",
            )


def _require_rows(file: str, ids: Mapping[str, int], rows: int | None, spare: int) -> None:
    token = max(ids, key=ids.__getitem__, default=None)
    if token is not None and rows is not None and ids[token] >= rows + spare:
        raise _tokenizer_error(file, f"gives {token!r:.60} the ID {ids[token]:,}, and the embedding has {rows:,} rows")


def _tokenizer_error(file: str, problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{file} {problem}",
        cause="the file is damaged, or crafted so that tokens mean something else to the same weights",
        hint="save the tokenizer again with transformers, from the model it was trained with",
    )
