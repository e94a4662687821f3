"""The model card: the owner's own text and metadata, with our block and our results put in or renewed."""

import re

from antidote_ci.records import Report
from antidote_ci.report import front_matter, metadata
from antidote_ci.report.rendering import render
from antidote_ci.report.summary import sections
from antidote_ci.report.text import markdown

BEGIN = "<!-- antidote-ci:begin -->"
END = "<!-- antidote-ci:end -->"

# From a begin to the next end with no other begin between: a stray marker swallows none of the owner's text.
_OURS = re.compile(rf"{BEGIN}(?:(?!{BEGIN})[\s\S])*?{END}")


def card(report: Report, source_card: str) -> str:
    """`source_card` with this run's block and metadata; an empty string gives a minimal card.

    Outside the block the body is kept byte for byte, and applying it twice is the same as once.
    """
    newline = front_matter.line_break(source_card)
    parts = front_matter.split(source_card or f"# {markdown(metadata.model_name(report))}\n")
    if parts.opening:
        merged = front_matter.merged(parts.metadata, lambda old: metadata.extended(report, old), newline)
        head = parts.opening + merged + parts.closing
    else:
        head = f"---{newline}{front_matter.dump(metadata.minimal(report), newline)}---{newline}{newline}"
    block = render("model_card.md.jinja", **sections(report))
    ours = newline.join([BEGIN, *block.splitlines(), END])
    return _with_block(head, parts.body, ours, newline)


def _with_block(head: str, body: str, ours: str, newline: str) -> str:
    found = list(_OURS.finditer(body))
    if not found:
        gap = newline if (head + body).endswith(("\n", "\r")) else newline * 2
        return head + body + gap + ours + newline
    first, *stale = found
    for each in reversed(stale):
        body = body[: each.start()] + body[each.end() :]
    return head + body[: first.start()] + ours + body[first.end() :]
