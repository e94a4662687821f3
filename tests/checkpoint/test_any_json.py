"""Any JSON in a configuration file is accepted, or refused with an error of antidote-ci."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import AntidoteError

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.just(2**70) | st.floats(-1, 1) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "id", "content"]), inner),
    max_leaves=6,
)
PLACES: dict[str, tuple[str, Callable[[object], dict[str, object]]]] = {
    "added tokens": ("tokenizer.json", lambda value: {"added_tokens": value}),
    "an added token": ("tokenizer.json", lambda value: {"added_tokens": [value]}),
    "its model": ("tokenizer.json", lambda value: {"model": value}),
    "the vocabulary": ("tokenizer.json", lambda value: {"model": {"type": "BPE", "vocab": value, "merges": []}}),
    "the decoder of tokens": ("tokenizer_config.json", lambda value: {"added_tokens_decoder": value}),
    "a decoded token": ("tokenizer_config.json", lambda value: {"added_tokens_decoder": {"0": value}}),
    "the template": ("tokenizer_config.json", lambda value: {"chat_template": value}),
    "the size": ("config.json", lambda value: {"vocab_size": value}),
    "the quantisation": ("config.json", lambda value: {"quantization_config": value}),
    "the architectures": ("config.json", lambda value: {"architectures": value}),
}


@pytest.mark.parametrize("place", PLACES)
@given(value=VALUES)
@example(value="x")
@example(value=["x"])
@example(value={"0": "x"})
@settings(max_examples=20)
def test_any_json_is_accepted_or_refused_with_a_known_error(
    place: str, value: object, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path_factory.mktemp("json") / "model")
    name, put = PLACES[place]
    content: dict[str, Any] = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | put(value)))
    with contextlib.suppress(AntidoteError):
        assert read_layout(folder).kind == "full"
