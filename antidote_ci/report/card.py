"""The model card: the owner's own text and metadata, with our block and our results put in or renewed."""

import re
from collections.abc import Callable

from antidote_ci.checkpoint.card import split_card
from antidote_ci.records import Report
from antidote_ci.report import front_matter, metadata
from antidote_ci.report.front_matter import Metadata
from antidote_ci.report.places import LOCAL_CARD, CardLocation
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.summary import card_values
from antidote_ci.report.text import escape_markdown

BEGIN = "<!-- antidote-ci:begin -->"
END = "<!-- antidote-ci:end -->"

# From a begin to the next end with no other begin between: a stray marker swallows none of the owner's text.
_OURS = re.compile(rf"{BEGIN}(?:(?!{BEGIN})[\s\S])*?{END}")


def render_card(report: Report, source_card: str, place: CardLocation = LOCAL_CARD) -> str:
    """The card for `place`: the one that stands there, else the source's, else a minimal one; with this run's results.

    Outside our block the body is kept byte for byte, and applying it twice is the same as once.
    """
    kept = place.card or source_card
    newline = front_matter.find_line_break(kept)
    parts = split_card(kept or f"# {escape_markdown(metadata.model_name(report, place))}\n")
    change = _metadata_change(report, source_card, place)
    if parts.opening:
        head = parts.opening + front_matter.merge_metadata(parts.metadata, change, newline) + parts.closing
    else:
        new = change({}) if place.own else metadata.minimal_metadata(report, place)
        head = f"---{newline}{front_matter.dump_metadata(new, newline)}---{newline}{newline}"
    block = render_report_template("model_card.md.jinja", **card_values(report, place))
    ours = newline.join([BEGIN, *block.splitlines(), END])
    # What the source's own text says on a card of its own is not of these weights: ours comes first.
    first = place.own and not place.card and bool(source_card)
    return _insert_block(head, parts.body, ours, newline, first=first)


def _metadata_change(report: Report, source_card: str, place: CardLocation) -> Callable[[Metadata], Metadata]:
    """What becomes of the metadata that is there."""
    if not place.own:
        return lambda old: metadata.extend_metadata(report, old, place)
    if not place.card:
        return lambda source: metadata.adopt_metadata(report, source, place)
    source = front_matter.load_metadata(split_card(source_card).metadata)
    return lambda old: metadata.complete_metadata(report, old, source, place)


def _insert_block(head: str, body: str, ours: str, newline: str, *, first: bool) -> str:
    found = list(_OURS.finditer(body))
    if not found and first:
        above = "" if head.endswith(newline * 2) else newline if head.endswith(("\n", "\r")) else newline * 2
        below = newline if body.startswith(("\n", "\r")) else newline * 2
        return head + above + ours + below + body
    if not found:
        gap = newline if (head + body).endswith(("\n", "\r")) else newline * 2
        return head + body + gap + ours + newline
    kept, *stale = found
    for each in reversed(stale):
        body = body[: each.start()] + body[each.end() :]
    return head + body[: kept.start()] + ours + body[kept.end() :]
