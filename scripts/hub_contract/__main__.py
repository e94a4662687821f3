"""Run huggingface_hub's own tests against the loopback Hub and write docs/hub-contract.md."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import __version__

from loopback_hub.strictness import VARIABLE
from scripts.hub_contract import RUNS, TEST_FILES, Choice, ContractResult, render_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hub-contract.md"
VARIANTS_OF_RUNS = {"Xet": "xet"}
"""Run -> the variant of the loopback Hub."""


def main() -> int:
    """Return 1 if a used test fails."""
    parser = argparse.ArgumentParser(prog="python -m scripts.hub_contract", description=__doc__)
    parser.add_argument("--huggingface-hub", type=Path, required=True, metavar="FOLDER")
    folder: Path = parser.parse_args().huggingface_hub.resolve()
    results = merge_runs({run: run_tests(folder, TEST_FILES, run) for run in RUNS})
    PAGE.write_text(render_page(__version__, results), encoding="utf-8")
    counts = Counter(
        "not used" if not result.choice.is_used else "passes" if result.has_passed else "fails" for result in results
    )
    print(", ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items())))
    return int(counts["fails"] > 0)


def run_tests(folder: Path, files: Sequence[str], run: str) -> list[ContractResult]:
    """Run a copy of the used tests against a new loopback Hub. Raises CalledProcessError if they cannot run."""
    with tempfile.TemporaryDirectory() as work:
        copied, written = _copy_tests(folder, Path(work) / "copy"), Path(work) / "results.json"
        environment = {"HUB_CONTRACT_RESULTS": str(written), "PYTHONPATH": str(ROOT)}
        if run in VARIANTS_OF_RUNS:
            environment[VARIABLE] = VARIANTS_OF_RUNS[run]
        command = [sys.executable, "-m", "pytest", "-p", "scripts.hub_contract.plugin", "-p", "no:cacheprovider"]
        tests = [f"tests/{file}" for file in files]
        subprocess.run([*command, *tests], cwd=copied, env=os.environ | environment, check=False)
        if not written.exists():
            raise subprocess.CalledProcessError(1, command)
        return [
            ContractResult(
                row["name"],
                Choice(row["is_used"], row["reason"]),
                {run: row["failure"]} if row["is_run"] else {},
            )
            for row in json.loads(written.read_bytes())
        ]


def merge_runs(runs: Mapping[str, list[ContractResult]]) -> list[ContractResult]:
    """Return one result for each test, with its failures of all runs."""
    merged: dict[str, ContractResult] = {}
    for result in (result for results in runs.values() for result in results):
        earlier = merged.get(result.name, result)
        merged[result.name] = replace(earlier, failures={**earlier.failures, **result.failures})
    return list(merged.values())


def _copy_tests(folder: Path, copied: Path) -> Path:
    """Copy the tests and their settings, and add the files that a source distribution lacks."""
    shutil.copytree(folder / "tests", copied / "tests")
    shutil.copy(folder / "pyproject.toml", copied)
    for name, text in (("__init__.py", ""), ("conftest.py", "from scripts.hub_contract.plugin import RepoFactory\n")):
        if not (copied / "tests" / name).exists():
            (copied / "tests" / name).write_text(text, encoding="utf-8")
    return copied


if __name__ == "__main__":
    sys.exit(main())
