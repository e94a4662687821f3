"""The loopback Hub's Jobs, as the real client starts, follows and ends them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, JobInfo, JobStage

from loopback_hub import LoopbackHub, jobs
from loopback_hub.faults import HangUp
from tests.hub.hub_samples import TOKEN
from tests.loopback_hub.loopback_samples import client, refused, status

SECRET = "hf_secretOfTheJob"
SLEEP = "import time; print('begun', flush=True); time.sleep(60)"


def run(api: HfApi, code: str, **options: object) -> JobInfo:
    """A Job that runs a few lines of Python."""
    return api.run_job(image="python:3.12", command=["python", "-c", code], **options)  # type: ignore[arg-type]


def ended(api: HfApi, job: JobInfo) -> JobInfo:
    return api.wait_for_job(job.id, timeout=20, poll_interval=0.05)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_from_its_start_to_its_end(hub: LoopbackHub) -> None:
    api = client(hub)
    job = run(
        api, "import sys; print('one'); print('two', file=sys.stderr)", labels={"for": "tests"}, flavor="t4-small"
    )
    assert (job.owner.name, job.docker_image, job.flavor) == ("demo", "python:3.12", "t4-small")
    assert job.initiator is not None
    assert job.initiator.name == "demo"
    assert job.labels is not None
    assert job.labels["for"] == "tests"
    assert sorted(api.fetch_job_logs(job_id=job.id, follow=True)) == ["one", "two"]
    done = ended(api, job)
    assert (done.status.stage, done.status.message) == ("COMPLETED", None)
    assert done.created_at is not None
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.created_at <= done.started_at <= done.finished_at
    # The whole log again, afterwards.
    assert sorted(api.fetch_job_logs(job_id=job.id, follow=False)) == ["one", "two"]


def test_a_job_has_an_environment_of_its_own(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofThisMachine")
    code = "import os; print(sorted(os.environ)); print(os.getcwd() == os.environ['HOME'], os.environ['HF_ENDPOINT'])"
    api = client(hub)
    job = run(api, code, env={"GIVEN": "1"}, secrets={"SECRET": SECRET})
    names, place = api.fetch_job_logs(job_id=job.id, follow=True)
    expected = {"GIVEN", "HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HOME", "JOB_ID", "PATH", "SECRET"}
    assert {each for each in expected if f"'{each}'" in names} == expected
    assert "HF_TOKEN" not in names
    assert place == f"True {hub.endpoint}"
    ended(api, job)


def test_secrets_reach_the_job_and_nobody_else(hub: LoopbackHub, tmp_path: Path) -> None:
    api = client(hub)
    job = run(api, "import os; print(len(os.environ['A']))", secrets={"A": SECRET}, env={"B": "seen"})
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == [str(len(SECRET))]
    for shown in (job, ended(api, job), *api.list_jobs(namespace="demo")):
        assert SECRET not in repr(shown)
        assert shown.environment == {"B": "seen"}
    for path in (tmp_path / "hub").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("code", "message"), [("raise SystemExit(7)", "exit code: 7"), ("import os; os.kill(os.getpid(), 9)", "-9")]
)
def test_a_job_that_fails(hub: LoopbackHub, code: str, message: str) -> None:
    done = ended(client(hub), run(client(hub), code))
    assert done.status.stage == "ERROR"
    assert message in str(done.status.message)


def test_cancelling_ends_the_process(hub: LoopbackHub, tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    code = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(mark)!r}, 'w').close(); sys.exit(1)\n"
        f"signal.signal(signal.SIGTERM, end)\n{SLEEP}"
    )
    api = client(hub)
    job = run(api, code)
    assert next(iter(api.fetch_job_logs(job_id=job.id, follow=True))) == "begun"
    api.cancel_job(job_id=job.id)
    assert api.inspect_job(job_id=job.id).status.stage == "CANCELED"
    until(mark.exists)
    # The end that came first stands.
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == ["begun"]
    assert api.inspect_job(job_id=job.id).status.stage == "CANCELED"


def test_a_job_that_takes_too_long(hub: LoopbackHub) -> None:
    done = ended(client(hub), run(client(hub), SLEEP, timeout="1s"))
    assert (done.status.stage, done.status.message) == ("ERROR", "Job timeout")


def test_a_job_that_never_starts(hub: LoopbackHub) -> None:
    hub.store.jobs.broken_images["python:3.12"] = "Failed to pull image"
    done = ended(client(hub), run(client(hub), ""))
    assert (done.status.stage, done.status.message, done.started_at) == ("ERROR", "Failed to pull image", None)
    unknown = client(hub).run_job(image="a", command=["no-such-program"])
    assert "failed to start" in str(ended(client(hub), unknown).status.message)


def test_what_is_listed(hub: LoopbackHub) -> None:
    api = client(hub)
    done, other = run(api, "", labels={"a": "1", "b": "2"}), run(api, "", labels={"a": "1"})
    for job in (done, other):
        ended(api, job)
    working = run(api, SLEEP, labels={"a": "1"})
    assert {job.id for job in api.list_jobs(namespace="demo")} == {done.id, other.id, working.id}
    assert [job.id for job in api.list_jobs(namespace="demo", labels={"a": "1", "b": "2"})] == [done.id]
    assert list(api.list_jobs(namespace="demo", labels={"a": "2"})) == []
    until(lambda: [job.id for job in api.list_jobs(namespace="demo", status=["RUNNING"])] == [working.id])
    assert {job.id for job in api.list_jobs(namespace="demo", status=JobStage.COMPLETED)} == {done.id, other.id}
    api.cancel_job(job_id=working.id)


def test_hardware_and_its_prices(hub: LoopbackHub) -> None:
    offered = {each.name: each for each in client(hub).list_jobs_hardware()}
    assert offered["cpu-basic"].accelerator is None
    assert offered["l4x1"].accelerator is not None
    assert offered["l4x1"].accelerator.vram == "24 GB"
    assert offered["l4x1"].unit_cost_usd * 60 == pytest.approx(0.80, abs=0.01)


def test_who_may_start_jobs(hub: LoopbackHub) -> None:
    hub.add_account("ada", TOKEN, organisations=["org"])
    hub.add_account("bob", "hf_readingBobs", rights="read")
    ada, bob = client(hub), client(hub, "hf_readingBobs")
    job = run(ada, "", namespace="org")
    assert (job.owner.name, job.initiator and job.initiator.name) == ("org", "ada")
    until(lambda: ada.inspect_job(job_id=job.id, namespace="org").status.stage == "COMPLETED")
    assert status(run, bob, "") == 403
    assert status(run, bob, "", namespace="ada") == 403
    assert status(lambda: list(bob.list_jobs(namespace="org"))) == 403
    assert status(bob.cancel_job, job_id=job.id, namespace="org") == 403
    assert status(ada.inspect_job, job_id="0" * 24) == 404
    assert status(client(hub, None).run_job, image="a", command=["b"], namespace="ada") == 401
    hub.store.jobs.without_credit.add("ada")
    assert status(run, ada, "") == 402
    assert "flavor" in str(refused(run, ada, "", namespace="org", flavor="abacus").server_message)


def test_a_log_that_breaks_off_is_taken_up(hub: LoopbackHub) -> None:
    """The connection ends after the first lines; the client asks again, and hears each line once."""
    code = "import time\nfor number in range(6): print(number, flush=True); time.sleep(0.1)"
    api, breaks = client(hub), iter([True, False, True])

    def meanwhile(moment: str, _number: int, request: str) -> None:
        if moment == "before" and request.endswith("/logs") and next(breaks, False):
            raise HangUp

    hub.meanwhile = meanwhile
    job = run(api, code)
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == [str(number) for number in range(6)]


def test_a_closed_hub_has_no_jobs(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with LoopbackHub(tmp_path / "hub", jobs=True) as hub:
        job = run(client(hub), f"import os; open({str(mark)!r}, 'w').write(str(os.getpid()))\n{SLEEP}")
        until(lambda: mark.is_file() and mark.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    with LoopbackHub(tmp_path / "hub") as again:
        assert client(again).inspect_job(job_id=job.id).status.stage == "ERROR"
        assert list(client(again).fetch_job_logs(job_id=job.id, follow=True)) == ["begun"]


def test_no_command_runs_on_a_hub_that_was_not_asked_to(tmp_path: Path) -> None:
    """Until an account is made every token may do everything: no reason to lend it this process's rights."""
    mark = tmp_path / "mark"
    with LoopbackHub(tmp_path / "hub") as hub:
        done = ended(client(hub), run(client(hub), f"open({str(mark)!r}, 'w')"))
    assert (done.status.stage, done.status.message) == ("ERROR", "this Hub runs no Jobs")
    assert not mark.exists()


def test_a_job_of_a_copied_spec(hub: LoopbackHub) -> None:
    """What a webhook starts: the spec of another Job, with more in its environment."""
    api = client(hub)
    first = run(
        api, "import os; print(os.environ.get('WEBHOOK_PAYLOAD'), os.environ['A'], os.environ.get('S'))", env={"A": "1"}
    )
    done = ended(api, first)
    source = hub.store.jobs.find_job("demo", done.id)
    assert source is not None
    second = jobs.start_job(hub.store, "demo", source.spec, {"WEBHOOK_PAYLOAD": "{}"}, {"S": SECRET}, "demo")
    assert list(api.fetch_job_logs(job_id=first.id, follow=True)) == ["None 1 None"]
    assert list(api.fetch_job_logs(job_id=second.id, follow=True)) == ["{} 1 " + SECRET]
    assert api.inspect_job(job_id=second.id).environment == {"A": "1"}
