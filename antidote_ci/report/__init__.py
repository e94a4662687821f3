"""The files that a run writes: report.json, report.html, summary.md, the model card, badge.json and SHA256SUMS."""

import os
import uuid
from pathlib import Path

from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.records import Report, to_json
from antidote_ci.report.card import render_card
from antidote_ci.report.ci_files import render_badge
from antidote_ci.report.page import render_page
from antidote_ci.report.summary import LOCAL_CARD, CardLocation, render_summary

__all__ = ["LOCAL_CARD", "CardLocation", "compute_checksums", "render_card", "write_report"]

UNLISTED_FILES = ("SHA256SUMS", "README.md")
"""Not in SHA256SUMS: the list itself, and the card, which people edit."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})


def write_report(report: Report, source_card: str, folder: Path, location: CardLocation = LOCAL_CARD) -> list[Path]:
    """Write the report's files into `folder` and return their paths.

    `source_card` is the text of the source's README.md, read without newline translation and with `surrogateescape`
    to preserve its bytes; empty when there is none. All files are rendered before the first is written, and each is
    replaced atomically. Raises OSError when the folder cannot be written.
    """
    contents = {
        "report.json": to_json(report),
        "report.html": render_page(report),
        "summary.md": render_summary(report),
        "badge.json": render_badge(report),
        "README.md": render_card(report, source_card, location),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_replace_file(folder / name, content) for name, content in contents.items()]


def compute_checksums(folder: Path) -> str:
    """Return SHA256SUMS for `sha256sum -c`: one line per file of `folder` except UNLISTED_FILES, sorted by path.

    Raises OSError when a file cannot be read.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(_checksum_line(path, sha256_file(folder / path)) for path in paths if path not in UNLISTED_FILES)


def _checksum_line(path: str, sha256: str) -> str:
    """A leading backslash marks an escaped name."""
    escaped = path.translate(_ESCAPES)
    return f"{'' if escaped == path else chr(92)}{sha256}  {escaped}\n"


def _replace_file(path: Path, content: str) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
