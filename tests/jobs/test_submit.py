"""`--on hf-jobs` against the loopback Hub, by the real client: what is asked, what is said, and every way it ends."""

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
from antidote_ci.jobs import estimating, job_logs, results, submit
from antidote_ci.jobs.entrypoint import TOKEN_VARIABLE
from antidote_ci.jobs.estimating import CostEstimate
from antidote_ci.policy import RunConfig, override_section
from antidote_ci.records import Report, ReportedSource
from antidote_ci.report.console import Console
from loopback_hub import LoopbackHub
from loopback_hub.faults import Fault, FaultInjector, FaultKind
from loopback_hub.records import StoredJob
from tests.jobs.conftest import MODEL, TOKENS, Holding
from tests.report import samples


@dataclass(frozen=True)
class Breaking(FaultInjector):
    """The first logs that are asked for suffer these."""

    kinds: list[FaultKind] = field(default_factory=list)

    def pick(self, number: int, method: str, path: str) -> Fault | None:  # noqa: ARG002
        return Fault(self.kinds.pop(0), 0.3) if path.endswith("/logs") and self.kinds else None


@dataclass(frozen=True)
class Losing(FaultInjector):
    """The first Job is started, and nobody hears of it."""

    asked: list[str] = field(default_factory=list)

    def pick(self, number: int, method: str, path: str) -> Fault | None:  # noqa: ARG002
        if method != "POST" or self.asked:
            return None
        self.asked.append(path)
        return Fault("gateway timed out after all was done", 0.5)


def sent(config: RunConfig, hub: LoopbackHub, sample: Report = samples.NOT_REPAIRED, **changed: object) -> Report:
    """A report of the work that `config` asks for."""
    revision = hub.store.commit(MODEL, "main").revision
    found = replace(
        sample,
        source=ReportedSource(MODEL, revision, "full"),
        policy_sha256=config.policy.sha256(),
        publish=records.PublishResult("none"),
    )
    return replace(found, **changed)  # type: ignore[arg-type]


def job_of(hub: LoopbackHub, namespace: str = "ada") -> StoredJob:
    [found] = hub.store.jobs.list_jobs(namespace)
    return found


@pytest.fixture
def reporting(tmp_path: Path, holding: Holding) -> Callable[[Report, int], None]:
    """Makes the image send this report, and end with this."""

    def report(found: Report, exit_code: int) -> None:
        (tmp_path / "sent.json").write_text(records.to_json(found))
        holding("report", f"{exit_code}:{tmp_path / 'sent.json'}")

    return report


def failed(config: RunConfig) -> AntidoteError:
    with pytest.raises(AntidoteError) as raised:
        submit.run_as_job("evaluate", config, Console())
    assert raised.value.cause
    assert raised.value.hint
    assert not list(config.out.glob("*")), "a Job without a verdict leaves no report"
    return raised.value


