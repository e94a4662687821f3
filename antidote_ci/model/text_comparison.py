"""Compare the texts of a chat template, so that none can treat the measured prompts differently from all others.

A conversation is rendered with placeholders. Their places give an outline: the template's own text, and where it puts
each message. All conversations with the same roles must have this outline, whatever their messages say. The
placeholders are random, so a template cannot know them. They have many lengths and forms, and some are measured
prompts with other words in them, so a template cannot tell them from prompts by their looks.
"""

import json
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from antidote_ci.resource_limits import LimitExceeded

Chat = Sequence[Mapping[str, Any]]
Render = Callable[[Chat], str]

LEADING, TRAILING = "\n" * 9 + " \t\n", "\n\t " + "\n" * 9
"""White space around the first placeholders. It shows whether a template strips all of it, line feeds only, or none.

A template writes fewer line feeds before a message, so what it writes is not taken for a part of the message.
"""
STRIPPED_LEFT = {LEADING: "", LEADING.lstrip("\n"): "\n", "": None}
STRIPPED_RIGHT = {TRAILING: "", TRAILING.rstrip("\n"): "\n", "": None}
"""White space that is left -> argument of str.lstrip or str.rstrip that leaves it."""
COMMON_WORDS = ("a", "and", "can", "do", "for", "how", "i", "in", "is", "it", "my", "of", "that", "the", "to", "what")
ODD_TEXTS = (
    "'",
    '"',
    "100 %",
    "{x}",
    "<b>",
    "\\n",
    "\t",
    "naïve",
    "日本",
    "`a`",
    "3.14",
    "#",
    "[1]",
    "a/b",
    "\n- ",
    "  ",
)


class TextDecides(Exception):
    """A template renders two texts of the same roles in different ways."""


@dataclass(frozen=True)
class Slot:
    """The place of a message's text in a rendered conversation."""

    position: int
    left: str | None
    right: str | None
    """The characters that the template strips: none for "", all white space for None."""


Outline = list[str | Slot]


def require_same_treatment(render: Render, chats: Sequence[Chat], texts: Sequence[str]) -> None:
    """Raise TextDecides unless each text, and those of placeholders, are the same but for the messages in them.

    A conversation with an answer is represented by its placeholders alone: a model that is evaluated must not be able
    to make its judge's template fail by what it answers.
    """
    measured = [content for chat in chats if not _has_answer(chat) for content in _list_contents(chat)]
    outlines: dict[str, Outline] = {}
    for chat, text in zip(chats, texts, strict=True):
        answered = _has_answer(chat)
        # Whether a prompt is blank is part of its form: templates leave out empty turns.
        form = _replace_contents(chat, (lambda _: "text") if answered else _blank_or_text)
        key = json.dumps(form)
        if key not in outlines:
            outlines[key] = find_outline(render, form, [] if answered else measured)
        if not answered and fill(outlines[key], _list_contents(chat)) != text:
            raise TextDecides


def find_outline(render: Render, chat: Chat, measured: Sequence[str]) -> Outline:
    """Return the outline of a conversation with these roles. Raises TextDecides when it depends on the texts."""
    words = [word[:20] for content in measured for word in content.split()] or list(COMMON_WORDS)
    cores: list[str] = []

    def mark(_content: str) -> str:
        cores.append(_invent_word(20, 30))
        return LEADING + cores[-1] + TRAILING

    outline = _parse_outline(_render_placeholders(render, _replace_nonblank(chat, mark)), cores)
    for write in WRITERS:
        placeholders = _replace_nonblank(chat, partial(_write, write, words, measured))
        if fill(outline, _list_contents(placeholders)) != _render_placeholders(render, placeholders):
            raise TextDecides
    return outline


def fill(outline: Outline, contents: Sequence[str]) -> str:
    """Return the text of an outline with these messages."""
    return "".join(
        piece if isinstance(piece, str) else contents[piece.position].lstrip(piece.left).rstrip(piece.right)
        for piece in outline
    )


def is_template_error(error: Exception) -> bool:
    """Whether a template rejects a conversation, as opposed to a limit or a refused access."""
    from jinja2.exceptions import SecurityError

    return not isinstance(error, LimitExceeded | MemoryError | SecurityError)


def write_text() -> str:
    """A random sentence of common and invented words."""
    return _write_sentence(COMMON_WORDS, ())


