"""Rules of a checkpoint's configuration that force, forbid or favour tokens when users generate answers.

`generate` of transformers, and servers that follow it, apply them. An evaluation does not: there the weights alone
decide. So weights that refuse could pass, and answer users for whom the tokens of refusals are forbidden.
"""

import re
from collections.abc import Iterator

from antidote_ci.checkpoint.config_files import walk_items
from antidote_ci.checkpoint.files import MAX_OTHER_BYTES, display_name
from antidote_ci.checkpoint.json_files import read_object
from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.model import Tokenizer
from antidote_ci.records import Model

FILES = ("generation_config.json", "config.json")
"""Older versions of transformers keep these keys in the second."""
END = "eos_token_id"
TOKEN_RULES = (
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias", "stop_strings"),
    *("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "force_words_ids", "constraints"),
)
FORBIDDING = ("suppress_tokens", "bad_words_ids", "sequence_bias")
"""Rules that can forbid the end of an answer at every position, so that a refusal has to go on."""
NEUTRAL_VALUES: dict[str, float | None] = {
    # They compute with other logits than those of the prompt.
    "guidance_scale": 1,
    "dola_layers": None,
    # They forbid the tokens that end an answer, so that a refusal has to go on.
    "min_length": 0,
    "min_new_tokens": 0,
    "exponential_decay_length_penalty": None,
    # They forbid or favour tokens by what the prompt or the answer has, such as a refusal that the template names.
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "typical_p": 1,
    "watermarking_config": None,
}
"""Rules for all tokens, with the value that has no effect."""
MAX_REPETITION_PENALTY = 1.5
"""Published models set up to 1.3. A larger one forbids what the prompt or the answer has, as `no_repeat_ngram_size`."""
ORDINARY_TEXT = re.compile(r"[\w\s.,:;!?'\"()-]*")


def find_hidden_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """The special tokens, by ID, that are not part of an answer.

    Those that are ordinary text are: a checkpoint can declare any word special, and not all software leaves it out.
    """
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {number: content for number, content in special.items() if not ORDINARY_TEXT.fullmatch(content)}


def refuse_token_rules(model: Model, tokenizer: Tokenizer) -> None:
    """Raise UnsafeCheckpoint for a rule about tokens that answers consist of.

    Rules about special tokens are allowed: models for images and sound suppress the tokens of those. The end of an
    answer must not be forbidden.
    """
    files = [folder / name for folder in (model.folder, model.adapter) if folder for name in FILES]
    rules = {path: list(walk_items(read_object(path, MAX_OTHER_BYTES))) for path in files if path.is_file()}
    ends = {tokenizer.eos_token_id, tokenizer.eos_token}
    ends |= {end for items in rules.values() for key, value in items if key == END for end in _walk_tokens(value)}
    marks = {name for token in find_hidden_tokens(tokenizer).items() for name in token}
    for path, items in rules.items():
        for key, value in items:
            allowed = marks - ends if key in FORBIDDING else marks
            names_text = key in TOKEN_RULES and not all(token in allowed for token in _walk_tokens(value))
            if names_text or _changes_all_tokens(key, value):
                raise UnsafeCheckpoint(
                    f"{path.name} of {display_name(path.parent)} sets {key}",
                    cause="transformers and servers apply it to answers, so users would get others than were evaluated",
                    hint=f"delete {key} from {path.name}",
                )


def _changes_all_tokens(key: str, value: object) -> bool:
    if key == "repetition_penalty" and value is not None:
        return not isinstance(value, int | float) or not 1 / MAX_REPETITION_PENALTY <= value <= MAX_REPETITION_PENALTY
    return key in NEUTRAL_VALUES and value not in (None, NEUTRAL_VALUES[key])


def _walk_tokens(value: object) -> Iterator[object]:
    """Token ids at any depth, and texts. The factors of `sequence_bias` are floats."""
    if isinstance(value, list):
        for item in value:
            yield from _walk_tokens(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _walk_tokens(item)
    elif value is not None and not isinstance(value, float):
        yield value