def test_the_report_comes_home(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = sent(config, hub)
    reporting(expected, 1)
    found = submit.run_as_job("evaluate", config, Console())
    assert found == expected == records.from_json(Report, (config.out / "report.json").read_bytes())
    assert {path.name for path in config.out.iterdir()} == {"report.json", "report.html", "summary.md", "README.md"}
    assert (config.out / "README.md").read_text() == "# card\n"
    job, said = job_of(hub), capsys.readouterr().err
    assert job.spec.command[:2] == ["antidote-ci", "evaluate"]
    assert (job.spec.timeout, job.spec.flavor, job.spec.image) == (7200, "t4-small", "ghcr.io/org/antidote-ci:1")
    assert f"/jobs/ada/{job.id}; Ctrl-C cancels it" in said
    assert "about $0.02 for 3 min, paid by ada" in said
    assert "$0.80: after 2 h the Hub ends it" in said
    assert [f"  | line {number}" in said for number in range(20)] == [True] * 20
    assert job.spec.environment[TOKEN_VARIABLE] not in said


def test_where_it_runs_is_the_policys(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    policy = override_section(config.policy, "jobs", image="mine:2", flavor="l4x1", timeout="90m", namespace="org")
    config = replace(config, policy=policy)
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    job = job_of(hub, "org")
    assert (job.spec.image, job.spec.flavor, job.spec.timeout, job.initiator) == ("mine:2", "l4x1", 5400, "ada")


def test_an_estimate_starts_nothing(hub: LoopbackHub, config: RunConfig) -> None:
    policy = override_section(config.policy, "jobs", flavor="h200", timeout="3h")
    found = submit.estimate_job("run", replace(config, policy=policy))
    assert (found.flavor, found.namespace) == ("h200", "ada")
    assert found.dollars_at_most == pytest.approx(15.0, abs=0.01)
    assert found.dollars == pytest.approx(5 * found.seconds / 3600, abs=0.01)
    assert found.forecast.answers > submit.estimate_job("evaluate", config).forecast.answers
    assert hub.store.jobs.list_jobs("ada") == []
    assert not any(request.startswith("POST /api/jobs") for request in hub.requests)


def test_a_dry_run_says_what_it_would_cost(
    hub: LoopbackHub, config: RunConfig, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    estimating.show_estimate(Console(), submit.estimate_job("run", config), as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "t4-small (Nvidia T4 - small, 16 GB on the GPU, $0.40 an hour)" in said.err
    assert "publish    none; repaired weights are gone with the Job" in said.err
    options = ["--judge=refusal", "--prompts=embedded", "--realignment=embedded", "--dry-run", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "antidote_ci", "run", MODEL, *options],
        env=environment | hub.environment | {"ANTIDOTE_ON": "hf-jobs"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = records.from_json(CostEstimate, done.stdout)
    assert (found.flavor, found.forecast.model) == ("t4-small", MODEL)
    assert hub.store.jobs.list_jobs("ada") == []


def test_an_adapter_is_weighed_with_its_base(
    hub: LoopbackHub, config: RunConfig, tiny_adapter: Path, tiny_llama: Path
) -> None:
    hub.add("org/adapter", tiny_adapter)
    hub.add("antidote-ci/tiny-reference", tiny_llama)
    whole = submit.estimate_job("evaluate", config).forecast
    adapter = submit.estimate_job("evaluate", replace(config, model="org/adapter")).forecast
    assert adapter.reference == "antidote-ci/tiny-reference"
    assert adapter.gpu_memory_bytes == whole.gpu_memory_bytes


def test_a_job_is_told_its_secrets_and_nothing_else(
    hub: LoopbackHub, config: RunConfig, holding: Holding, capsys: pytest.CaptureFixture[str]
) -> None:
    holding("names")
    failed(config)
    said = capsys.readouterr().err
    assert "ANTIDOTE_JOB_LUGGAGE ANTIDOTE_JOB_TOKEN HF_ENDPOINT HF_HUB_DISABLE_XET HF_TOKEN\n" in said
    for token in TOKENS.values():
        assert token not in said
        assert token not in str(job_of(hub))


def test_repaired_weights_that_are_gone_are_spoken_of(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    reporting(sent(config, hub, samples.REPAIRED, exit_code=7), 7)
    found = submit.run_as_job("run", config, Console())
    assert found.verdict == "repaired"
    assert found.publish.notes == (results.WEIGHTS_LOST_NOTE,)
    assert "gone with it" in (config.out / "report.html").read_text()
    assert records.from_json(Report, (config.out / "report.json").read_bytes()) == found


def test_published_weights_are_where_they_were_published(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_WRITE_TOKEN", "hf_adaWritesWithThisToken")
    config = replace(config, policy=override_section(config.policy, "publish", mode="pull-request"))
    published = records.PublishResult("pull-request", f"{hub.endpoint}/{MODEL}/discussions/1", "a" * 40, MODEL)
    expected = sent(config, hub, samples.REPAIRED, exit_code=0, publish=published)
    reporting(expected, 0)
    assert submit.run_as_job("run", config, Console()) == expected


@pytest.mark.parametrize("code", [2, 3, 5, 6])
def test_an_error_inside_is_an_error_here(hub: LoopbackHub, config: RunConfig, holding: Holding, code: int) -> None:
    holding("error", str(code))
    error = failed(config)
    assert error.exit_code == code
    assert error.what == f"the command ended with {code} in the Job {job_of(hub).id}"


def test_a_conflict_leaves_the_report(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    reporting(sent(config, hub, samples.REPAIRED, exit_code=0), 5)
    with pytest.raises(AntidoteError) as raised:
        submit.run_as_job("run", config, Console())
    assert raised.value.exit_code == 5
    assert records.from_json(Report, (config.out / "report.json").read_bytes()).publish.notes == (
        results.WEIGHTS_LOST_NOTE,
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
def test_an_image_that_holds_something_else(
    hub: LoopbackHub,
    config: RunConfig,
    holding: Holding,
    words: list[str],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_logs, "MAX_READS", 2)
    holding(*words)
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
def test_a_report_of_other_work_is_not_taken(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    changed: dict[str, object],
    what: str,
) -> None:
    reporting(sent(config, hub, samples.NOT_REPAIRED, **changed), 0)
    assert what in failed(config).what


def test_a_job_that_times_out(hub: LoopbackHub, config: RunConfig, holding: Holding) -> None:
    holding("sleep")
    config = replace(config, policy=override_section(config.policy, "jobs", timeout="1s"))
    assert "was ended after 1 s, its time limit" in failed(config).what


def test_an_image_that_is_not_there(hub: LoopbackHub, config: RunConfig) -> None:
    hub.store.jobs.broken_images["ghcr.io/org/antidote-ci:1"] = "Failed to pull image: not found"
    assert "could not fetch its image ghcr.io/org/antidote-ci:1" in failed(config).what
    hub.store.jobs.broken_images["ghcr.io/org/antidote-ci:1"] = "no machine is free"
    assert "was never started" in failed(config).what


def test_a_job_that_somebody_cancels(hub: LoopbackHub, config: RunConfig, holding: Holding) -> None:
    holding("sleep")

    def cancel() -> None:
        while not (found := hub.store.jobs.list_jobs("ada")) or found[0].stage != "RUNNING":
            time.sleep(0.02)
        hub.store.jobs.cancel(found[0])

    thread = threading.Thread(target=cancel)
    thread.start()
    assert "was cancelled" in failed(config).what
    thread.join()


def test_a_hub_that_refuses(hub: LoopbackHub, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_nothing_is_asked_of_a_hub_for_what_a_job_cannot_do(hub: LoopbackHub, config: RunConfig) -> None:
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
def test_a_log_that_breaks_is_heard_once(
    hub: LoopbackHub,
    config: RunConfig,
    reporting: Callable[[Report, int], None],
    kinds: tuple[FaultKind, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.faults = Breaking(0, 1.0, list(kinds))
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    said = capsys.readouterr().err
    assert [int(number) for number in re.findall(r"\| line (\d+)", said)] == list(range(20))
    assert len([request for request in hub.requests if request.endswith("/logs")]) > len(kinds)


def test_an_answer_that_is_lost_starts_no_second_job(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None]
) -> None:
    hub.faults = Losing(0, 1.0)
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    assert job_of(hub).stage == "COMPLETED"


def begin(hub: LoopbackHub, config: RunConfig, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """The command line, as a process."""
    options = ["--judge=refusal", "--prompts=embedded", f"--out={config.out}", "--on=hf-jobs"]
    return subprocess.Popen(
        [sys.executable, "-m", "antidote_ci", "evaluate", MODEL, *options],
        env=environment | hub.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard(process: "subprocess.Popen[str]", words: str) -> str:
    """What it says, up to a line with these words."""
    said = []
    for line in process.stderr or ():
        said.append(line)
        if words in line:
            return "".join(said)
    raise AssertionError("".join(said))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_start_follows_and_a_signal_cancels(
    hub: LoopbackHub,
    config: RunConfig,
    holding: Holding,
    environment: dict[str, str],
    number: int,
    code: int,
) -> None:
    holding("sleep")
    hub.meanwhile = lambda moment, _, request: (
        time.sleep(1) if (moment, "/cancel" in request) == ("before", True) else None
    )
    first = begin(hub, config, environment)
    heard(first, "| evaluate the model")
    first.kill()
    first.communicate()
    second = begin(hub, replace(config, out=config.out.with_name("again")), environment)
    said = heard(second, "| evaluate the model")
    assert "a Job does this work already, on t4-small: it is followed" in said
    second.send_signal(number)
    heard(second, "cancelling the Job")
    second.send_signal(signal.SIGTERM)  # who is in a hurry would leave what costs
    _, rest = second.communicate(timeout=30)
    assert second.returncode == code, rest
    job = job_of(hub)
    assert f"{job.id} is cancelled" in rest
    assert job.stage == "CANCELED"


def begun(hub: LoopbackHub, job: StoredJob) -> None:
    """Start this one beside ours, and wait until it runs what the image now holds."""
    hub.store.jobs.start(replace(job, stage="SCHEDULING", started=None, finished=None), {})
    while (found := hub.store.jobs.find_job(job.namespace, job.id)) is None or found.stage == "SCHEDULING":
        time.sleep(0.02)


def test_a_job_of_somebody_else_is_not_followed(
    hub: LoopbackHub, config: RunConfig, reporting: Callable[[Report, int], None], holding: Holding
) -> None:
    """A member of the organisation who starts a Job with our labels does not say how our model does."""
    config = replace(config, policy=override_section(config.policy, "jobs", namespace="org"))
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    ours = job_of(hub, "org")
    holding("sleep")
    begun(hub, replace(ours, id="e" * 24, initiator="mallory"))
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    jobs = {job.id: job for job in hub.store.jobs.list_jobs("org")}
    assert len(jobs) == 3
    assert jobs["e" * 24].stage == "RUNNING"
    # Nor is another command of ours that was given these labels.
    other = replace(ours.spec, command=[*ours.spec.command[:-1], "org/other"])
    holding("sleep")
    begun(hub, replace(ours, id="d" * 24, spec=other))
    reporting(sent(config, hub), 0)
    submit.run_as_job("evaluate", config, Console())
    assert len(hub.store.jobs.list_jobs("org")) == 5
