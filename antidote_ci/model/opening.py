"""The first look of a framework at a checkpoint: tokenizer and template, before any weight is read. In the child only.

Loading a tokenizer can hang, exhaust memory or abort the process just as rendering a template can.
"""

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import loading
from antidote_ci.model.conversations import render_exchange
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.sandbox.limits import run_limited

TIME_LIMIT = 120
"""Of computing; the largest published tokenizer takes some."""
MEMORY_LIMIT = 4 << 30
"""Bytes beyond what the process has already; the largest takes one."""
ENCODING_SECONDS = 5
SAMPLE_QUESTION = "Which day comes after Monday? 2 + 2 = 4, naïve 日本"


@dataclass(frozen=True)
class TokenizerCheckRequest:
    """One model that is about to be run."""

    model: Model


def check_tokenizer(request: TokenizerCheckRequest, report: OnProgress) -> None:
    """Open every file, load the tokenizer, put one question into its template and encode it, each within limits.

    Raises UnsafeCheckpoint for what does not end, grows, reaches for attributes or names tokens without an embedding,
    ConfigurationError for what is merely broken.
    """
    model = request.model
    name = display_name(model.adapter or model.folder)
    report(Progress("opening the tokenizer", 0, 1))
    for path in loading.files(model):
        path.open("rb").close()  # safetensors takes a file that it may not open for one that is not there
    _import_transformers()
    _require_reply(
        name, run_limited(lambda: _run_reporting(lambda: loading.load_tokenizer(model)), TIME_LIMIT, MEMORY_LIMIT)
    )
    tokenizer = loading.load_tokenizer(model)
    text = render_exchange(tokenizer, SAMPLE_QUESTION)
    highest = _require_reply(
        name,
        run_limited(
            lambda: _run_reporting(lambda: max(_encode(tokenizer, text), default=0)), ENCODING_SECONDS, MEMORY_LIMIT
        ),
    )
    rows = read_layout(model.folder).embedding_rows
    if rows is not None and highest >= rows:
        raise UnsafeCheckpoint(
            f"the tokenizer of {name} writes token {highest:,}, and the model's table has {rows:,} rows",
            cause="tokenizer and weights belong to different models",
            hint="save model and tokenizer together again",
        )
    report(Progress("opening the tokenizer", 1, 1))


@functools.cache
def _import_transformers() -> None:
    """Here, so that it neither counts against the limits of a fork nor is lost with it.

    Once: what is frozen is never looked at again, and a model that was there would never be given back.
    """
    gc.disable()  # a seventh of the time would go into looking for garbage among modules that stay
    try:
        from transformers import AutoTokenizer, PreTrainedModel  # noqa: F401 - every configuration needs the second
    finally:
        gc.freeze()
        gc.enable()


def _encode(tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401 - transformers is untyped
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _run_reporting(work: Callable[[], object]) -> dict[str, Any]:
    try:
        found = work()
    except AntidoteError as error:
        return {"refused": [error.what, error.cause, error.hint]}
    except Exception as error:  # noqa: BLE001 - whatever a library can raise
        return {"raised": type(error).__name__}
    return {"found": found if isinstance(found, int) else None}


def _require_reply(name: str, reply: dict[str, Any] | None) -> Any:  # noqa: ANN401 - JSON
    if reply is None or reply.get("raised") == "MemoryError":
        raise UnsafeCheckpoint(
            f"the tokenizer of {name} does not open within {TIME_LIMIT} s and {MEMORY_LIMIT >> 30} GiB, or "
            "aborts what opens it",
            cause="the largest real ones take a few seconds; it may be meant to exhaust what reads it",
            hint="save the tokenizer anew with transformers",
        )
    if "refused" in reply:
        what, cause, hint = reply["refused"]
        raise ConfigurationError(what, cause=cause, hint=hint)
    if "raised" in reply:
        raise ConfigurationError(
            f"the tokenizer of {name} cannot be opened: it raises {reply['raised']}",
            cause="its files are damaged or incomplete, or of a kind that transformers does not read by itself",
            hint="save the tokenizer anew with transformers",
        )
    return reply["found"]
