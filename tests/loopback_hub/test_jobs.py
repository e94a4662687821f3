"""Jobs of the loopback Hub, tested with the real client."""

import os
from pathlib import Path

import pytest
from huggingface_hub import HfApi, JobInfo, JobStage

from loopback_hub import LoopbackHub, jobs
from loopback_hub.faults import HangUp
from tests.hub.hub_samples import TOKEN
from tests.loopback_hub.loopback_samples import client, rejected, status
from tests.service.service_process import eventually

SECRET = "hf_secretOfTheJob"
SLEEP = "import time; print('begun', flush=True); time.sleep(60)"


def run(api: HfApi, code: str, **options: object) -> JobInfo:
    """Start a Job that runs Python code."""
    return api.run_job(image="python:3.12", command=["python", "-c", code], **options)  # type: ignore[arg-type]


def wait_for_end(api: HfApi, job: JobInfo) -> JobInfo:
    return api.wait_for_job(job.id, timeout=20, poll_interval=0.05)


def test_job_runs_to_completion(hub: LoopbackHub) -> None:
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
    finished = wait_for_end(api, job)
    assert (finished.status.stage, finished.status.message) == ("COMPLETED", None)
    assert finished.created_at is not None
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert finished.created_at <= finished.started_at <= finished.finished_at
    # The complete log is available after the end.
    assert sorted(api.fetch_job_logs(job_id=job.id, follow=False)) == ["one", "two"]


def test_job_has_its_own_environment(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofThisMachine")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = "import os; print(sorted(os.environ)); print(os.getcwd() == os.environ['HOME'], os.environ['HF_ENDPOINT'])"
    api = client(hub)
    job = run(api, code, env={"GIVEN": "1"}, secrets={"SECRET": SECRET})
    names, place = api.fetch_job_logs(job_id=job.id, follow=True)
    expected = {
        "CUDA_VISIBLE_DEVICES",
        "GIVEN",
        "HF_ENDPOINT",
        "HF_HUB_DISABLE_XET",
        "HOME",
        "JOB_ID",
        "PATH",
        "SECRET",
    }
    assert {name for name in expected if f"'{name}'" in names} == expected
    assert "HF_TOKEN" not in names
    assert place == f"True {hub.endpoint}"
    wait_for_end(api, job)


def test_secrets_are_visible_only_to_the_job(hub: LoopbackHub, tmp_path: Path) -> None:
    api = client(hub)
    job = run(api, "import os; print(len(os.environ['A']))", secrets={"A": SECRET}, env={"B": "seen"})
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == [str(len(SECRET))]
    for shown in (job, wait_for_end(api, job), *api.list_jobs(namespace="demo")):
        assert SECRET not in repr(shown)
        assert shown.environment == {"B": "seen"}
    for path in (tmp_path / "hub").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("code", "message"), [("raise SystemExit(7)", "exit code: 7"), ("import os; os.kill(os.getpid(), 9)", "-9")]
)
def test_failing_job(hub: LoopbackHub, code: str, message: str) -> None:
    finished = wait_for_end(client(hub), run(client(hub), code))
    assert finished.status.stage == "ERROR"
    assert message in str(finished.status.message)


def test_cancel_kills_the_process(hub: LoopbackHub, tmp_path: Path) -> None:
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
    eventually(mark.exists)
    # The first final stage is kept.
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == ["begun"]
    assert api.inspect_job(job_id=job.id).status.stage == "CANCELED"


def test_job_reaches_its_time_limit(hub: LoopbackHub) -> None:
    finished = wait_for_end(client(hub), run(client(hub), SLEEP, timeout="1s"))
    assert (finished.status.stage, finished.status.message) == ("ERROR", "Job timeout")


def test_job_that_cannot_start(hub: LoopbackHub) -> None:
    hub.store.jobs.broken_images["python:3.12"] = "Failed to pull image"
    finished = wait_for_end(client(hub), run(client(hub), ""))
    assert (finished.status.stage, finished.status.message, finished.started_at) == (
        "ERROR",
        "Failed to pull image",
        None,
    )
    unknown = client(hub).run_job(image="a", command=["no-such-program"])
    assert "failed to start" in str(wait_for_end(client(hub), unknown).status.message)


