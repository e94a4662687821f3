"""A Job's log as it comes: said to people, and searched for the parcel."""

import time

from antidote_ci.hub import jobs_api
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.jobs_api import Job
from antidote_ci.jobs import result_stream
from antidote_ci.jobs.result_stream import JobResult
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten

MAX_READS = 4
"""How often a log that ended without its parcel is read again."""
FINISHED_STAGES = ("COMPLETED", "ERROR")


class LogListener:
    """The lines of the Job's log so far. What is for people is said."""

    def __init__(self, console: Console, token: str) -> None:
        self.talk = console
        self.token = token
        self.lines: list[str] = []

    def receive(self, line: str) -> None:
        # What a signal raises is lost where it strikes inside the client.
        if self.talk.ending is not None:
            raise self.talk.ending
        self.lines.append(line)
        if line.strip() and not result_stream.is_result_line(line, self.token):
            self.talk.print(f"  | {flatten(line)}")


def follow_job(submitting: HubAccess, job: Job, hearing: LogListener) -> Job:
    """The Job when it has ended."""
    if job.stage == "SCHEDULING":
        hearing.talk.print("it waits for its machine")
    return jobs_api.follow_log(submitting, jobs_api.wait_until_started(submitting, job), hearing.receive)


def read_result(submitting: HubAccess, job: Job, hearing: LogListener) -> JobResult | None:
    """What the Job sent home. The log is read again where it is not whole: its last lines may come late."""
    found = result_stream.decode_result(hearing.lines, hearing.token)
    for reading in range(MAX_READS if job.stage in FINISHED_STAGES and job.has_run else 0):
        if found is not None:
            break
        time.sleep(reading)
        again = jobs_api.read_log(submitting, job)
        for line in again[len(hearing.lines) :]:
            hearing.receive(line)
        found = result_stream.decode_result([*hearing.lines, *again], hearing.token)
    return found
