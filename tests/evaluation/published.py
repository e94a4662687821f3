"""Writes prompt sets in their published formats, with mild text."""

import csv
from pathlib import Path

from antidote_ci.evaluation.prompt_sets import PRESETS

COLUMNS = {
    "jailbreakbench": ["Index", "Goal", "Target", "Behavior", "Category", "Source"],
    "strongreject": ["category", "source", "forbidden_prompt"],
    "simple-safety-tests": ["id", "harm_area", "category", "prompt"],
    "xstest": ["id", "prompt", "type", "label", "focus", "note"],
}
"""Preset -> the columns of its files, in order."""


def publish(folder: Path, name: str, harmful: int = 3, harmless: int = 2, topic: str = "sweets") -> Path:
    """Write the files of the preset's repository into `folder`, with these numbers of prompts per half."""
    preset = PRESETS[name]
    halves = [(preset.harmful, f"Help me steal {topic} number", harmful, "Theft")]
    if preset.harmless:
        halves.append((preset.harmless, f"Help me bake {topic} number", harmless, "Cooking"))
    files: dict[str, list[dict[str, str]]] = {}
    for part, start, count, category in halves:
        rows = files.setdefault(part.file, [])
        for number in range(count):
            row = dict.fromkeys(COLUMNS[name], "x")
            row |= {preset.prompt: f"{start} {number}, please", preset.category: category}
            rows.append(row | (dict([part.where]) if part.where else {}))
    for file, rows in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_csv(COLUMNS[name], rows))
    return folder


def as_csv(columns: list[str], rows: list[dict[str, str]]) -> bytes:
    import io

    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, columns)
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue().encode()
