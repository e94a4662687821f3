"""Conversations, in the words of a model's own chat template."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from antidote_ci.model import templates


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str | list[dict[str, str]]
    """Text; or parts such as `{"type": "text", "text": ...}`, which some templates of judges want."""


Conversation = list[Message]


def single_turn(prompt: str) -> Conversation:
    """A conversation of one question."""
    return [Message("user", prompt)]


def render_conversations(
    tokenizer: Any,  # noqa: ANN401
    conversations: Sequence[Conversation],
    add_generation_prompt: bool = True,
) -> list[str]:
    """The text of each conversation in the model's own template; raises what `templates.render_template` raises."""
    chats = [[dataclasses.asdict(message) for message in conversation] for conversation in conversations]
    return templates.render_template(tokenizer, chats, add_generation_prompt)


def render_exchange(tokenizer: Any, prompt: str, response: str | None = None) -> str:  # noqa: ANN401
    """The text of one exchange in the model's own template, open for an answer when `response` is None.

    Several are rendered faster by one call of `render_conversations`.
    """
    messages = single_turn(prompt) if response is None else [*single_turn(prompt), Message("assistant", response)]
    return render_conversations(tokenizer, [messages], add_generation_prompt=response is None)[0]


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:  # noqa: ANN401
    """Token ids of rendered texts: the template has written the special tokens."""
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return found
