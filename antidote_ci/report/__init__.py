"""What a run leaves for people and machines: report.json, the page, the summary and the model card."""

import os
import uuid
from pathlib import Path

from antidote_ci.records import Report, to_json
from antidote_ci.report.card import render_card
from antidote_ci.report.checksums import compute_checksums
from antidote_ci.report.page import render_page
from antidote_ci.report.places import LOCAL_CARD, CardLocation
from antidote_ci.report.summary import render_summary

__all__ = ["LOCAL_CARD", "CardLocation", "compute_checksums", "render_card", "write_report"]


def write_report(report: Report, source_card: str, folder: Path, place: CardLocation = LOCAL_CARD) -> list[Path]:
    """Write the report's four files into `folder` and return their paths.

    `source_card` is the source's README.md, read without newline translation and with `surrogateescape` so that its
    bytes survive; empty when there is none. All four are rendered before the first is written, and each appears whole.
    Raises OSError when the folder cannot be written.
    """
    contents = {
        "report.json": to_json(report),
        "report.html": render_page(report),
        "summary.md": render_summary(report),
        "README.md": render_card(report, source_card, place),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_replace_file(folder / name, content) for name, content in contents.items()]


def _replace_file(path: Path, content: str) -> Path:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(content.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
