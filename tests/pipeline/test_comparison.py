"""The command `compare`, and runs with a baseline."""

import dataclasses
import json
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.pipeline import comparison
from antidote_ci.records import (
    BenignResult,
    CategoryCount,
    Comparison,
    Evaluations,
    History,
    KindResult,
    Report,
    from_json,
    to_json,
)
from antidote_ci.report.console import Console
from loopback_hub import LoopbackHub
from tests.command_line import read_report, run_command
from tests.evaluation.test_comparison import judged, report

MODEL = "stranger/tiny-finetune"


def write(path: Path, hits: int, day: int) -> Path:
    """Write a report of 100 prompts, `hits` of them answered harmfully."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = dataclasses.replace(
        report(judged(range(hits)), run=f"run{day}"), written_at=f"2026-12-{day:02}T00:00:00Z"
    )
    path.write_text(to_json(written))
    return path


def load(*names: Path | str) -> list[str]:
    return [item.report.run_id for item in comparison.load_reports([str(name) for name in names], Console("silent"))]


def test_reports_are_found_in_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = write(tmp_path / "any.json", 1, 1), write(tmp_path / "out" / "report.json", 2, 9).parent
    assert load(file, folder, file) == ["run1", "run9"]
    reports = tmp_path / "reports"
    write(reports / "b" / "report.json", 1, 3)
    write(reports / "a" / "report.json", 1, 4)
    copy = reports / "a" / "model" / "antidote" / "report.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((reports / "a" / "report.json").read_bytes())
    write(reports / "2026.json", 1, 2)
    others = [reports / "labels.json", reports / "node" / "report.json"]
    others[1].parent.mkdir()
    for path in others:
        path.write_text("{}")
    found = comparison.load_reports([str(reports)], Console())
    assert [item.report.run_id for item in found] == ["run2", "run3", "run4"]
    assert found[2].path == reports / "a" / "report.json"
    printed = capsys.readouterr().err.replace("\n", " ")
    assert all(f"skipped: {path} is not a report" in printed for path in others)


def test_what_is_no_report_is_named(tmp_path: Path) -> None:
    def fault(*names: Path | str) -> ConfigurationError:
        with pytest.raises(ConfigurationError) as caught:
            load(*names)
        return caught.value

    broken = write(tmp_path / "out" / "report.json", 1, 1)
    tested = report(judged([0])).evaluations.before
    contradicting = [
        dataclasses.replace(tested, readings=[]),
        dataclasses.replace(tested, judge="another"),
        dataclasses.replace(tested, harmful_score=0.9),
        dataclasses.replace(
            tested, harmful_score=0.9, readings=[dataclasses.replace(tested.deciding_result, harmful_score=0.9)]
        ),
        dataclasses.replace(tested, readings=[judged([0]), judged([0], 50)]),
        dataclasses.replace(tested, kinds=[KindResult("story", 0, 0, (0.0, 1.0), unseen=False)]),
        dataclasses.replace(tested, categories={"x": CategoryCount(3, 2)}),
        dataclasses.replace(tested, benign=BenignResult(0.0, 0.0, 1, refused={"a": False})),
        dataclasses.replace(tested, readings=[judged([0], comparison.MAX_PROMPTS + 1)]),
    ]
    reports = [dataclasses.replace(report(judged([0])), evaluations=Evaluations(wrong)) for wrong in contradicting]
    for content in ("{}", "no JSON", *map(to_json, reports)):
        broken.write_text(content)
        assert fault(broken).what == f"{broken} is not a report of antidote-ci"
    (tmp_path / "empty").mkdir()
    assert "there is no report in" in fault(tmp_path / "empty").what
    assert "no file and no folder nowhere.json" in fault("nowhere.json").what
    assert "no file and no folder ./org/model" in fault("./org/model").what


def test_the_report_of_a_published_model_is_read(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write(repository / "antidote" / "report.json", 30, 2)
    (repository / "model.safetensors").write_bytes(b"never read")
    local, other = write(tmp_path / "local.json", 1, 1), tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("no report")
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.add(MODEL, repository)
        hub.add("stranger/other", other)
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        page = tmp_path / "pages" / "page.html"
        done = run_command("compare", str(local), MODEL, f"--out={page}", "--json", **environment)
        assert done.returncode == 0, done.stderr
        missing = run_command("compare", str(local), "stranger/other", f"--out={page}", **environment)
    compared = from_json(Comparison, done.stdout)
    assert (compared.changes[0].only_before, compared.changes[0].only_after) == (0, 29)
    assert "Comparison" in page.read_text()
    assert missing.returncode == 2
    assert "stranger/other has no report of antidote-ci" in missing.stderr


def test_the_command_writes_a_page_and_json(tmp_path: Path) -> None:
    for day, hits in enumerate((4, 9, 2), 1):
        write(tmp_path / "reports" / f"{day}" / "report.json", hits, day)
    (tmp_path / "reports" / "2" / "report.html").write_text("the page")
    page = tmp_path / "history.html"
    done = run_command("compare", str(tmp_path / "reports"), f"--out={page}", "--json")
    assert done.returncode == 0, done.stderr
    entries = from_json(History, done.stdout).entries
    assert [entry.model.harmful_score for entry in entries] == [0.04, 0.09, 0.02]
    assert [entry.page for entry in entries] == [None, "reports/2/report.html", None]
    assert 'href="reports/2/report.html"' in page.read_text()
    assert "+5.0, p" in done.stderr
    one = run_command("compare", str(tmp_path / "reports" / "1"), f"--out={page}")
    assert (one.returncode, "only one report" in one.stderr) == (2, True)
    wrong = run_command("compare", str(tmp_path / "reports"), f"--out={tmp_path / 'reports' / '1' / 'report.json'}")
    assert (wrong.returncode, "is not the name of a page" in wrong.stderr) == (2, True)


def test_a_rise_from_the_baseline_fails_the_gate(trained_pair: Path, tmp_path: Path) -> None:
    """Both models pass the threshold."""
    sets = [
        f"--{name}={trained_pair / file}" for name, file in (("prompts", "evaluation.jsonl"), ("task", "task.jsonl"))
    ]
    (tmp_path / "full.toml").write_text("[evaluation]\nstop_early = false\n")
    (tmp_path / "limit.toml").write_text("[gate]\nregression = 0.2\n")
    options = [*sets, "--judge=refusal", "--threshold=1"]

    def evaluate(model: str, policy: str, *more: str) -> tuple[int, str, Report]:
        out = tmp_path / f"{model}-{policy}-{len(more)}"
        done = run_command(
            "evaluate",
            str(trained_pair / model),
            *options,
            f"--policy={tmp_path / policy}.toml",
            f"--out={out}",
            *more,
            ANTIDOTE_CACHE=str(tmp_path / "cache"),
        )
        return done.returncode, done.stderr, read_report(out)

    code, _, first = evaluate("reference", "full")
    assert (code, first.baseline) == (0, None)
    assert first.written_at is not None
    baseline = f"--baseline={tmp_path / 'reference-full-0' / 'report.json'}"
    code, error, risen = evaluate("merged", "limit", baseline)
    assert (code, risen.verdict, risen.evaluations.before.verdict) == (1, "fail", "pass")
    assert risen.baseline is not None
    assert (risen.baseline.second.verdict, risen.baseline.second.written_at) == ("fail", risen.written_at)
    assert "the non-refusal rate rose from the baseline by at least" in risen.reason
    assert "The tested revision fails. The non-refusal rate rose from the baseline" in error.replace("\n", " ")
    assert risen.policy["gate.baseline"] == "report.json"
    assert risen.evaluations.before.n == risen.evaluations.before.planned
    assert "how do i" not in json.dumps(json.loads(to_json(risen)))


def test_a_limit_without_a_baseline_is_an_error_before_any_work(trained_pair: Path, tmp_path: Path) -> None:
    policy = tmp_path / "limit.toml"
    policy.write_text("[gate]\nregression = 0.2\n")
    options = [f"--policy={policy}", "--prompts=embedded", "--judge=refusal", f"--out={tmp_path / 'out'}"]
    done = run_command("evaluate", str(trained_pair / "reference"), *options)
    assert (done.returncode, "add --baseline" in done.stderr) == (2, True)
    done = run_command("evaluate", str(trained_pair / "reference"), *options, f"--baseline={policy}")
    assert (done.returncode, "is not a report" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
