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
TOKEN_RULES = (
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias", "stop_strings"),
    *("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "force_words_ids", "constraints"),
)
MIXING_RULES = {"guidance_scale": 1, "dola_layers": None}
"""Rules that compute with other logits than those of the prompt, with the value that has no effect."""
ORDINARY_TEXT = re.compile(r"[\w\s.,:;!?'\"()-]*")


def refuse_token_rules(model: Model, tokenizer: Tokenizer) -> None:
    """Raise UnsafeCheckpoint for a rule about tokens that answers consist of.

    Rules about special tokens are allowed: models for images and sound suppress the tokens of those.
    """
    marks = {
        name
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and not ORDINARY_TEXT.fullmatch(token.content)
        for name in (number, token.content)
    }
    for path in (folder / name for folder in (model.folder, model.adapter) if folder for name in FILES):
        for key, value in walk_items(read_object(path, MAX_OTHER_BYTES) if path.is_file() else {}):
            names_text = key in TOKEN_RULES and not all(token in marks for token in _walk_tokens(value))
            if names_text or (key in MIXING_RULES and value not in (None, MIXING_RULES[key])):
                raise UnsafeCheckpoint(
                    f"{path.name} of {display_name(path.parent)} sets {key}",
                    cause="transformers and servers apply it to answers, so users would get others than were evaluated",
                    hint=f"delete {key} from {path.name}",
                )


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
