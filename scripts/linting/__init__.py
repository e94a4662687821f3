"""Workflows and the image under their linters: actionlint, zizmor and hadolint, all at zero findings.

What users copy is linted as what we run: the workflow that `init` writes and those in the documents.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from antidote_ci.cli import scaffold

ROOT = Path(__file__).parents[2]
NODE_PACKAGES = ROOT / ".venv" / "linters" / "node_modules"
ACTIONS = ("action.yml", "action/gpu/action.yml")
DOCKERFILE = "Dockerfile"

_FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_JOBS = re.compile(r"^jobs:", re.MULTILINE)


def workflows() -> dict[str, str]:
    """File name -> text of every workflow: our own, the one that `init` writes, those in the documents."""
    own = {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(".github/workflows/*.yml"))}
    shown = {
        f"{document.stem}-{number}.yml": text
        for document in sorted(ROOT.glob("docs/*.md"))
        for number, text in enumerate(in_document(document.read_text(encoding="utf-8")), 1)
    }
    return {**own, "init.yml": scaffold.render_workflow(None), **shown}


def in_document(markdown: str) -> list[str]:
    """The whole workflows among a document's blocks, with our own Action pinned as a reader would pin it."""
    blocks = (match.replace(scaffold.TEMPLATE_ACTION, scaffold.ACTION) for match in _FENCED.findall(markdown))
    return [block for block in blocks if _JOBS.search(block)]


def lint_workflows(folder: Path) -> bool:
    """Whether actionlint and zizmor find nothing in the workflows of a folder `.github/workflows`."""
    paths = sorted(map(str, folder.glob("*.yml")))
    return all([actionlint(paths), zizmor(paths)])


def actionlint(paths: Sequence[str]) -> bool:
    """Whether actionlint finds nothing in these workflows."""
    environment = os.environ | {"NODE_PATH": str(NODE_PACKAGES)}
    return _clean(["node", str(Path(__file__).parent / "actionlint.cjs"), *paths], environment)


def zizmor(paths: Sequence[str]) -> bool:
    """Whether zizmor finds nothing, at its strictest but for what it calls false positives; asks no network."""
    options = ["--offline", "--pedantic", "--strict-collection", "--quiet", f"--config={ROOT / '.github/zizmor.yml'}"]
    return _clean([_beside_python("zizmor"), *options, *paths])


def hadolint(path: str) -> bool:
    """Whether hadolint finds nothing in a Dockerfile."""
    return _clean([_beside_python("hadolint"), path])


def _beside_python(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _clean(command: Sequence[str], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