def test_list_jobs_by_stage_and_label(hub: LoopbackHub) -> None:
    api = client(hub)
    finished, other = run(api, "", labels={"a": "1", "b": "2"}), run(api, "", labels={"a": "1"})
    for job in (finished, other):
        wait_for_end(api, job)
    working = run(api, SLEEP, labels={"a": "1"})
    assert {job.id for job in api.list_jobs(namespace="demo")} == {finished.id, other.id, working.id}
    assert [job.id for job in api.list_jobs(namespace="demo", labels={"a": "1", "b": "2"})] == [finished.id]
    assert list(api.list_jobs(namespace="demo", labels={"a": "2"})) == []
    eventually(lambda: [job.id for job in api.list_jobs(namespace="demo", status=["RUNNING"])] == [working.id])
    assert {job.id for job in api.list_jobs(namespace="demo", status=JobStage.COMPLETED)} == {finished.id, other.id}
    api.cancel_job(job_id=working.id)


def test_hardware_prices(hub: LoopbackHub) -> None:
    offered = {flavor.name: flavor for flavor in client(hub).list_jobs_hardware()}
    assert offered["cpu-basic"].accelerator is None
    assert offered["l4x1"].accelerator is not None
    assert offered["l4x1"].accelerator.vram == "24 GB"
    assert offered["l4x1"].unit_cost_usd * 60 == pytest.approx(0.80, abs=0.01)


def test_rights_to_start_jobs(hub: LoopbackHub) -> None:
    hub.add_account("ada", TOKEN, organisations=["org"])
    hub.add_account("bob", "hf_readingBobs", rights="read")
    ada, bob = client(hub), client(hub, "hf_readingBobs")
    job = run(ada, "", namespace="org")
    assert (job.owner.name, job.initiator and job.initiator.name) == ("org", "ada")
    eventually(lambda: ada.inspect_job(job_id=job.id, namespace="org").status.stage == "COMPLETED")
    assert status(run, bob, "") == 403
    assert status(run, bob, "", namespace="ada") == 403
    assert status(lambda: list(bob.list_jobs(namespace="org"))) == 403
    assert status(bob.cancel_job, job_id=job.id, namespace="org") == 403
    assert status(ada.inspect_job, job_id="0" * 24) == 404
    assert status(client(hub, None).run_job, image="a", command=["b"], namespace="ada") == 401
    hub.store.jobs.without_credit.add("ada")
    assert status(run, ada, "") == 402
    assert "flavor" in str(rejected(run, ada, "", namespace="org", flavor="abacus").server_message)


def test_client_resumes_an_interrupted_log(hub: LoopbackHub) -> None:
    """The connection breaks after the first lines. The client reconnects and yields each line once."""
    code = "import time\nfor number in range(6): print(number, flush=True); time.sleep(0.1)"
    api, breaks = client(hub), iter([True, False, True])

    def request_hook(moment: str, _number: int, request: str) -> None:
        if moment == "before" and request.endswith("/logs") and next(breaks, False):
            raise HangUp

    hub.request_hook = request_hook
    job = run(api, code)
    assert list(api.fetch_job_logs(job_id=job.id, follow=True)) == [str(number) for number in range(6)]


def test_closing_the_hub_kills_its_jobs(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with LoopbackHub(tmp_path / "hub", jobs=True) as hub:
        job = run(client(hub), f"import os; open({str(mark)!r}, 'w').write(str(os.getpid()))\n{SLEEP}")
        eventually(lambda: mark.is_file() and mark.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    with LoopbackHub(tmp_path / "hub") as again:
        assert client(again).inspect_job(job_id=job.id).status.stage == "ERROR"
        assert list(client(again).fetch_job_logs(job_id=job.id, follow=True)) == ["begun"]


def test_jobs_do_not_run_by_default(tmp_path: Path) -> None:
    """Jobs have the rights of this process, and every token may start them until an account is registered."""
    mark = tmp_path / "mark"
    with LoopbackHub(tmp_path / "hub") as hub:
        finished = wait_for_end(client(hub), run(client(hub), f"open({str(mark)!r}, 'w')"))
    assert (finished.status.stage, finished.status.message) == ("ERROR", "this Hub does not run Jobs")
    assert not mark.exists()


def test_job_from_a_copied_spec(hub: LoopbackHub) -> None:
    """A webhook starts the spec of another Job with additional variables."""
    api = client(hub)
    first = run(
        api, "import os; print(os.environ.get('WEBHOOK_PAYLOAD'), os.environ['A'], os.environ.get('S'))", env={"A": "1"}
    )
    finished = wait_for_end(api, first)
    source = hub.store.jobs.find_job("demo", finished.id)
    assert source is not None
    second = jobs.start_job(hub.store, "demo", source.spec, {"WEBHOOK_PAYLOAD": "{}"}, {"S": SECRET}, "demo")
    assert list(api.fetch_job_logs(job_id=first.id, follow=True)) == ["None 1 None"]
    assert list(api.fetch_job_logs(job_id=second.id, follow=True)) == ["{} 1 " + SECRET]
    assert api.inspect_job(job_id=second.id).environment == {"A": "1"}
