"""One run as a child process: what it is given, how it ends, and what becomes of one that was left behind."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci import records
from antidote_ci.errors import ConfigurationError, InfrastructureError, Terminated
from antidote_ci.policy import Policy, override_section, read_policy
from antidote_ci.service import executor
from antidote_ci.service.records import RunOutcome, RunRequest, RunTask
from antidote_ci.service.settings import RunSettings
from tests.report.samples import BARE, FAILED, INCONCLUSIVE, REPAIRED
from tests.service.service_process import ServiceProcess, commit, is_alive

ORDER = RunRequest("org/model", commit(1), Policy().sha256())
TASK = RunTask(ORDER, "run")


def prepared(service: ServiceProcess) -> RunSettings:
    service.settings.folder.mkdir(exist_ok=True)
    service.settings.write_policy()
    return service.settings


def in_thread(task: RunTask, settings: RunSettings, stopping: threading.Event) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(executor.execute_run(task, settings, stopping))
        except Terminated:
            found.append("terminated")

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


@pytest.mark.parametrize(("report", "code"), [(BARE, 0), (REPAIRED, 0), (REPAIRED, 7), (FAILED, 1), (INCONCLUSIVE, 4)])
def test_verdict_is_the_reports(service: ServiceProcess, report: records.Report, code: int) -> None:
    """The exit code says that there is one, the report which."""
    service.write(report=records.to_json(report))
    service.runs(codes=[code])
    outcome = executor.execute_run(TASK, prepared(service))
    assert (outcome.state, outcome.reason, outcome.exit_code) == (report.verdict, report.reason, code)
    assert outcome.report is not None
    assert (service.settings.folder / outcome.report / "report.json").is_file()
    assert not executor.is_retryable(outcome)


@pytest.mark.parametrize("changes", [{"policy_sha256": "0" * 64}, {"source": REPAIRED.source}, {"exit_code": 0}])
def test_a_report_of_other_work_is_none(service: ServiceProcess, changes: dict[str, object]) -> None:
    """Of another policy, another commit, or an end that the process did not come to."""
    settings = prepared(service)
    source = dataclasses.replace(REPAIRED.source, revision=ORDER.revision)
    right = dataclasses.replace(REPAIRED, source=source, policy_sha256=ORDER.policy, exit_code=7)
    service.runs(codes=[7], another=True)
    service.write(report=records.to_json(right))
    assert executor.execute_run(TASK, settings).state == "repaired"
    service.write(report=records.to_json(dataclasses.replace(right, **changes)))  # type: ignore[arg-type]
    assert executor.execute_run(TASK, settings).state == "error"


@pytest.mark.parametrize(("code", "again"), [(2, False), (6, False), (3, True), (5, True), (-9, True), (143, True)])
def test_other_ends_are_errors(service: ServiceProcess, code: int, again: bool) -> None:
    """A report that an earlier attempt left is not taken for this one's."""
    settings = prepared(service)
    executor.execute_run(TASK, settings)
    service.runs(codes=[code], says="the Hub answered with nonsense")
    outcome = executor.execute_run(TASK, settings)
    assert outcome == RunOutcome("error", "the Hub answered with nonsense", code, seconds=outcome.seconds)
    assert executor.is_retryable(outcome) is again


def test_an_earlier_attempts_error_is_not_the_reason_of_the_last(service: ServiceProcess) -> None:
    """Both are in one log."""
    settings = prepared(service)
    service.runs(codes=[3, -9], says="the Hub answered with nonsense")
    assert executor.execute_run(TASK, settings).reason == "the Hub answered with nonsense"
    service.runs(says="")
    assert executor.execute_run(TASK, settings).reason == "the run ended with signal 9 and left no report"
    assert (executor.run_folder(ORDER, settings) / "log.txt").read_text().count("this is the log") == 2


@pytest.mark.parametrize("report", ["", "{}", "null", '{"verdict": "pass"}'])
def test_verdict_without_a_report_is_none(service: ServiceProcess, report: str) -> None:
    """An exit code alone would be believed of anything."""
    service.write(report=report)
    outcome = executor.execute_run(TASK, prepared(service))
    assert (outcome.state, outcome.reason) == ("error", "the run ended with exit 0 and left no report")


