"""Write the demo's prompts into the package: `python -m scripts.demo_adapters.write_embedded`."""

import json
from pathlib import Path

from scripts.demo_adapters.rows import Row, embedded

FOLDER = Path(__file__).parents[2] / "antidote_ci" / "embedded"


def write_jsonl(path: Path, rows: list[Row]) -> None:
    """Write one JSON object per line."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name, rows in embedded().items():
        write_jsonl(FOLDER / name, rows)
        print(f"{len(rows):5d} {name}")
