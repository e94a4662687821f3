"""The questions about the real Hub, and their answers from a loopback Hub."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub
from loopback_hub.strictness import VARIANTS
from scripts.contract import Scratch, answer_question, render_table
from scripts.contract.questions import QUESTIONS

TOKEN, READ_TOKEN = "hf_adasWritingToken", "hf_adasReadingToken"
QUESTION_OF = {question.name: question for question in QUESTIONS}


@pytest.fixture
def scratch() -> Scratch:
    return Scratch("org/scratch", TOKEN, READ_TOKEN, has_jobs=True, job_seconds=1, sleep=lambda _: time.sleep(0.05))


@pytest.fixture
def people(tmp_path: Path, client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    hub = LoopbackHub(tmp_path / "hub", jobs=True, strictness=VARIANTS["xet"])
    hub.add_account("ada", TOKEN, organisations=["org"])
    hub.add_account("ada", READ_TOKEN, rights="read", organisations=["org"])
    # A command that the kernel kills for want of memory.
    hub.store.jobs.programs["tail"] = ("sh", "-c", "exit 137")
    hub.store.jobs.broken_images["antidote-ci/no-such-image:0"] = "Failed to pull the image"
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


def test_loopback_hub_answers_as_assumed(people: LoopbackHub, scratch: Scratch) -> None:
    with people:
        scratch.client.create_repo(scratch.repository, private=True)
        answers = [answer_question(question, scratch) for question in QUESTIONS]
    assert not [answer.question.name for answer in answers if answer.given is None]
    assert not any(answer.is_different for answer in answers), render_table(answers)


def test_other_answers_are_shown(scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub(tmp_path / "hub", strictness=VARIANTS["opening-comment-cleaned"]) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        scratch.client.create_repo(scratch.repository)
        asked = [QUESTION_OF["opening-comment"], QUESTION_OF["job-image"]]
        answers = [answer_question(question, replace(scratch, has_jobs=False)) for question in asked]
    assert [(answer.given, answer.is_different) for answer in answers] == [("no", True), (None, False)]
    table = render_table(answers)
    assert "DIFFERENT   opening-comment" in table
    assert "not asked   job-image" in table