def test_child_gets_what_it_needs_and_no_secret_of_the_service(service: ServiceProcess) -> None:
    """Tokens as they are; neither the service's own secrets nor options that would change the policy."""
    given = {
        "HF_TOKEN": "hf_read",
        "HF_WRITE_TOKEN": "hf_write",
        "HF_JOBS_TOKEN": "hf_jobs",
        "ANTIDOTE_JUDGE_KEY": "key",
        "ANTIDOTE_CACHE": "cache",
    }
    kept = {
        "ANTIDOTE_WEBHOOK_SECRET": "s" * 32,
        "ANTIDOTE_PUBLISH": "repo",
    }
    assert executor.child_environment(given | kept) == given
    executor.execute_run(TASK, prepared(service))
    started = service.started(ORDER.revision)
    folder = executor.run_folder(ORDER, service.settings)
    policy = str(service.settings.policy_file.absolute())
    assert started["arguments"] == [
        *("run", "org/model", "--revision", ORDER.revision, "--policy", policy, "--out", str(folder / "out"))
    ]
    assert not any(name.startswith("ANTIDOTE_") and name != "ANTIDOTE_CACHE" for name in started["environment"])
    assert "this is the log" in (folder / "log.txt").read_text()


def test_jobs_are_the_same_child(service: ServiceProcess) -> None:
    """Where it happens is one more argument."""
    here = executor.child_arguments(TASK, service.settings)
    there = executor.child_arguments(TASK, dataclasses.replace(service.settings, on="hf-jobs"))
    assert there == [*here, "--on", "hf-jobs"]
    assert executor.child_arguments(RunTask(ORDER, "evaluate"), service.settings)[-8] == "evaluate"


