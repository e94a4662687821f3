"""docs/words.md: what it names is there, and what it forbids stands nowhere that people read."""

import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from antidote_ci.records import Report
from scripts import tables

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "words.md"
ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
READ = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "action.yml")),
    *(path for path in sorted(ROOT.glob("docs/*.md")) if path != PAGE and path.name != "hostile-input.md"),
    *sorted(ROOT.glob("templates/*.jinja")),
    *sorted(ROOT.glob("antidote_ci/**/*.py")),
]


def fields(kind: Any, prefix: str = "") -> set[str]:  # noqa: ANN401 - a type as `get_type_hints` gives it
    """Every path into the records of a report."""
    found = set()
    for each in [kind, *get_args(kind)]:
        if dataclasses.is_dataclass(each):
            for name, inner in get_type_hints(each).items():
                found |= {prefix + name} | fields(inner, f"{prefix}{name}.")
    return found


@cache
def known() -> set[str]:
    options = {name for _, command in tables.commands() for each in command.params for name in each.opts}
    outputs = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["outputs"]
    return options | set(tables.policy_keys()) | set(outputs) | fields(Report)


@pytest.mark.parametrize(("word", "places"), [row[:2] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_it_names_is_there(word: str, places: str) -> None:
    named = re.findall(r"`([^`]+)`", places)
    assert named, word
    assert set(named) - known() == set()


@pytest.mark.parametrize(("word", "others"), [(row[0], row[2]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_it_forbids_stands_nowhere(word: str, others: str) -> None:
    for other in others.split(", "):
        words = r"\s+".join(map(re.escape, other.split()))
        pattern = re.compile(rf"\b{words}s?\b", re.IGNORECASE)
        found = [path.name for path in READ if pattern.search(path.read_text(encoding="utf-8"))]
        assert found == [], f"{other}: it is called {word}"


def test_it_has_rows() -> None:
    assert len(ROWS) >= 12
