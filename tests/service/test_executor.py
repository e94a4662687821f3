"""A run as a child process: arguments, environment, outcomes, shutdown and orphans."""

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
from antidote_ci.service.settings import ServiceSettings
from tests.report.samples import BARE, FAILED, INCONCLUSIVE, REPAIRED
from tests.service.service_process import SECRET, ServiceProcess, commit, is_alive

REQUEST = RunRequest("org/model", commit(1), Policy().sha256())
TASK = RunTask(REQUEST, "run")


def prepared(service: ServiceProcess) -> ServiceSettings:
    service.settings.folder.mkdir(exist_ok=True)
    service.settings.write_policy()
    return service.settings


def abandon_run(service: ServiceProcess, request: RunRequest) -> int:
    """Start a run from a process that is killed then. Returns the process id of the run, which is still alive."""
    script = (
        "from pathlib import Path; from tests.service.service_process import *\n"
        "from antidote_ci.service import executor\n"
        f"settings = settings_of(Path({str(service.folder)!r}), Policy())\n"
        f"request = RunRequest('org/model', '{request.revision}', '{request.policy}')\n"
        "executor.execute_run(RunTask(request, 'run'), settings)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    left: int = service.started(request.revision)["pid"]
    parent.kill()
    parent.wait()
    assert is_alive(left)
    return left


def in_thread(
    task: RunTask, settings: ServiceSettings, stopping: threading.Event
) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def run() -> None:
        try:
            results.append(executor.execute_run(task, settings, stopping))
        except Terminated:
            results.append("terminated")

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


@pytest.mark.parametrize(("report", "code"), [(BARE, 0), (REPAIRED, 0), (REPAIRED, 7), (FAILED, 1), (INCONCLUSIVE, 4)])
def test_verdict_comes_from_the_report(service: ServiceProcess, report: records.Report, code: int) -> None:
    """The exit code only says that there is a verdict."""
    service.write(report=records.to_json(report))
    service.runs(codes=[code])
    outcome = executor.execute_run(TASK, prepared(service))
    assert (outcome.state, outcome.reason, outcome.exit_code) == (report.verdict, report.reason, code)
    assert outcome.report is not None
    assert (service.settings.folder / outcome.report / "report.json").is_file()
    assert not executor.is_retryable(outcome)


@pytest.mark.parametrize("changes", [{"policy_sha256": "0" * 64}, {"source": REPAIRED.source}, {"exit_code": 0}])
def test_report_of_other_work_is_ignored(service: ServiceProcess, changes: dict[str, object]) -> None:
    """Another policy, another commit, or another exit code."""
    settings = prepared(service)
    source = dataclasses.replace(REPAIRED.source, revision=REQUEST.revision)
    right = dataclasses.replace(REPAIRED, source=source, policy_sha256=REQUEST.policy, exit_code=7)
    service.runs(codes=[7], another=True)
    service.write(report=records.to_json(right))
    assert executor.execute_run(TASK, settings).state == "repaired"
    service.write(report=records.to_json(dataclasses.replace(right, **changes)))  # type: ignore[arg-type]
    assert executor.execute_run(TASK, settings).state == "error"


@pytest.mark.parametrize(("code", "retryable"), [(2, False), (6, False), (3, True), (5, True), (-9, True), (143, True)])
def test_other_exit_codes_are_errors(service: ServiceProcess, code: int, retryable: bool) -> None:
    """The report of an earlier attempt is ignored."""
    settings = prepared(service)
    executor.execute_run(TASK, settings)
    service.runs(codes=[code], says="the Hub answered with nonsense")
    outcome = executor.execute_run(TASK, settings)
    assert outcome == RunOutcome("error", "the Hub answered with nonsense", code, seconds=outcome.seconds)
    assert executor.is_retryable(outcome) is retryable


def test_reason_is_the_error_of_the_last_attempt(service: ServiceProcess) -> None:
    """All attempts write to one log."""
    settings = prepared(service)
    service.runs(codes=[3, -9], says="the Hub answered with nonsense")
    assert executor.execute_run(TASK, settings).reason == "the Hub answered with nonsense"
    service.runs(says="")
    assert executor.execute_run(TASK, settings).reason == "the run ended with signal 9 and left no report"
    assert (executor.run_folder(REQUEST, settings) / "log.txt").read_text().count("this is the log") == 2


@pytest.mark.parametrize("report", ["", "{}", "null", '{"verdict": "pass"}'])
def test_exit_code_without_a_report_is_an_error(service: ServiceProcess, report: str) -> None:
    service.write(report=report)
    outcome = executor.execute_run(TASK, prepared(service))
    assert (outcome.state, outcome.reason) == ("error", "the run ended with exit 0 and left no report")


def test_child_environment(service: ServiceProcess) -> None:
    """Tokens are passed on; secrets of the service and options that would change the policy are not."""
    passed = {
        "HF_TOKEN": "hf_read",
        "HF_WRITE_TOKEN": "hf_write",
        "HF_JOBS_TOKEN": "hf_jobs",
        "ANTIDOTE_JUDGE_KEY": "key",
    }
    removed = {
        "ANTIDOTE_WEBHOOK_SECRET": "s" * 32,
        "ANTIDOTE_PUBLISH": "repo",
    }
    cache = str(service.settings.folder.absolute() / "answers" / "org")
    assert executor.child_environment(passed | removed, REQUEST, service.settings) == passed | {"ANTIDOTE_CACHE": cache}
    executor.execute_run(TASK, prepared(service))
    started = service.started(REQUEST.revision)
    folder = executor.run_folder(REQUEST, service.settings)
    policy = str(service.settings.policy_file.absolute())
    assert started["arguments"] == [
        *("run", "org/model", "--revision", REQUEST.revision, "--policy", policy, "--out", str(folder / "out"))
    ]
    assert not any(name.startswith("ANTIDOTE_") and name != "ANTIDOTE_CACHE" for name in started["environment"])
    assert "this is the log" in (folder / "log.txt").read_text()


def test_every_owner_has_an_answer_cache_of_its_own(service: ServiceProcess) -> None:
    def cache(repository: str, environ: dict[str, str]) -> str:
        request = dataclasses.replace(REQUEST, repository=repository)
        return executor.child_environment(environ, request, service.settings)["ANTIDOTE_CACHE"]

    assert cache("org/model", {}) == cache("Org/another", {}) != cache("other/model", {})
    assert cache("org/model", {"ANTIDOTE_CACHE": "/disk"}) == "/disk/org"


@pytest.mark.parametrize("plant", ["link", "hard link"])
def test_planted_log_is_made_anew(service: ServiceProcess, plant: str) -> None:
    """The log of a run is opened for every attempt."""
    settings, victim = prepared(service), service.folder / "victim"
    victim.write_text("mine")
    log = executor.run_folder(REQUEST, settings) / "log.txt"
    log.parent.mkdir(parents=True)
    log.symlink_to(victim) if plant == "link" else log.hardlink_to(victim)
    assert executor.execute_run(TASK, settings).report is not None
    assert victim.read_text() == "mine"
    assert not log.is_symlink()
    assert "this is the log" in log.read_text()


@pytest.mark.parametrize("planted", ["runs", "run", "lock"])
def test_linked_folder_or_lock_of_a_run_is_refused(service: ServiceProcess, planted: str) -> None:
    settings, elsewhere = prepared(service), service.folder / "elsewhere"
    elsewhere.mkdir()
    run = executor.run_folder(REQUEST, settings)
    link = {"runs": run.parent, "run": run, "lock": run / "lock"}[planted]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / "lock" if planted == "lock" else elsewhere)
    executor.end_orphans(settings)
    with pytest.raises((ConfigurationError, OSError)):
        executor.execute_run(TASK, settings)
    assert not list(elsewhere.iterdir())


