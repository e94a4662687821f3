"""`--on hf-jobs` with the real client against a loopback Hub: requests, output, and every way a Job can end."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from antidote_ci import records
from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError
from antidote_ci.jobs import job_estimate, job_results, submit
from antidote_ci.jobs.transfer import TOKEN_VARIABLE
from antidote_ci.pipeline.output import LOCK_FILE, lock_output
from antidote_ci.policy import RunConfig, override_section
from antidote_ci.records import Report, ReportedSource
from antidote_ci.report.console import Console
from loopback_hub import LoopbackHub
from loopback_hub.faults import Fault, FaultInjector, FaultKind
from loopback_hub.records import StoredJob
from tests.jobs.conftest import MODEL, TOKENS, HoldImage
from tests.report import samples


@dataclass(frozen=True)
class LogFaults(FaultInjector):
    """Faults for the first requests of a log."""

    kinds: list[FaultKind] = field(default_factory=list)

    def pick(self, number: int, method: str, path: str) -> Fault | None:  # noqa: ARG002
        return Fault(self.kinds.pop(0), 0.3) if path.endswith("/logs") and self.kinds else None


@dataclass(frozen=True)
class LostAnswer(FaultInjector):
    """The first Job is started, and its answer is lost."""

    asked: list[str] = field(default_factory=list)

    def pick(self, number: int, method: str, path: str) -> Fault | None:  # noqa: ARG002
        if method != "POST" or self.asked:
            return None
        self.asked.append(path)
        return Fault("gateway timed out after all was done", 0.5)


def report_for(config: RunConfig, hub: LoopbackHub, sample: Report = samples.NOT_REPAIRED, **changed: object) -> Report:
    """A report of the run that `config` describes."""
    revision = hub.store.commit(MODEL, "main").revision
    report = replace(
        sample,
        source=ReportedSource(MODEL, revision, "full"),
        policy_sha256=config.policy.sha256(),
        publish=records.PublishResult("none"),
    )
    return replace(report, **changed)  # type: ignore[arg-type]


def job_of(hub: LoopbackHub, namespace: str = "ada") -> StoredJob:
    [job] = hub.store.jobs.list_jobs(namespace)
    return job


@pytest.fixture
def reporting(tmp_path: Path, fake_image: HoldImage) -> Callable[[Report, int], None]:
    """Make the image send a report and end with an exit code."""

    def send(report: Report, exit_code: int) -> None:
        (tmp_path / "sent.json").write_text(records.to_json(report))
        fake_image("report", f"{exit_code}:{tmp_path / 'sent.json'}")

    return send


def failed(config: RunConfig) -> AntidoteError:
    """The error of a Job that fails."""
    with pytest.raises(AntidoteError) as raised:
        submit.run_as_job("evaluate", config, Console())
    assert raised.value.cause
    assert raised.value.hint
    assert {path.name for path in config.out.glob("*")} <= {LOCK_FILE}, "a Job without a verdict leaves no report"
    return raised.value


def test_report_of_the_job_is_written(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = report_for(config, hub)
    reporting(expected, 1)
    report = submit.run_as_job("evaluate", config, Console())
    assert report == expected == records.from_json(Report, (config.out / "report.json").read_bytes())
    names = {"report.json", "report.html", "summary.md", "README.md", "badge.json", LOCK_FILE}
    assert {path.name for path in config.out.iterdir()} == names
    assert (config.out / "README.md").read_text() == "# card\n"
    job, output = job_of(hub), capsys.readouterr().err
    assert job.spec.command[:2] == ["antidote-ci", "evaluate"]
    assert (job.spec.timeout, job.spec.flavor, job.spec.image) == (7200, "t4-small", "ghcr.io/org/antidote-ci:1")
    assert f"/jobs/ada/{job.id}; Ctrl-C cancels it" in output
    assert "about $0.02 for 3 min, paid by ada" in output
    assert "$0.80: the Job times out after 2 h" in output
    assert [f"  | line {number}" in output for number in range(20)] == [True] * 20
    assert job.spec.environment[TOKEN_VARIABLE] not in output


def test_the_output_folder_serves_one_run_at_a_time(hub: LoopbackHub, config: RunConfig) -> None:
    with lock_output(config.out), pytest.raises(ConfigurationError, match="used by a run that has not ended"):
        submit.run_as_job("evaluate", config, Console())
    assert not hub.store.jobs.list_jobs("ada"), "nothing was paid for"


def test_policy_sets_image_flavor_timeout_and_namespace(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    policy = override_section(config.policy, "jobs", image="mine:2", flavor="l4x1", timeout="90m", namespace="org")
    config = replace(config, policy=policy)
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    job = job_of(hub, "org")
    assert (job.spec.image, job.spec.flavor, job.spec.timeout, job.initiator) == ("mine:2", "l4x1", 5400, "ada")


def test_estimate_starts_nothing(hub: LoopbackHub, config: RunConfig) -> None:
    policy = override_section(config.policy, "jobs", flavor="h200", timeout="3h")
    found = submit.estimate_job("run", replace(config, policy=policy))
    assert (found.flavor, found.namespace) == ("h200", "ada")
    assert found.dollars_at_most == pytest.approx(15.0, abs=0.01)
    assert found.dollars == pytest.approx(5 * found.seconds / 3600, abs=0.01)
    assert found.forecast.answers > submit.estimate_job("evaluate", config).forecast.answers
    assert hub.store.jobs.list_jobs("ada") == []
    assert not any(request.startswith("POST /api/jobs") for request in hub.requests)


def test_dry_run_describes_the_cost(hub: LoopbackHub, config: RunConfig) -> None:
    lines = "\n".join(job_estimate.describe_dry_run(submit.estimate_job("run", config)))
    assert "t4-small (Nvidia T4 - small, 16 GB on the GPU, $0.40 an hour)" in lines
    assert "publish    none; repaired weights are lost when the Job ends" in lines
    lines = "\n".join(job_estimate.describe_dry_run(submit.estimate_job("evaluate", config)))
    assert lines.endswith("publish    none")
    assert "repair" not in lines
    assert hub.store.jobs.list_jobs("ada") == []


def test_estimate_includes_the_base_of_an_adapter(
    hub: LoopbackHub, config: RunConfig, tiny_adapter: Path, tiny_llama: Path
) -> None:
    hub.add("org/adapter", tiny_adapter)
    hub.add("antidote-ci/tiny-reference", tiny_llama)
    whole = submit.estimate_job("evaluate", config).forecast
    adapter = submit.estimate_job("evaluate", replace(config, model="org/adapter")).forecast
    assert adapter.reference == "antidote-ci/tiny-reference"
    assert adapter.gpu_memory_bytes == whole.gpu_memory_bytes


def test_job_gets_only_its_secrets(
    hub: LoopbackHub, config: RunConfig, fake_image: HoldImage, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_image("names")
    failed(config)
    output = capsys.readouterr().err
    assert "ANTIDOTE_JOB_FILES ANTIDOTE_JOB_TOKEN HF_ENDPOINT HF_HUB_DISABLE_XET HF_TOKEN\n" in output
    for token in TOKENS.values():
        assert token not in output
        assert token not in str(job_of(hub))


def test_report_notes_lost_weights(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    reporting(report_for(config, hub, samples.REPAIRED, exit_code=7), 7)
    report = submit.run_as_job("run", config, Console())
    assert report.verdict == "repaired"
    assert report.publish.notes == (job_results.WEIGHTS_LOST_NOTE,)
    assert "lost when it ended" in (config.out / "report.html").read_text()
    assert records.from_json(Report, (config.out / "report.json").read_bytes()) == report


def test_published_repair_has_no_note(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_WRITE_TOKEN", "hf_adaWritesWithThisToken")
    config = replace(config, policy=override_section(config.policy, "publish", mode="pull-request"))
    published = records.PublishResult("pull-request", f"{hub.endpoint}/{MODEL}/discussions/1", "a" * 40, MODEL)
    expected = report_for(config, hub, samples.REPAIRED, exit_code=0, publish=published)
    reporting(expected, 0)
    assert submit.run_as_job("run", config, Console()) == expected


@pytest.mark.parametrize("code", [2, 3, 5, 6])
def test_exit_code_of_the_command_is_kept(
    hub: LoopbackHub, config: RunConfig, fake_image: HoldImage, code: int
) -> None:
    fake_image("error", str(code))
    error = failed(config)
    assert error.exit_code == code
    assert error.what == f"the command ended with {code} in the Job {job_of(hub).id}"


def test_publish_conflict_keeps_the_report(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    reporting(report_for(config, hub, samples.REPAIRED, exit_code=0), 5)
    with pytest.raises(AntidoteError) as raised:
        submit.run_as_job("run", config, Console())
    assert raised.value.exit_code == 5
    assert records.from_json(Report, (config.out / "report.json").read_bytes()).publish.notes == (
        job_results.WEIGHTS_LOST_NOTE,
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nothing"], "ended without a report"),
        (["killed"], "ended without a report"),
        (["killed inside"], "the command was killed"),
        (["error", "0"], "is not of this run: it left no report.json"),
    ],
)
def test_wrong_image(
    hub: LoopbackHub,
    config: RunConfig,
    fake_image: HoldImage,
    words: list[str],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submit, "MAX_LOG_READS", 2)
    fake_image(*words)
    error = failed(config)
    assert isinstance(error, InfrastructureError)
    assert what in error.what


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"source": ReportedSource("org/other", "a" * 40, "full")}, "the model is org/other"),
        ({"source": ReportedSource(MODEL, "a" * 40, "full")}, "the commit is aaaa"),
        ({"policy_sha256": "b" * 64}, "the policy is bbbb"),
    ],
)
def test_report_of_other_work_is_refused(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    changed: dict[str, object],
    what: str,
) -> None:
    reporting(report_for(config, hub, samples.NOT_REPAIRED, **changed), 0)
    assert what in failed(config).what


def test_job_times_out(hub: LoopbackHub, config: RunConfig, fake_image: HoldImage) -> None:
    fake_image("sleep")
    config = replace(config, policy=override_section(config.policy, "jobs", timeout="1s"))
    assert "timed out after 1 s" in failed(config).what


def test_job_that_never_starts(hub: LoopbackHub, config: RunConfig) -> None:
    hub.store.jobs.broken_images["ghcr.io/org/antidote-ci:1"] = "Failed to pull image: not found"
    assert "could not pull its image ghcr.io/org/antidote-ci:1" in failed(config).what
    hub.store.jobs.broken_images["ghcr.io/org/antidote-ci:1"] = "no machine is free"
    assert "was never started" in failed(config).what


def test_job_is_cancelled_by_somebody_else(hub: LoopbackHub, config: RunConfig, fake_image: HoldImage) -> None:
    fake_image("sleep")

    def cancel() -> None:
        while not (found := hub.store.jobs.list_jobs("ada")) or found[0].stage != "RUNNING":
            time.sleep(0.02)
        hub.store.jobs.cancel(found[0])

    thread = threading.Thread(target=cancel)
    thread.start()
    assert "was cancelled" in failed(config).what
    thread.join()


def test_refusals_of_the_hub(hub: LoopbackHub, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.jobs.without_credit.add("ada")
    assert "answered 402 about Jobs of ada" in failed(config).what
    foreign = replace(config, policy=override_section(config.policy, "jobs", namespace="stranger"))
    error = failed(foreign)
    assert "answered 403 about Jobs of stranger" in error.what
    assert "HF_JOBS_TOKEN" in str(error.hint)
    unknown = replace(config, policy=override_section(config.policy, "jobs", flavor="l4"))
    assert isinstance(failed(unknown), ConfigurationError)
    for name in TOKENS:
        monkeypatch.delenv(name)
    assert "neither HF_JOBS_TOKEN nor HF_TOKEN is set" in str(failed(config).cause)
    assert hub.store.jobs.list_jobs("ada") == []


def test_unsupported_option_sends_no_request(hub: LoopbackHub, config: RunConfig) -> None:
    assert isinstance(failed(replace(config, save_answers=Path("answers.jsonl"))), ConfigurationError)
    assert hub.requests == []


@pytest.mark.parametrize(
    "kinds",
    [
        ("answer cut short", "answer cut short", "connection dropped"),
        ("bad gateway", "answer cut short", "internal error"),
        ("answer lost", "gateway timed out"),
    ],
)
def test_interrupted_log_is_printed_once(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    kinds: tuple[FaultKind, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.faults = LogFaults(0, 1.0, list(kinds))
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    output = capsys.readouterr().err
    assert [int(number) for number in re.findall(r"\| line (\d+)", output)] == list(range(20))
    assert len([request for request in hub.requests if request.endswith("/logs")]) > len(kinds)


def test_lost_answer_starts_no_second_job(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    hub.faults = LostAnswer(0, 1.0)
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    assert job_of(hub).stage == "COMPLETED"


def test_job_whose_start_is_not_confirmed_is_mentioned(
    hub: LoopbackHub, config: RunConfig, fake_image: HoldImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIDOTE_HUB_RETRY_SECONDS", "0")
    hub.faults = LostAnswer(0, 1.0)
    fake_image("sleep")
    error = failed(config)
    assert "answered 504 about Jobs of ada" in error.what
    assert str(error.hint).startswith("a Job may have started, and cost money: ")
    assert job_of(hub).stage in ("SCHEDULING", "RUNNING")


def begin(hub: LoopbackHub, config: RunConfig, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start the command as a process."""
    options = ["--judge=refusal", "--prompts=embedded", f"--out={config.out}", "--on=hf-jobs"]
    return subprocess.Popen(
        [sys.executable, "-m", "antidote_ci", "evaluate", MODEL, *options],
        env=environment | hub.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """The output of the process up to a line with these words."""
    lines = []
    for line in process.stderr or ():
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def test_second_command_follows_the_job_and_a_signal_cancels_it(
    hub: LoopbackHub,
    config: RunConfig,
    fake_image: HoldImage,
    environment: dict[str, str],
) -> None:
    fake_image("sleep")
    hub.request_hook = lambda moment, _, request: (
        time.sleep(1) if (moment, "/cancel" in request) == ("before", True) else None
    )
    first = begin(hub, config, environment)
    read_until(first, "| evaluate the model")
    first.kill()
    first.communicate()
    second = begin(hub, replace(config, out=config.out.with_name("again")), environment)
    output = read_until(second, "| evaluate the model")
    assert "a Job for the same work is already running on t4-small: following it" in output
    second.send_signal(signal.SIGINT)
    read_until(second, "cancelling the Job")
    second.send_signal(signal.SIGTERM)  # a second signal must not interrupt the cancellation
    _, rest = second.communicate(timeout=30)
    assert second.returncode == 130, rest
    job = job_of(hub)
    assert f"{job.id} is cancelled" in rest
    assert job.stage == "CANCELED"


def start_job(hub: LoopbackHub, job: StoredJob) -> None:
    """Start another Job, and wait until it runs."""
    hub.store.jobs.start(replace(job, stage="SCHEDULING", started=None, finished=None), {})
    while (found := hub.store.jobs.find_job(job.namespace, job.id)) is None or found.stage == "SCHEDULING":
        time.sleep(0.02)


def test_job_of_another_account_is_not_followed(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None], fake_image: HoldImage
) -> None:
    """A member of the organisation can start a Job with the same labels."""
    config = replace(config, policy=override_section(config.policy, "jobs", namespace="org"))
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    ours = job_of(hub, "org")
    fake_image("sleep")
    start_job(hub, replace(ours, id="e" * 24, initiator="mallory"))
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    jobs = {job.id: job for job in hub.store.jobs.list_jobs("org")}
    assert len(jobs) == 3
    assert jobs["e" * 24].stage == "RUNNING"
    # Another command of the same account with the same labels is not followed either.
    other = replace(ours.spec, command=[*ours.spec.command[:-1], "org/other"])
    fake_image("sleep")
    start_job(hub, replace(ours, id="d" * 24, spec=other))
    reporting(report_for(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    assert len(hub.store.jobs.list_jobs("org")) == 5
