"""Run huggingface_hub's own tests against the loopback Hub: which of them are used, and the page of the results."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PRODUCTION = "asks the production Hub"
TEST_FILES = (
    "test_hf_api.py",
    "test_file_download.py",
    "test_snapshot_download.py",
    "test_jobs_api.py",
    "test_xet_upload.py",
)
RUNS = ("git-lfs", "Xet")
"""How the loopback Hub transfers large files."""
INTRODUCTION = """\
# huggingface_hub's own tests

The tests of huggingface_hub {version} run against the staging Hub of Hugging Face, so they say how the real Hub
behaves. Here they run, unchanged, against the [loopback Hub](loopback-hub.md), which this project wrote. The tests are
not part of this repository.

`scripts/hub_contract/choices.toml` names the tests that cover what this project uses. It was written before the first
run, except for `test_snapshot_download.py` and `test_xet_upload.py`. In that run 86 of 123 tests passed. The others
showed defects of the loopback Hub, and one of publishing, which lost the files that a `.gitignore` of the source
excludes.

`python -m scripts.hub_contract --huggingface-hub FOLDER` runs the tests and writes this page. FOLDER holds the source
distribution, unpacked: `pip download --no-deps --no-binary :all: huggingface_hub=={version}`. It lacks the fixtures of
the tests, which `scripts/hub_contract/plugin.py` replaces. `pytest-mock` must be installed. The tests run twice: large
files are transferred by git-lfs, and by Xet.

These tests do not cover all assumptions. `python -m scripts.contract ORG/SCRATCH` asks the real Hub about the others
and prints each answer beside the one that the code assumes. It needs a token that may write to the repository
ORG/SCRATCH.
"""


@dataclass(frozen=True)
class Choice:
    """Whether this project uses what a test covers, and the subject or the reason."""

    is_used: bool
    reason: str


@dataclass(frozen=True)
class ContractResult:
    """One test with its results."""

    name: str
    """File, class and function, as in `test_hf_api.py::TestCommitApi::test_create_commit`."""
    choice: Choice
    failures: Mapping[str, str | None] = field(default_factory=dict)
    """Run -> what failed, None if the test passed. Tests that are not used have no run."""

    @property
    def has_passed(self) -> bool:
        return not any(self.failures.values())


def read_choices(file: Path) -> dict[str, Choice]:
    """Return the choice for each beginning of a test's name."""
    sections = tomllib.loads(file.read_text(encoding="utf-8"))
    return {
        beginning: Choice(section == "used", reason)
        for section in ("used", "not-used")
        for beginning, reason in sections[section].items()
    }


def choose(choices: Mapping[str, Choice], name: str, asks_production: bool) -> Choice:
    """Return the choice with the longest beginning of `name`. Raises KeyError if nobody has decided."""
    if asks_production:
        return Choice(False, PRODUCTION)
    beginnings = [beginning for beginning in choices if name.startswith(beginning)]
    if not beginnings:
        raise KeyError(f"nobody has decided whether this project uses what {name} covers")
    return choices[max(beginnings, key=len)]


def render_page(version: str, results: Sequence[ContractResult]) -> str:
    """Return the page in Markdown: the number of tests by subject or reason, and each used test that fails."""
    used = [result for result in results if result.choice.is_used]
    failed = [result for result in used if not result.has_passed]
    rows = [
        [subject, *(_count_passed([result for result in used if result.choice.reason == subject], run) for run in RUNS)]
        for subject in sorted({result.choice.reason for result in used})
    ]
    reasons = Counter(result.choice.reason for result in results if not result.choice.is_used)
    failures = [
        f"- {_code(result.name)}, {run}: {_code(failure)}\n"
        for result in failed
        for run, failure in result.failures.items()
        if failure is not None
    ]
    parts = [
        INTRODUCTION.format(version=version),
        f"{len(results)} tests: {len(used)} are used, {len(used) - len(failed)} of them pass, {len(failed)} fail.\n",
        "## Used\n",
        _render_table(["subject", *RUNS], rows),
        *(["## Failures\n", "".join(failures)] if failures else []),
        "## Not used\n",
        _render_table(["reason", "tests"], [[reason, str(reasons[reason])] for reason in sorted(reasons)]),
    ]
    return "\n".join(parts)


def _render_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [titles, ["---"] * len(titles), *rows])


def _count_passed(results: Sequence[ContractResult], run: str) -> str:
    failures = [result.failures[run] for result in results if run in result.failures]
    return f"{failures.count(None)} of {len(failures)} pass" if failures else "not run"


def _code(text: str) -> str:
    """Return `text` as code on one line."""
    return "`" + re.sub(r"\s+", " ", text).replace("`", "'") + "`"
