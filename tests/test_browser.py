"""Pages in a real browser: nothing for axe to find, nothing to scroll sideways, nothing asked of a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from antidote_ci.records import Report
from antidote_ci.report import page
from antidote_ci.service import page as runs
from antidote_ci.service.records import RunOutcome, RunRequest
from antidote_ci.service.run_store import RunRecord
from tests.report.samples import EVERY_KIND
from tests.service.test_page import SERVING

ROOT = Path(__file__).parent.parent
NODE_PACKAGES = ROOT / ".venv" / "linters" / "node_modules"
SCRIPT = Path(__file__).with_name("browser.cjs")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.slow


def flaws(folder: Path) -> list[str]:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, "a Chromium is needed: install one, or name it in CHROMIUM"
    assert NODE_PACKAGES.is_dir(), "axe is needed: make test-slow installs it"
    done = subprocess.run(
        ["node", SCRIPT, found, folder],  # noqa: S607
        env=os.environ | {"NODE_PATH": str(NODE_PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_kind_of_report(tmp_path: Path) -> None:
    for number, report in enumerate(EVERY_KIND):
        assert isinstance(report, Report)
        (tmp_path / f"{number:02}.html").write_text(page.render_page(report), encoding="utf-8")
    assert flaws(tmp_path) == []


def test_the_page_of_the_service(tmp_path: Path) -> None:
    order, began = RunRequest("org/model" * 8, "a" * 40, "p" * 64), 1_795_580_000.0
    ended = RunOutcome("repaired", "It passes after a repair. " * 9, 0, "https://host/org/model", "runs/x/out", 12.0)
    waiting, done = RunRecord(order, "waiting", None, began), RunRecord(order, "ended", ended, began)
    for name, entries in {"full": ([waiting], [waiting], [done]), "empty": ([], [], [])}.items():
        (tmp_path / f"{name}.html").write_text(runs.render_runs_page(*entries, SERVING), encoding="utf-8")
    assert flaws(tmp_path) == []


def test_flaws_are_found(tmp_path: Path) -> None:
    text = page.render_page(EVERY_KIND[0])
    broken = {
        "grey": text.replace("</header>", '<p style="color:#eee;background:#fff">hardly to be read</p></header>'),
        "wide": text.replace("</header>", '<dl style="width: 3000px"><dt>a</dt><dd>b</dd></dl></header>'),
        "asking": text.replace("</header>", '<img alt="a dot" src="http://127.0.0.1:9/dot.png"></header>'),
    }
    for name, html in broken.items():
        assert html != text
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
    found = flaws(tmp_path)
    for name, words in {"grey": "color-contrast", "wide": "wider than the page", "asking": "asks for http"}.items():
        assert any(line.startswith(f"{name}.html") and words in line for line in found), found