def test_linked_report_is_no_report(service: ServiceProcess) -> None:
    settings = prepared(service)
    assert executor.execute_run(TASK, settings).report is not None
    report = executor.run_folder(REQUEST, settings) / "out" / "report.json"
    report.rename(service.folder / "elsewhere.json")
    report.symlink_to(service.folder / "elsewhere.json")
    assert executor.load_report(REQUEST, settings, 0) is None


def test_policy_is_not_written_through_links(service: ServiceProcess, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    settings = service.settings
    settings.folder.mkdir()
    settings.policy_file.with_suffix(".part").symlink_to(victim)
    settings.write_policy()
    assert victim.read_text() == "mine"
    assert read_policy(settings.policy_file) == settings.policy


def test_on_hf_jobs_adds_one_argument(service: ServiceProcess) -> None:
    local = executor.child_arguments(TASK, service.settings)
    job = executor.child_arguments(TASK, dataclasses.replace(service.settings, on="hf-jobs"))
    assert job == [*local, "--on", "hf-jobs"]
    assert executor.child_arguments(RunTask(REQUEST, "evaluate"), service.settings)[-8] == "evaluate"


def test_policy_files_are_copied_at_the_start(tmp_path: Path) -> None:
    """An edit would otherwise change the policy of later runs."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("old")
    policy = override_section(Policy(), "evaluation", prompts=str(rows))
    settings = ServiceSettings(policy, tmp_path / "service", ("org/*",), SECRET)
    settings.folder.mkdir()
    settings.write_policy()
    sha256 = settings.policy_sha256
    rows.write_text("new")
    assert read_policy(settings.policy_file).sha256() == sha256
    assert override_section(policy, "evaluation", prompts=str(rows)).sha256() != sha256
    rows.unlink()
    with pytest.raises(ConfigurationError, match=r"rows\.jsonl"):
        settings.write_policy()


def test_real_command_line_is_started(tmp_path: Path) -> None:
    """The Hub is unreachable, and the outcome contains the error of the command."""
    settings = ServiceSettings(Policy(), tmp_path / "service", ("org/*",), SECRET)
    settings.folder.mkdir()
    settings.write_policy()
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "1", "HF_HOME": str(tmp_path)}
    script = (
        "from pathlib import Path; from antidote_ci.policy import Policy; from antidote_ci.service import executor\n"
        "from antidote_ci.service.records import *; from antidote_ci.service.settings import ServiceSettings\n"
        f"request = RunRequest('org/model', '{commit(1)}', '{settings.policy_sha256}')\n"
        f"settings = ServiceSettings(Policy(), Path({str(settings.folder)!r}), (), '')\n"
        "print(executor.execute_run(RunTask(request, 'run'), settings))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | dead, capture_output=True, text=True, timeout=60, check=True
    )
    assert "state='error'" in done.stdout
    assert "exit_code=3" in done.stdout
    assert "127.0.0.1:9" in done.stdout


def test_published_weights_are_removed(service: ServiceProcess) -> None:
    """Weights that were not published stay."""
    settings = prepared(service)
    weights = executor.run_folder(REQUEST, settings) / "out" / "model"
    for url in (None, "https://hub.example/org/model/discussions/1"):
        publish = dataclasses.replace(REPAIRED.publish, url=url)
        service.write(report=records.to_json(dataclasses.replace(REPAIRED, publish=publish)))
        assert executor.execute_run(TASK, settings).url == url
        assert weights.is_dir() is (url is None)


def test_stopping_ends_the_child(service: ServiceProcess) -> None:
    """The child gets SIGTERM, so that the next attempt can continue its work."""
    service.runs(seconds=60)
    stopping = threading.Event()
    thread, results = in_thread(TASK, prepared(service), stopping)
    pid = service.started(REQUEST.revision)["pid"]
    assert os.getpriority(os.PRIO_PROCESS, pid) >= executor.NICE
    stopping.set()
    thread.join(10)
    assert results == ["terminated"]
    assert [entry["pid"] for entry in service.ledger("terminated")] == [pid]
    assert not is_alive(pid)


def test_verdict_just_before_the_signal_counts(service: ServiceProcess) -> None:
    service.runs(seconds=1, deaf=True)
    stopping = threading.Event()
    thread, results = in_thread(TASK, prepared(service), stopping)
    service.started(REQUEST.revision)
    stopping.set()
    thread.join(10)
    assert isinstance(results[0], RunOutcome)
    assert results[0].state == "repaired"


@pytest.mark.parametrize("deaf", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_orphan_is_ended_before_the_run_is_repeated(service: ServiceProcess, deaf: bool) -> None:
    service.runs(seconds=60, deaf=deaf)
    settings = prepared(service)
    left = abandon_run(service, REQUEST)
    service.runs(seconds=0.1)
    assert executor.execute_run(TASK, settings).state == "repaired"
    first, second = service.ledger("start")
    ended = service.ledger("terminated")[0]["at"]
    assert not is_alive(left)
    assert first["at"] < ended < second["at"]


def test_all_orphans_are_ended_at_the_start(service: ServiceProcess) -> None:
    """Including those of requests that are not repeated. Folders without a process are left alone."""
    service.runs(seconds=60)
    settings = prepared(service)
    folder = executor.run_folder(REQUEST, settings)
    folder.mkdir(parents=True)
    (folder / "lock").write_text(str(os.getpid()))  # an old process id, which another process has now
    left = abandon_run(service, RunRequest("org/model", commit(2), REQUEST.policy))
    executor.end_orphans(settings)
    assert not is_alive(left)
    assert [entry["pid"] for entry in service.ledger("terminated")] == [left]


def test_missing_command(service: ServiceProcess) -> None:
    settings = dataclasses.replace(prepared(service), command=("/nowhere/antidote-ci",))
    with pytest.raises(InfrastructureError, match="cannot be started"):
        executor.execute_run(TASK, settings)


@given(st.text(min_size=1, max_size=200), st.text(max_size=60))
def test_run_folder_is_a_unique_safe_name(repository: str, revision: str) -> None:
    settings = ServiceSettings(Policy(), Path("/service"), ("org/*",), SECRET)
    request = RunRequest(repository, "".join(c for c in revision if c in "0123456789abcdef"), "p" * 64)
    folder = executor.run_folder(request, settings)
    assert folder.parent == Path("/service/runs")
    assert len(folder.name) < 120
    assert folder.resolve() == folder
    assert executor.run_folder(dataclasses.replace(request, policy="q" * 64), settings) != folder
