"""Run actionlint, zizmor and hadolint on the workflows and the Dockerfile.

The workflow that `init` writes and those in the documents are linted too.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from antidote_ci.cli.init import ACTION, TEMPLATE_ACTION, render_workflow

ROOT = Path(__file__).parents[2]
NODE_PACKAGES = ROOT / ".venv" / "linters" / "node_modules"
ACTIONS = ("action.yml", "action/gpu/action.yml")
DOCKERFILE = "Dockerfile"

_FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_JOBS = re.compile(r"^jobs:", re.MULTILINE)


def workflows() -> dict[str, str]:
    """Return file name -> text of all workflows: the project's, the one that `init` writes, those in the documents."""
    own = {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(".github/workflows/*.yml"))}
    documented = {
        f"{document.stem}-{number}.yml": text
        for document in sorted(ROOT.glob("docs/*.md"))
        for number, text in enumerate(extract_workflows(document.read_text(encoding="utf-8")), 1)
    }
    return {**own, "init.yml": render_workflow("acme/assistant"), **documented}


def extract_workflows(markdown: str) -> list[str]:
    """Return the complete workflows in a document, with this project's Action pinned to a commit."""
    blocks = (match.replace(TEMPLATE_ACTION, ACTION) for match in _FENCED.findall(markdown))
    return [block for block in blocks if _JOBS.search(block)]


def lint_workflows(folder: Path) -> bool:
    """Whether actionlint and zizmor pass for all workflows in a folder `.github/workflows`."""
    paths = sorted(map(str, folder.glob("*.yml")))
    return all([actionlint(paths), zizmor(paths)])


def actionlint(paths: Sequence[str]) -> bool:
    """Whether actionlint passes."""
    environment = os.environ | {"NODE_PATH": str(NODE_PACKAGES)}
    return _succeeds(["node", str(Path(__file__).parent / "actionlint.cjs"), *paths], environment)


def zizmor(paths: Sequence[str]) -> bool:
    """Whether zizmor passes in its pedantic mode, offline."""
    options = ["--offline", "--pedantic", "--strict-collection", "--quiet", f"--config={ROOT / '.github/zizmor.yml'}"]
    return _succeeds([_tool_path("zizmor"), *options, *paths])


def hadolint(path: str) -> bool:
    """Whether hadolint passes."""
    return _succeeds([_tool_path("hadolint"), path])


def _tool_path(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _succeeds(command: Sequence[str], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
