"""The client of Jobs understands records and logs that others have published."""

import json

import pytest
from huggingface_hub import JobInfo

from antidote_ci.hub import jobs_api
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.retry import RetryPolicy
from tests.hub.canned import JSON, Canned, CannedHub, Request
from tests.jobs.hub_records import LINES, LOG, RECORDS

ACCESS = HubAccess("hf_adaStartsJobsWithThis", RetryPolicy(0))
EVENTS = {"Content-Type": "text/event-stream"}


def serve(hub: CannedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)


@pytest.mark.parametrize(
    ("name", "stage", "working", "has_run", "seconds"),
    [
        ("running", "RUNNING", True, False, 0),
        ("completed", "COMPLETED", False, True, 135),
        ("canceled without times", "CANCELED", False, False, 0),
        ("scheduling", "SCHEDULING", True, False, 0),
        ("minimal", "ERROR", False, False, 0),
    ],
)
def test_record_is_read(
    name: str, stage: str, working: bool, has_run: bool, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RECORDS[name]
    with CannedHub(lambda _: Canned(200, json.dumps(record).encode(), JSON)) as hub:
        serve(hub, monkeypatch)
        job = jobs_api.refresh_job(ACCESS, jobs_api.to_job(JobInfo(**record)))
    assert (job.id, job.namespace, job.stage) == (record["id"], record["owner"]["name"], stage)
    assert (job.is_working, job.has_run, job.seconds, job.initiator) == (working, has_run, seconds, None)
    assert job.command == record.get("command", [])


def test_log_is_read_and_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Canned:
        if "/logs" in request.path:
            return Canned(200, LOG, EVENTS)
        return Canned(200, json.dumps(RECORDS["completed"]).encode(), JSON)

    running = jobs_api.to_job(JobInfo(**RECORDS["running"]))
    lines: list[str] = []
    with CannedHub(answer) as hub:
        serve(hub, monkeypatch)
        assert jobs_api.read_log(ACCESS, running) == LINES
        ended = jobs_api.follow_log(ACCESS, running, lines.append)
    assert (lines, ended.stage) == (LINES, "COMPLETED")


@pytest.mark.parametrize("start", range(8))
def test_log_that_begins_later_is_continued(start: int) -> None:
    """Whatever the first line of a log that is read again, no line is lost and none is repeated."""
    log = ["a", "b", "a", "c", "", "a", "b", "d"]
    for count in range(start, len(log) + 1):
        received = log[:count]
        assert received + list(jobs_api.skip_repeated(received, log[start:])) == log


def test_log_with_a_gap_is_continued() -> None:
    assert list(jobs_api.skip_repeated(["a", "b"], ["e", "f"])) == ["e", "f"]