def _render_placeholders(render: Render, chat: Chat) -> str:
    try:
        return render(chat)
    except Exception as error:
        if is_template_error(error):  # which a measured conversation with these roles did not raise
            raise TextDecides from error
        raise


def _parse_outline(text: str, cores: Sequence[str]) -> Outline:
    if not cores:
        return [text]
    left, middle, right = ("|".join(map(re.escape, choices)) for choices in (STRIPPED_LEFT, cores, STRIPPED_RIGHT))
    outline: Outline = []
    end = 0
    for match in re.finditer(f"({left})({middle})({right})", text):
        slot = Slot(cores.index(match[2]), STRIPPED_LEFT[match[1]], STRIPPED_RIGHT[match[3]])
        outline += [text[end : match.start()], slot]
        end = match.end()
    return [*outline, text[end:]]


def _has_answer(chat: Chat) -> bool:
    return any(message["role"] == "assistant" for message in chat)


def _blank_or_text(content: str) -> str:
    return "text" if content.strip() else content


def _list_contents(chat: Chat) -> list[str]:
    """The texts of all messages that are not blank, in order."""
    contents: list[str] = []

    def keep(content: str) -> str:
        contents.append(content)
        return content

    _replace_nonblank(chat, keep)
    return contents


def _replace_nonblank(chat: Chat, replace: Callable[[str], str]) -> list[dict[str, Any]]:
    return _replace_contents(chat, lambda content: replace(content) if content.strip() else content)


def _replace_contents(chat: Chat, replace: Callable[[str], str]) -> list[dict[str, Any]]:
    """The chat with other texts. A system message stays: it is the same for all prompts, so a template may read it."""
    replaced = []
    for message in chat:
        content = message["content"]
        if message["role"] == "system":
            pass
        elif isinstance(content, str):
            content = replace(content)
        elif isinstance(content, list):
            content = [{**part, "text": replace(part["text"])} if "text" in part else part for part in content]
        replaced.append({**message, "content": content})
    return replaced


_random = random.SystemRandom()
Write = Callable[[Sequence[str], Sequence[str]], str]


def _write(write: Write, words: Sequence[str], measured: Sequence[str], _content: str) -> str:
    return write(words, measured)


def _invent_word(shortest: int, longest: int) -> str:
    return "".join(_random.choices(string.ascii_lowercase, k=_random.randint(shortest, longest)))


def _write_word(_words: Sequence[str], _measured: Sequence[str]) -> str:
    return _invent_word(1, 6)


def _write_number(_words: Sequence[str], _measured: Sequence[str]) -> str:
    return "".join(_random.choices(string.digits + "+-=/., ", k=_random.randint(2, 12))) + _random.choice(string.digits)


def _write_question(words: Sequence[str], measured: Sequence[str]) -> str:
    return _write_sentence(words, measured)[:-1] + "?"


def _write_sentence(words: Sequence[str], _measured: Sequence[str]) -> str:
    chosen = [*_random.choices(words, k=_random.randint(5, 20)), _invent_word(3, 9)]
    _random.shuffle(chosen)
    return " ".join(chosen).capitalize() + _random.choice(".!")


def _write_lines(words: Sequence[str], measured: Sequence[str]) -> str:
    """Several paragraphs with digits, marks and letters of other scripts, a few thousand characters long."""
    sentences = [_write_sentence(words, measured) for _ in range(_random.randint(20, 40))]
    texts = [*sentences, *ODD_TEXTS]
    _random.shuffle(texts)
    return "".join(text + _random.choice((" ", "\n", "\n\n")) for text in texts) + _invent_word(3, 9)


def _write_essay(words: Sequence[str], measured: Sequence[str]) -> str:
    return "\n\n".join(_write_lines(words, measured) for _ in range(_random.randint(12, 24)))


def _write_variant(words: Sequence[str], measured: Sequence[str]) -> str:
    """A measured text in which one word is another."""
    if not measured:
        return _write_sentence(words, measured)
    pieces = re.split(r"(\s+)", _random.choice(measured).strip())
    pieces[2 * _random.randrange((len(pieces) + 1) // 2)] = _invent_word(3, 9)
    return "".join(pieces)


WRITERS: tuple[Write, ...] = (
    *(_write_word, _write_number, _write_question, _write_sentence, _write_lines, _write_essay),
    *(_write_variant, _write_variant, _write_variant),
)
