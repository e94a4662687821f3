"""The file of saved answers: private, and never written over another file."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.saved import AnswerLog, SavedAnswer

any_text = st.text(st.characters(), max_size=30)  # includes unpaired surrogates


def saved(answer: str = "Hello", prompt: str = "Hi") -> SavedAnswer:
    return SavedAnswer("before", "harmful", "0" * 16, "", prompt, answer, False, "safe", {"refusal": "safe"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@given(st.lists(st.tuples(any_text, any_text), max_size=4))
def test_every_answer_is_one_ascii_line(folder: Path, texts: list[tuple[str, str]]) -> None:
    answers = [saved(answer, prompt) for answer, prompt in texts]
    with AnswerLog(folder / "answers.jsonl") as log:
        log.write(answers)
    content = (folder / "answers.jsonl").read_bytes()
    assert set(content) <= {0x0A, *range(0x20, 0x80)}
    lines = content.decode().splitlines()
    # Two adjacent surrogates are read back as one character.
    assert [json.loads(line) for line in lines] == [json.loads(json.dumps(asdict(answer))) for answer in answers]


def test_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    before = os.umask(0)
    try:
        with AnswerLog(path):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_answers_are_flushed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        log.write([saved()])
        assert json.loads(path.read_text())["answer"] == "Hello"
        log.write([saved(), saved()])
        assert len(path.read_text().splitlines()) == 3


def test_earlier_answers_are_replaced(tmp_path: Path) -> None:
    path, other_name = tmp_path / "answers.jsonl", tmp_path / "kept.jsonl"
    with AnswerLog(path) as log:
        log.write([saved("first")])
    os.link(path, other_name)
    path.chmod(0o644)
    with AnswerLog(path) as log:
        log.write([saved("second")])
    assert json.loads(path.read_text())["answer"] == "second"
    assert json.loads(other_name.read_text())["answer"] == "first"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ['{"prompt": "Hi", "expected": "hello"}\n', "[1]", "not JSON", "[" * 100_000, "\0"])
def test_other_files_are_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="holds no saved answers"), AnswerLog(path):
        pass
    assert path.read_text() == content


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "answers.jsonl"
    for exists in (False, True):
        if exists:
            with AnswerLog(target) as log:
                log.write([saved()])
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(ConfigurationError), AnswerLog(link):
            pass
        assert link.is_symlink()
        assert target.exists() == exists


def test_unwritable_path_error_names_the_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing" / "answers.jsonl"):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))), AnswerLog(path):
            pass


def test_a_full_disk_is_an_infrastructure_error(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from antidote_ci.errors import InfrastructureError
from antidote_ci.evaluation.saved import AnswerLog
from tests.evaluation.test_saved import saved
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with AnswerLog(Path(sys.argv[1])) as log:
        log.write(saved("x" * 100) for _ in range(100))
except InfrastructureError as error:
    sys.exit(error.exit_code)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "answers.jsonl")], check=False)
    assert ended.returncode == 3


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with AnswerLog(None) as log:
        log.write([saved()])
    assert list(tmp_path.iterdir()) == []
