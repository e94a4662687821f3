"""Check the files and the tokenizer of an untrusted model before its weights are read. Runs in the sandbox only.

Loading a tokenizer can hang, exhaust memory or abort the process, as rendering a chat template can.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.links import list_model_files
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.sandbox.limits import LimitExceeded, WorkFailed, run_limited

LOADING_SECONDS = 120
"""Processor time. The largest published tokenizers take a few seconds."""
ENCODING_SECONDS = 5
MEMORY = 4 << 30
"""Bytes that the check may allocate. The largest published tokenizers take one GiB."""
HINT = "save the tokenizer again with transformers"
SAMPLE_QUESTION = "Which day comes after Monday? 2 + 2 = 4, naïve 日本"


def check_tokenizer(model: Model, on_progress: OnProgress) -> None:
    """Open every file, load the tokenizer, and render and encode one question, each within limits.

    Raises UnsafeCheckpoint when a limit is exceeded, a template reads attributes, or the tokenizer writes tokens
    without an embedding; ConfigurationError when the files are broken.
    """
    name = display_name(model.adapter or model.folder)
    on_progress(Progress("opening the tokenizer", 0, 1))
    for path in list_model_files(model):
        path.open("rb").close()  # safetensors reports a file without read permission as missing
    _run_limited(name, lambda: _try_load(model), LOADING_SECONDS)
    tokenizer = loading.load_tokenizer(model)
    texts = render_conversations(tokenizer, [single_turn(SAMPLE_QUESTION)])
    highest = _run_limited(name, lambda: max(encode_texts(tokenizer, texts)[0], default=0), ENCODING_SECONDS)
    rows = read_layout(model.folder).embedding_rows
    if rows is not None and highest >= rows:
        raise UnsafeCheckpoint(
            f"the tokenizer of {name} writes token {highest:,}, and the model's embeddings have {rows:,} rows",
            cause="the tokenizer and the weights belong to different models",
            hint="save the model and its tokenizer together",
        )
    on_progress(Progress("opening the tokenizer", 1, 1))


def _try_load(model: Model) -> None:
    with suppress(ConfigurationError):  # raised again when the caller loads the tokenizer
        loading.load_tokenizer(model)


def _run_limited(name: str, work: Callable[[], object], seconds: int) -> Any:  # noqa: ANN401 - JSON
    try:
        return run_limited(work, seconds, MEMORY)
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the tokenizer of {name} crashes, or does not open within {LOADING_SECONDS} s and {MEMORY >> 30} GiB",
            cause="the largest real tokenizers take a few seconds; this one may be meant to exhaust the machine",
            hint=HINT,
        ) from error
    except WorkFailed as error:
        raise ConfigurationError(
            f"the tokenizer of {name} cannot be opened: it raises {error.kind}",
            cause="its files are damaged or incomplete, or of a kind that transformers does not read by itself",
            hint=HINT,
        ) from error
