"""The questions about the real Hub: their answers from a loopback Hub, and the recorded answers given again."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from antidote_ci.records import from_json
from loopback_hub import LoopbackHub
from loopback_hub.strictness import VARIANTS
from scripts.contract import RecordedAnswer, Scratch, answer_question, ask_all, render_table
from scripts.contract.__main__ import RECORDED
from scripts.contract.questions import QUESTIONS
from scripts.contract.recordings import RecordedHub

TOKEN, READ_TOKEN = "hf_adasWritingToken", "hf_adasReadingToken"
QUESTION_OF = {question.name: question for question in QUESTIONS}


def pause(_: float) -> None:
    """Do not wait for a recorded Job."""


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


def replay(recorded: RecordedAnswer, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Ask the question at a server that gives the recorded answers."""
    scratch = Scratch(recorded.repository, TOKEN, READ_TOKEN, has_jobs=True, job_seconds=1, sleep=pause)
    with RecordedHub(recorded.exchanges) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        given = answer_question(QUESTION_OF[recorded.name], scratch).given
    assert hub.unexpected == []
    return given


def test_loopback_hub_answers_as_assumed_and_so_does_its_recording(
    people: LoopbackHub, scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with people:
        scratch.client.create_repo(scratch.repository, private=True)
        answers = ask_all(QUESTIONS, scratch, tmp_path / "recorded")
    assert not [answer.question.name for answer in answers if answer.given is None]
    assert not any(answer.is_different for answer in answers), render_table(answers)
    files = sorted((tmp_path / "recorded").iterdir())
    assert len(files) == len(QUESTIONS)
    for file in files:
        text = file.read_text()
        assert TOKEN not in text
        assert READ_TOKEN not in text
        recorded = from_json(RecordedAnswer, text)
        assert replay(recorded, monkeypatch) == recorded.given, file.name


def test_other_answers_are_shown(scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub(tmp_path / "hub", strictness=VARIANTS["opening-comment-cleaned"]) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        scratch.client.create_repo(scratch.repository)
        asked = [QUESTION_OF["opening-comment"], QUESTION_OF["job-image"]]
        answers = ask_all(asked, replace(scratch, has_jobs=False), tmp_path / "recorded")
    assert [(answer.given, answer.is_different) for answer in answers] == [("no", True), (None, False)]
    table = render_table(answers)
    assert "DIFFERENT   opening-comment" in table
    assert "not asked   job-image" in table
    assert [file.stem for file in (tmp_path / "recorded").iterdir()] == ["opening-comment"]


def test_recorded_answers_are_understood(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in sorted(RECORDED.glob("*.json")):
        recorded = from_json(RecordedAnswer, file.read_text(encoding="utf-8"))
        assert replay(recorded, monkeypatch) == recorded.given, file.name