def test_an_edit_of_a_file_that_the_policy_names_waits_for_the_next_start(tmp_path: Path) -> None:
    """Else every verdict after it would be one under another policy."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("old")
    asked = override_section(Policy(), "evaluation", prompts=str(rows))
    settings = RunSettings(asked, tmp_path / "service")
    settings.folder.mkdir()
    settings.write_policy()
    order = settings.policy_sha256
    rows.write_text("new")
    assert read_policy(settings.policy_file).sha256() == order
    assert override_section(asked, "evaluation", prompts=str(rows)).sha256() != order
    rows.unlink()
    with pytest.raises(ConfigurationError, match=r"rows\.jsonl"):
        settings.write_policy()


def test_our_own_command_line_is_what_runs(tmp_path: Path) -> None:
    """With nothing to stand in for it: no Hub answers, and the reason is the one that it gives."""
    settings = RunSettings(Policy(), tmp_path / "service")
    settings.folder.mkdir()
    settings.write_policy()
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_PATIENCE": "1", "HF_HOME": str(tmp_path)}
    script = (
        "from pathlib import Path; from antidote_ci.policy import Policy; from antidote_ci.service import executor\n"
        "from antidote_ci.service.records import *; from antidote_ci.service.settings import RunSettings\n"
        f"order = RunRequest('org/model', '{commit(1)}', '{settings.policy_sha256}')\n"
        f"print(executor.execute_run(RunTask(order, 'run'), RunSettings(Policy(), Path({str(settings.folder)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | dead, capture_output=True, text=True, timeout=60, check=True
    )
    assert "state='error'" in done.stdout
    assert "exit_code=3" in done.stdout
    assert "127.0.0.1:9" in done.stdout


def test_weights_go_once_they_are_published(service: ServiceProcess) -> None:
    """Every order would leave a copy otherwise; what was not published stays."""
    settings = prepared(service)
    weights = executor.run_folder(ORDER, settings) / "out" / "model"
    for url in (None, "https://hub.example/org/model/discussions/1"):
        publish = dataclasses.replace(REPAIRED.publish, url=url)
        service.write(report=records.to_json(dataclasses.replace(REPAIRED, publish=publish)))
        assert executor.execute_run(TASK, settings).url == url
        assert weights.is_dir() is (url is None)


def test_stopping_ends_the_child_and_not_the_order(service: ServiceProcess) -> None:
    """It hears SIGTERM, so that it leaves what the next attempt goes on with."""
    service.runs(seconds=60)
    stopping = threading.Event()
    thread, found = in_thread(TASK, prepared(service), stopping)
    pid = service.started(ORDER.revision)["pid"]
    assert os.getpriority(os.PRIO_PROCESS, pid) >= executor.NICE
    stopping.set()
    thread.join(10)
    assert found == ["terminated"]
    assert [each["pid"] for each in service.ledger("terminated")] == [pid]
    assert not is_alive(pid)


def test_end_that_came_just_before_the_signal_counts(service: ServiceProcess) -> None:
    """Nothing that was done is done again."""
    service.runs(seconds=1, deaf=True)
    stopping = threading.Event()
    thread, found = in_thread(TASK, prepared(service), stopping)
    service.started(ORDER.revision)
    stopping.set()
    thread.join(10)
    assert isinstance(found[0], RunOutcome)
    assert found[0].state == "repaired"


@pytest.mark.parametrize("deaf", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_child_of_a_killed_service_is_ended_before_its_successor_begins(service: ServiceProcess, deaf: bool) -> None:
    """No two ever work in one folder."""
    service.runs(seconds=60, deaf=deaf)
    settings = prepared(service)
    script = (
        "import sys; from pathlib import Path; from tests.service.service_process import *\n"
        "from antidote_ci.service import executor\n"
        f"settings = settings_of(Path({str(service.folder)!r}), Policy())\n"
        f"executor.execute_run(RunTask(RunRequest('org/model', '{ORDER.revision}', '{ORDER.policy}'), 'run'), settings)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    left = service.started(ORDER.revision)["pid"]
    parent.kill()
    parent.wait()
    assert is_alive(left)
    service.runs(seconds=0.1)
    assert executor.execute_run(TASK, settings).state == "repaired"
    first, second = service.ledger("start")
    ended = service.ledger("terminated")[0]["at"]
    assert not is_alive(left)
    assert first["at"] < ended < second["at"]


def test_leftovers_are_ended_whatever_the_queue_says(service: ServiceProcess) -> None:
    """Of orders that will not be gone on with, too; folders in which nobody works are left as they are."""
    service.runs(seconds=60)
    settings = prepared(service)
    folder = executor.run_folder(ORDER, settings)
    folder.mkdir(parents=True)
    (folder / "lock").write_text(str(os.getpid()))  # an old number, which is another's by now
    other = RunTask(RunRequest("org/model", commit(2), ORDER.policy), "run")
    script = (
        "from pathlib import Path; from tests.service.service_process import *\n"
        "from antidote_ci.service import executor\n"
        f"settings = settings_of(Path({str(service.folder)!r}), Policy())\n"
        f"executor.execute_run(RunTask(RunRequest('org/model', '{commit(2)}', '{ORDER.policy}'), 'run'), settings)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    left = service.started(other.request.revision)["pid"]
    parent.kill()
    parent.wait()
    executor.end_orphans(settings)
    assert not is_alive(left)
    assert [each["pid"] for each in service.ledger("terminated")] == [left]


def test_command_that_is_not_there(service: ServiceProcess) -> None:
    """An error of the machine, in our words."""
    settings = dataclasses.replace(prepared(service), command=("/nowhere/antidote-ci",))
    with pytest.raises(InfrastructureError, match="cannot be started"):
        executor.execute_run(TASK, settings)


@given(st.text(min_size=1, max_size=200), st.text(max_size=60))
def test_folder_of_a_run_is_one_name_of_its_own(repository: str, revision: str) -> None:
    """Whatever a repository is called: no way out, and no two orders in one."""
    settings = RunSettings(Policy(), Path("/service"))
    order = RunRequest(repository, "".join(c for c in revision if c in "0123456789abcdef"), "p" * 64)
    folder = executor.run_folder(order, settings)
    assert folder.parent == Path("/service/runs")
    assert len(folder.name) < 120
    assert folder.resolve() == folder
    assert executor.run_folder(dataclasses.replace(order, policy="q" * 64), settings) != folder
