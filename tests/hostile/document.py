"""Write docs/hostile-input.md: the corpus as a table, with the error of each repository.

python -m tests.hostile.document
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from loopback_hub import LoopbackHub
from tests.hostile.corpus import FIXTURES, write_stage
from tests.hostile.fixture import Fixture
from tests.hostile.watched import Seen

DOCUMENT = Path(__file__).parents[2] / "docs" / "hostile-input.md"
HEAD = """\
# Hostile input

Models come from strangers. Each row describes a repository that the tests build from a valid one, put on a loopback
Hub and pass to the real command line. There is one for every advisory, incident or documented attack known to us.
Every repository is refused with exit code 6 within ten seconds and 1 GB, most of them before torch or transformers is
imported. Attacks that are visible only when a template is rendered, a network is built or weights are read are found in
a process of its own, before the model is loaded.
Nothing of a repository is unpickled or executed, no host but the Hub is contacted, and files are written to the cache
and to `--out` only. The last column is the error.

`python -m tests.hostile.document` writes this page, and the tests compare it with the actual errors.

| name | reference | attack | error |
|---|---|---|---|
"""


def table(seen: Mapping[str, Seen]) -> str:
    """Return the page."""
    return HEAD + "".join(row(fixture, seen[fixture.name]) + "\n" for fixture in FIXTURES)


def row(fixture: Fixture, seen: Seen) -> str:
    """Return one row of the table."""
    cells = (fixture.name, _link(fixture.reference), fixture.sentence, said(seen))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def said(seen: Seen) -> str:
    """Return the first line of the error, without parts that differ between runs."""
    line = next((line for line in seen.said.splitlines() if line.startswith("error: ")), "")
    line = re.sub(r"/\S+/(snapshots/[0-9a-f]{40}|repositories/[\w-]+)", "the folder", line.removeprefix("error: "))
    return re.sub(r"\b\d{4}-\d{2}-\d{2}\b", "(date)", re.sub(r"\b[0-9a-f]{40}\b", "(commit)", line))


def _link(reference: str) -> str:
    match reference.partition("-")[0]:
        case "CVE":
            return f"[{reference}](https://nvd.nist.gov/vuln/detail/{reference})"
        case "GHSA":
            return f"[{reference}](https://github.com/advisories/{reference})"
        case "CWE":
            return f"[{reference}](https://cwe.mitre.org/data/definitions/{reference.removeprefix('CWE-')}.html)"
    thread = re.fullmatch(r"https://github.com/[^/]+/([^/]+)/(?:issues|pull)/(\d+)", reference)
    name = f"{thread[1]}#{thread[2]}" if thread else reference.removeprefix("https://").split("/")[0]
    return f"[{name}]({reference})"


def main() -> None:
    """Run the corpus and write the page."""
    with tempfile.TemporaryDirectory() as folder, LoopbackHub(Path(folder) / "hub") as hub:
        DOCUMENT.write_text(table(write_stage(hub, Path(folder)).play(FIXTURES)), encoding="utf-8")


if __name__ == "__main__":
    main()
