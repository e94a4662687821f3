"""Numbers and strangers' strings as a reader sees them. Pure.

Ids, categories and licences come from repositories and files that nobody checked: whatever is printed goes through
`flatten`, and into Markdown through `escape_markdown`.
"""

import re
import unicodedata

MAX_LENGTH = 400
"""Characters of one string; report.json holds the whole. Keeps a summary far below the runner's 1 MiB."""

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control, format (bidi overrides among them), surrogate and separator characters: what could disguise a name."""

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|~#&$!]")
_AT_A_LINES_BEGINNING = re.compile(r"^(?:[-+](?=\s|$)|[-=](?=[-=\s]*$)|\d{1,9}(?=[.)](?:\s|$)))")
"""What makes a list, a rule or a heading there."""
_AUTOLINK = re.compile(r"(?<![a-z0-9_])@|@(?![0-9a-f]{12}(?![\w-]|\.\w))|:(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Mentions, addresses and bare links; not our own `name@0123456789ab`, which people copy."""
_WORD_JOINER = "\u2060"
_MARK = "\ufffd"
"""What stands where something was taken out."""


def flatten(value: object) -> str:
    """One line of text without invisible characters, at most MAX_LENGTH long.

    A character that is taken out leaves a mark, so that two different names never look the same.
    """
    text = str(value)
    shown = visible_text(text[:MAX_LENGTH])
    return shown + "…" if len(text) > MAX_LENGTH else shown


def visible_text(text: str) -> str:
    """The text on one line, with a mark for each invisible character."""
    return "".join(map(_visible_character, text))


def escape_markdown(value: object) -> str:
    """`flatten` without white space around it, and with nothing that Markdown reads as markup: in a table cell or
    a line.

    Nothing but white space leaves a mark: an empty line would end what it stands in.
    Renderers look for mentions and bare links after they have resolved escapes, so these are broken by a word joiner.
    """
    shown = flatten(value)
    escaped = _MARKDOWN.sub(r"\\\g<0>", shown.strip() or (shown and _MARK))
    escaped = _AT_A_LINES_BEGINNING.sub(_escape_match, escaped)
    return _AUTOLINK.sub(rf"\g<0>{_WORD_JOINER}", escaped)


def _escape_match(found: re.Match[str]) -> str:
    """A digit cannot be escaped, what follows it can."""
    return f"{found[0]}\\" if found[0][0].isdigit() else f"\\{found[0]}"


def format_percent(share: float | None) -> str:
    """A share from 0 to 1, as a percentage with one decimal; a dash for what was not measured."""
    return "–" if share is None else f"{100 * share:.1f} %"


def format_interval(bounds: tuple[float, float]) -> str:
    """Lower and upper bound, both shares, as `[5.5, 17.4] %`."""
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}] %"


def format_level(confidence: float) -> str:
    """A confidence level with no more digits than it needs: `95 %`, `97.5 %`."""
    return f"{100 * confidence:g} %"


def format_points(change: float) -> str:
    """The difference of two shares, in signed percentage points."""
    return f"{100 * change:+.1f}".replace("-", "−") + " points"


def short_sha(sha: str) -> str:
    """The first twelve characters of a commit id or a digest."""
    return sha[:12]


def abbreviate_commits(origin: str) -> str:
    """A name with each full commit id after its @ cut to what people copy."""
    return re.sub(r"@([0-9a-f]{12})[0-9a-f]{28}\b", r"@\1", origin)


def format_number(value: float) -> str:
    """A count with thousands separated, or a dose with three significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def pluralize(count: int, word: str) -> str:
    """1 thread, 2 threads."""
    return f"{format_number(count)} {word}" if count == 1 else f"{format_number(count)} {word}s"


def _visible_character(character: str) -> str:
    if character in "\t\n\r":
        return " "
    return _MARK if unicodedata.category(character) in _INVISIBLE else character
