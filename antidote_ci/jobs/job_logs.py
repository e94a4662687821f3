"""A Job's log as it comes: said to people, and searched for the parcel."""

import time

from antidote_ci.hub import jobs_api
from antidote_ci.hub.access import Access
from antidote_ci.hub.jobs_api import Job
from antidote_ci.jobs import result_stream
from antidote_ci.jobs.result_stream import Parcel
from antidote_ci.report.console import Talk
from antidote_ci.report.text import plain

READINGS = 4
"""How often a log that ended without its parcel is read again."""
FINISHED = ("COMPLETED", "ERROR")


class Hearing:
    """The lines of the Job's log so far. What is for people is said."""

    def __init__(self, talk: Talk, token: str) -> None:
        self.talk = talk
        self.token = token
        self.lines: list[str] = []

    def hear(self, line: str) -> None:
        # What a signal raises is lost where it strikes inside the client.
        if self.talk.ending is not None:
            raise self.talk.ending
        self.lines.append(line)
        if line.strip() and not result_stream.is_piece(line, self.token):
            self.talk.say(f"  | {plain(line)}")


def follow(submitting: Access, job: Job, hearing: Hearing) -> Job:
    """The Job when it has ended."""
    if job.stage == "SCHEDULING":
        hearing.talk.say("it waits for its machine")
    return jobs_api.follow(submitting, jobs_api.begun(submitting, job), hearing.hear)


def unpacked(submitting: Access, job: Job, hearing: Hearing) -> Parcel | None:
    """What the Job sent home. The log is read again where it is not whole: its last lines may come late."""
    found = result_stream.unpack(hearing.lines, hearing.token)
    for reading in range(READINGS if job.stage in FINISHED and job.has_run else 0):
        if found is not None:
            break
        time.sleep(reading)
        again = jobs_api.log(submitting, job)
        for line in again[len(hearing.lines) :]:
            hearing.hear(line)
        found = result_stream.unpack([*hearing.lines, *again], hearing.token)
    return found
