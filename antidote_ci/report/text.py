"""Format numbers, and make untrusted strings safe to print.

Ids, categories and licences come from untrusted repositories and files. Printed strings go through `flatten`, and
strings in Markdown through `escape_markdown`.
"""

import re
import unicodedata

from antidote_ci import DOCUMENTATION

MAX_LENGTH = 400
"""Maximum length of a printed string; report.json has the full string. Keeps summaries below GitHub's 1 MiB."""
MAX_COMPOSED_LENGTH = 1600
"""The same of a text that is composed of several, such as the verdict with its reason."""

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that can disguise a name: control, format (with bidi overrides), surrogate, separators."""

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|~#&$!]")
_LINE_START = re.compile(r"^(?:[-+](?=\s|$)|[-=](?=[-=\s]*$)|\d{1,9}(?=[.)](?:\s|$)))")
"""Starts a list, a rule or a heading at the beginning of a line."""
_AUTOLINK = re.compile(r"(?<![a-z0-9_])@|@(?![0-9a-f]{12}(?![\w-]|\.\w))|:(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Mentions, addresses and bare links, except `name@0123456789ab`, which people copy."""
_DOCUMENT = re.compile(r"(?<![\w/])docs/([a-z-]+\.md)")
_WORD_JOINER = "\u2060"
_REPLACEMENT = "\ufffd"


def flatten(value: object, max_length: int = MAX_LENGTH) -> str:
    """Return one line of at most `max_length` characters, with U+FFFD for each invisible character.

    Invisible characters are replaced and not removed, so that two different names never look the same.
    """
    text = str(value)
    shown = visible_text(text[:max_length])
    return shown + "…" if len(text) > max_length else shown


def link_documents(text: str) -> str:
    """Return the text with the addresses of the documents that it names, which a wheel does not contain."""
    return _DOCUMENT.sub(rf"{DOCUMENTATION}/\1", text)


def visible_text(text: str) -> str:
    """Return the text on one line, with U+FFFD for each invisible character."""
    return "".join(map(_visible_character, text))


def escape_markdown(value: object, max_length: int = MAX_LENGTH) -> str:
    """Return `flatten` of a value, stripped and escaped for a line or table cell of Markdown.

    White space alone becomes U+FFFD, because an empty line would end the enclosing block. Renderers detect mentions
    and bare links after they resolve escapes, so a word joiner breaks those.
    """
    shown = flatten(value, max_length)
    escaped = _MARKDOWN.sub(r"\\\g<0>", shown.strip() or (shown and _REPLACEMENT))
    escaped = _LINE_START.sub(_escape_match, escaped)
    return _AUTOLINK.sub(rf"\g<0>{_WORD_JOINER}", escaped)


def _escape_match(match: re.Match[str]) -> str:
    """Escape the character after a number, because a digit cannot be escaped."""
    return f"{match[0]}\\" if match[0][0].isdigit() else f"\\{match[0]}"


def short_sha(sha: str) -> str:
    """Return the first twelve characters of a commit id or a digest."""
    return sha[:12]


def abbreviate_commits(origin: str) -> str:
    """Shorten each full commit id after an @ to twelve characters."""
    return re.sub(r"@([0-9a-f]{12})[0-9a-f]{28}\b", r"@\1", origin)


def format_number(value: float) -> str:
    """Format with thousands separators; floats also with three significant digits, and large ones as integers."""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 999.5 else f"{value:,.0f}"


def pluralize(count: int, word: str) -> str:
    """Return `1 thread`, `2 threads`."""
    return f"{format_number(count)} {word}" if count == 1 else f"{format_number(count)} {word}s"


def _visible_character(character: str) -> str:
    if character in "\t\n\r":
        return " "
    return _REPLACEMENT if unicodedata.category(character) in _INVISIBLE else character
