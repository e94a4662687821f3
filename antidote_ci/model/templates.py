"""A stranger's chat template, rendered where it can do no harm.

transformers renders it in a sandbox, which keeps it from our objects but not from `9**(9**9)` or from loops inside
loops. So it runs in a process of its own, forked for the purpose, that has so much time, memory and output.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint

SECONDS = 30
"""Of computing, for all conversations of a request; a thousand take one."""
MEMORY = 1 << 30
"""Bytes beyond what the process has already."""
CHARACTERS = 100_000
"""That a template may add to one conversation; a long system prompt has ten thousand."""

Chat = Sequence[Mapping[str, Any]]


def render(tokenizer: Any, chats: Sequence[Chat], add_generation_prompt: bool, seconds: int = SECONDS) -> list[str]:  # noqa: ANN401
    """Each chat in the tokenizer's template.

    Raises ConfigurationError when the template raises, UnsafeCheckpoint when it does not end or grows without bounds.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Not multiprocessing's Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            _serve(sender, tokenizer, chats, add_generation_prompt, seconds)
        finally:
            os._exit(0)
    sender.close()
    reply: dict[str, Any] = {}
    try:
        # A template cannot sleep: its own limit ends it long before, however busy the machine.
        if receiver.poll(10 * seconds):
            reply = json.loads(receiver.recv_bytes())
    except EOFError:
        pass  # ended by a limit
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        receiver.close()
    if "texts" not in reply:
        raise _refusal(Path(tokenizer.name_or_path).name, reply.get("raised"), seconds)
    texts: list[str] = reply["texts"]
    return texts


def _refusal(model: str, raised: str | None, seconds: int) -> AntidoteError:
    # The error's own text may be the template's: a stranger's words.
    if raised:
        return ConfigurationError(
            f"the chat template of {model} cannot be used: it raises {raised}",
            cause="it has a mistake, or refuses a conversation of one question",
            hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    return UnsafeCheckpoint(
        f"the chat template of {model} does not end within {seconds} s, {MEMORY >> 20:,} MiB and "
        f"{CHARACTERS:,} characters",
        cause="real templates take a millisecond; it may be meant to exhaust what renders it",
        hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
    )


def _serve(sender: Connection, tokenizer: Any, chats: Sequence[Chat], open_answer: bool, seconds: int) -> None:  # noqa: ANN401
    if sys.platform == "linux":
        limit = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sender.send_bytes(json.dumps(_reply(tokenizer, chats, open_answer)).encode())


def _reply(tokenizer: Any, chats: Sequence[Chat], open_answer: bool) -> dict[str, Any]:  # noqa: ANN401
    texts = []
    try:
        for chat in chats:
            text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=open_answer)
            if len(text) > len(json.dumps(list(chat))) + CHARACTERS:
                return {}
            texts.append(text)
    except (MemoryError, RecursionError):
        return {}
    except Exception as error:  # noqa: BLE001 - whatever a template can raise
        return {"raised": type(error).__name__}
    return {"texts": texts}


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
