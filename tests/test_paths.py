"""Output folders: permissions, foreign files, disk space and the lock of a running command."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.paths import require_space
from antidote_ci.pipeline import evaluator, output
from antidote_ci.policy import Command, Policy, RepairSection, RunConfig

HOLDS = """
import sys, time
from pathlib import Path
from antidote_ci.pipeline import output
with output.lock_output(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    work = tmp_path / ".work-first"
    with output.lock_output(tmp_path):
        work.mkdir()
        with pytest.raises(ConfigurationError, match="has not ended") as refused:
            output.require_own_output(tmp_path, output.OUTPUT_NAMES)
        assert "--out" in str(refused.value.hint)
        with pytest.raises(ConfigurationError), output.lock_output(tmp_path):
            pass
    assert work.is_dir()
    output.require_own_output(tmp_path, output.OUTPUT_NAMES)


def weights(folder: Path, *, ours: bool) -> Path:
    """A folder of weights, with the manifest of a repair or without."""
    (folder / "antidote").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    if ours:
        (folder / MANIFEST_FILE).write_text("{}")
    return folder


def asked(out: Path, model: str = "org/model", reference: str | None = None) -> RunConfig:
    return RunConfig(model, None, Policy(repair=RepairSection(reference=reference)), out)


@pytest.mark.parametrize("command", get_args(Command))
def test_inputs_inside_the_output_folder_are_refused(tmp_path: Path, command: Command) -> None:
    """For example `evaluate antidote-out/model` after a repair."""
    (tmp_path / output.LOG_FILE).touch()
    model = weights(tmp_path / output.MODEL_FOLDER, ours=True)
    scores = tmp_path / output.SCORES_FOLDER
    scores.mkdir()
    for config in (
        asked(tmp_path, str(model)),
        asked(tmp_path, str(scores)),
        asked(tmp_path, reference=str(model / "antidote")),
    ):
        with pytest.raises(ConfigurationError, match="is inside --out"):
            output.require_supported(config, command)


@pytest.mark.parametrize("command", get_args(Command))
def test_the_output_folder_may_be_inside_the_model_folder(tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.json").write_text("{}")
    output.require_supported(asked(tmp_path / "antidote-out", str(tmp_path)), command)


@pytest.mark.parametrize("left", [[], [output.LOG_FILE]])
@pytest.mark.parametrize("command", get_args(Command))
def test_foreign_weights_are_not_replaced(tmp_path: Path, command: Command, left: list[str]) -> None:
    weights(tmp_path / output.MODEL_FOLDER, ours=False)
    for name in left:
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=r"that no earlier run wrote|not the result of an earlier repair"):
        output.require_supported(asked(tmp_path), command)


def test_an_evaluation_does_not_replace_a_repair_and_a_run_does(tmp_path: Path) -> None:
    (tmp_path / output.LOG_FILE).touch()
    weights(tmp_path / output.MODEL_FOLDER, ours=True)
    with pytest.raises(ConfigurationError, match="holds repaired weights") as refused:
        output.require_supported(asked(tmp_path), "evaluate")
    assert refused.value.exit_code == 2
    output.require_supported(asked(tmp_path), "run")


def test_a_folder_inside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ConfigurationError, match="cannot be written") as refused:
            output.require_own_output(out, output.OUTPUT_NAMES)
        assert refused.value.cause == f"{tmp_path / 'file'} is a file"
    with pytest.raises(ConfigurationError, match="cannot be written"), output.lock_output(Path("/proc/out")):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    for out in (tmp_path / "theirs", tmp_path / "theirs" / "out"):
        with pytest.raises(ConfigurationError, match="cannot be written") as refused:
            output.require_own_output(out, output.OUTPUT_NAMES)
        assert "permission denied" in str(refused.value.cause)


def test_the_answer_cache_needs_a_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="answers cannot be written") as refused:
        evaluator.answer_cache_folder({"ANTIDOTE_CACHE": str(tmp_path / "file" / "answers")})
    assert "ANTIDOTE_CACHE" in str(refused.value.hint)
    for environ in ({"HOME": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": "/proc"}):
        found = evaluator.answer_cache_folder(environ)
        assert found.is_dir()
        assert tmp_path in found.parents


def test_a_file_system_without_locks_is_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with output.lock_output(tmp_path):
        output.require_own_output(tmp_path, output.OUTPUT_NAMES)


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError):
            output.require_own_output(tmp_path, output.OUTPUT_NAMES)
        holder.send_signal(signal.SIGKILL)
    output.require_own_output(tmp_path, output.OUTPUT_NAMES)


def test_a_disk_that_is_too_small_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    require_space(folder, 1, "--out")
    with pytest.raises(InfrastructureError, match=r"1,000,000,000,000\.0 MB needed, [\d,]+\.\d MB free") as raised:
        require_space(folder, 10**18, "--out")
    assert str(folder) in str(raised.value.cause)
    assert "--out" in str(raised.value.hint)
    assert not folder.exists()
