"""Run huggingface_hub's own tests against the loopback Hub and write docs/hub-contract.md."""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from huggingface_hub import __version__

from loopback_hub import LoopbackHub
from scripts.hub_contract import TEST_FILES, Choice, ContractResult, render_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hub-contract.md"


def main() -> int:
    """Return 1 if a used test fails."""
    parser = argparse.ArgumentParser(prog="python -m scripts.hub_contract", description=__doc__)
    parser.add_argument("--huggingface-hub", type=Path, required=True, metavar="FOLDER")
    folder: Path = parser.parse_args().huggingface_hub.resolve()
    results = run_tests(folder, TEST_FILES)
    PAGE.write_text(render_page(__version__, results), encoding="utf-8")
    counts = Counter(
        "not used" if not result.choice.is_used else "passes" if result.failure is None else "fails"
        for result in results
    )
    print(", ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items())))
    return int(counts["fails"] > 0)


def run_tests(folder: Path, files: tuple[str, ...]) -> list[ContractResult]:
    """Run a copy of the used tests against a new loopback Hub. Raises CalledProcessError if they cannot run."""
    with tempfile.TemporaryDirectory() as work, LoopbackHub(Path(work) / "hub") as hub:
        _add_accounts(hub, folder / "tests" / "testing_constants.py")
        copied, written = _copy_tests(folder, Path(work) / "copy"), Path(work) / "results.json"
        environment = os.environ | hub.environment
        environment |= {
            "HF_HOME": f"{work}/home",
            "HF_TOKEN": "",
            "HUB_CONTRACT_RESULTS": str(written),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "pytest", "-p", "scripts.hub_contract.plugin", "-p", "no:cacheprovider"]
        subprocess.run([*command, *(f"tests/{file}" for file in files)], cwd=copied, env=environment, check=False)
        if not written.exists():
            raise subprocess.CalledProcessError(1, command)
        return [
            ContractResult(row["name"], Choice(row["is_used"], row["reason"]), row["failure"])
            for row in json.loads(written.read_bytes())
        ]


def _copy_tests(folder: Path, copied: Path) -> Path:
    """Copy the tests and their settings, and add the files that a source distribution lacks."""
    shutil.copytree(folder / "tests", copied / "tests")
    shutil.copy(folder / "pyproject.toml", copied)
    for name, text in (("__init__.py", ""), ("conftest.py", "from scripts.hub_contract.plugin import RepoFactory\n")):
        if not (copied / "tests" / name).exists():
            (copied / "tests" / name).write_text(text, encoding="utf-8")
    return copied


def _add_accounts(hub: LoopbackHub, constants: Path) -> None:
    """Create the accounts that the tests use."""
    names = runpy.run_path(str(constants))
    full_names = {names["USER"]: names["FULL_NAME"], "valid_org_hub": "Dummy Hub Org"}
    hub.add_account(names["USER"], names["TOKEN"], organisations=["valid_org_hub"], full_names=full_names)
    hub.add_account(names["OTHER_USER"], names["OTHER_TOKEN"])


if __name__ == "__main__":
    sys.exit(main())
