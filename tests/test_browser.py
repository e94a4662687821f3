"""Pages in a real browser: no axe violations, no horizontal scrolling, no network requests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from antidote_ci.evaluation.comparison import compare_reports
from antidote_ci.records import Report
from antidote_ci.report import comparison, page
from antidote_ci.report.history import render_history_page
from antidote_ci.service import page as runs
from antidote_ci.service.records import RunOutcome, RunRequest
from antidote_ci.service.run_store import RunRecord
from tests.report.samples import EVERY_KIND, OPEN, REPAIRED, STOPPED_PASS
from tests.report.test_comparison import dated, history, with_baseline
from tests.service.test_page import SETTINGS

ROOT = Path(__file__).parent.parent
NODE_PACKAGES = ROOT / ".venv" / "linters" / "node_modules"
SCRIPT = Path(__file__).with_name("browser.cjs")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.slow


def find_faults(folder: Path) -> list[str]:
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser, "no Chromium found: install it, or set CHROMIUM to its path"
    assert NODE_PACKAGES.is_dir(), "axe-core is not installed: run `make test-slow`"
    process = subprocess.run(
        ["node", SCRIPT, browser, folder],  # noqa: S607
        env=os.environ | {"NODE_PATH": str(NODE_PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_report_pages_have_no_faults(tmp_path: Path) -> None:
    for number, report in enumerate(EVERY_KIND):
        assert isinstance(report, Report)
        (tmp_path / f"{number:02}.html").write_text(page.render_page(report), encoding="utf-8")
    assert find_faults(tmp_path) == []


def test_the_page_of_the_service_has_no_faults(tmp_path: Path) -> None:
    request, started = RunRequest("org/model" * 8, "a" * 40, "p" * 64), 1_795_580_000.0
    outcome = RunOutcome("repaired", "It passes after a repair. " * 9, 0, "https://host/org/model", "runs/x/out", 12.0)
    waiting, done = RunRecord(request, "waiting", None, started), RunRecord(request, "ended", outcome, started)
    for name, entries in {"full": ([waiting], [waiting], [done]), "empty": ([], [], [])}.items():
        (tmp_path / f"{name}.html").write_text(runs.render_runs_page(*entries, SETTINGS), encoding="utf-8")
    assert find_faults(tmp_path) == []


def test_comparisons_have_no_faults(tmp_path: Path) -> None:
    reports = [dated(report, 1 + index) for index, report in enumerate(EVERY_KIND)]
    pages = {
        "history": render_history_page(history(reports)),
        "failures": render_history_page(history(reports[:1]), {"org/broken" * 9: "it is broken. " * 20}),
        "one-model": render_history_page(history([dated(OPEN, day) for day in range(1, 25)])),
        "baseline": page.render_page(with_baseline(REPAIRED)),
        "compared": comparison.render_comparison_page(compare_reports(STOPPED_PASS, OPEN)),
        "unpaired": comparison.render_comparison_page(compare_reports(reports[0], reports[-1])),
        "no-model": render_history_page([]),
    }
    for name, html in pages.items():
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
    assert find_faults(tmp_path) == []


def test_faults_are_detected(tmp_path: Path) -> None:
    text = page.render_page(EVERY_KIND[0])
    broken = {
        "grey": text.replace("</header>", '<p style="color:#eee;background:#fff">low contrast</p></header>'),
        "wide": text.replace("</header>", '<dl style="width: 3000px"><dt>a</dt><dd>b</dd></dl></header>'),
        "asking": text.replace("</header>", '<img alt="a dot" src="http://127.0.0.1:9/dot.png"></header>'),
    }
    for name, html in broken.items():
        assert html != text
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
    faults = find_faults(tmp_path)
    for name, message in {"grey": "color-contrast", "wide": "wider than the page", "asking": "requests http"}.items():
        assert any(line.startswith(f"{name}.html") and message in line for line in faults), faults
