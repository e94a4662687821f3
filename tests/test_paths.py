"""Output folders: permissions, foreign files, disk space and the lock of a running command."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.paths import create_file, open_below, require_space
from antidote_ci.pipeline import evaluator, output
from antidote_ci.policy import Command, Gate, Policy, RepairSection, RunConfig
from tests.command_line import run_command

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


def asked(out: Path, model: str = "org/model", reference: str | None = None, baseline: Path | None = None) -> RunConfig:
    gate = Gate(baseline=None if baseline is None else str(baseline))
    return RunConfig(model, None, Policy(gate=gate, repair=RepairSection(reference=reference)), out)


@pytest.mark.parametrize("name", output.WEIGHT_FOLDERS)
@pytest.mark.parametrize("command", get_args(Command))
def test_inputs_inside_the_output_folder_are_refused(tmp_path: Path, command: Command, name: str) -> None:
    """For example `evaluate antidote-out/model` after a repair."""
    (tmp_path / output.LOG_FILE).touch()
    model = weights(tmp_path / name, ours=True)
    scores = tmp_path / output.SCORES_FOLDER
    scores.mkdir()
    (tmp_path / "report.json").touch()
    for config in (
        asked(tmp_path, str(model)),
        asked(tmp_path, str(scores)),
        asked(tmp_path, reference=str(model / "antidote")),
        asked(tmp_path, baseline=tmp_path / "report.json"),
    ):
        with pytest.raises(ConfigurationError, match="is inside --out"):
            output.require_supported(config, command)


@pytest.mark.parametrize("command", get_args(Command))
def test_the_output_folder_may_be_inside_the_model_folder(tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.json").write_text("{}")
    output.require_supported(asked(tmp_path / "antidote-out", str(tmp_path)), command)


@pytest.mark.parametrize("name", output.WEIGHT_FOLDERS)
@pytest.mark.parametrize("left", [[], [output.LOG_FILE]])
@pytest.mark.parametrize("command", get_args(Command))
def test_foreign_weights_are_not_replaced(tmp_path: Path, command: Command, left: list[str], name: str) -> None:
    weights(tmp_path / name, ours=False)
    for file in left:
        (tmp_path / file).touch()
    with pytest.raises(ConfigurationError, match=r"that no earlier run wrote|not the result of an earlier repair"):
        output.require_supported(asked(tmp_path), command)


@pytest.mark.parametrize("name", output.WEIGHT_FOLDERS)
def test_an_evaluation_does_not_replace_a_repair_and_a_run_does(tmp_path: Path, name: str) -> None:
    (tmp_path / output.LOG_FILE).touch()
    weights(tmp_path / name, ours=True)
    with pytest.raises(ConfigurationError, match="holds repaired weights") as refused:
        output.require_supported(asked(tmp_path), "evaluate")
    assert refused.value.exit_code == 2
    output.require_supported(asked(tmp_path), "run")
    with output.lock_output(tmp_path):
        output.clear_output(tmp_path)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", [*output.OUTPUT_NAMES, "model/config.json", "model/antidote", "repair/scores.json"])
def test_a_link_below_the_output_folder_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written, removed or locked."""
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    (victim / "file").write_text("mine")
    (out / name).parent.mkdir(parents=True)
    (out / "report.json").write_text("{}")
    (out / name).unlink(missing_ok=True)
    for target in (victim, victim / "file", tmp_path / "missing"):
        (out / name).symlink_to(target)
        with pytest.raises(ConfigurationError, match="is a link") as refused:
            output.require_own_output(out, output.OUTPUT_NAMES)
        assert str(out / name) in refused.value.what
        with pytest.raises(ConfigurationError, match="is a link"), output.lock_output(out):
            pass
        (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises(ConfigurationError, match="special file"):
        output.require_own_output(out, output.OUTPUT_NAMES)
    assert (victim / "file").read_text() == "mine"
    assert not (tmp_path / "missing").exists()


def test_a_command_refuses_a_planted_log(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    out.mkdir()
    (out / output.LOG_FILE).symlink_to(victim)
    (tmp_path / "model").mkdir()
    done = run_command("evaluate", str(tmp_path / "model"), f"--out={out}", "--judge=refusal", "--prompts=embedded")
    assert done.returncode == 2, done.stderr
    assert "is a link or a special file" in done.stderr
    assert victim.read_text() == "mine"


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    output.require_own_output(tmp_path / "out", output.OUTPUT_NAMES)
    with output.lock_output(tmp_path / "out"):
        output.clear_output(tmp_path / "out")


def test_work_folders_are_removed_and_their_links_are_not_followed(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    (victim / "file").write_text("mine")
    (out / ".work-1").mkdir(parents=True)
    (out / ".work-1" / "served").symlink_to(victim)
    (out / ".work-2").symlink_to(victim)
    with output.lock_output(out):
        output.clear_output(out)
    assert [path.name for path in out.iterdir()] == [output.LOCK_FILE]
    assert (victim / "file").read_text() == "mine"


@pytest.mark.parametrize("plant", ["symlink", "hard link", "pipe", "file", "nothing"])
def test_a_file_is_made_anew(tmp_path: Path, plant: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "child.log"
    victim.write_text("mine")
    if plant == "symlink":
        path.symlink_to(victim)
    elif plant == "hard link":
        path.hardlink_to(victim)
    elif plant == "pipe":
        os.mkfifo(path)
    elif plant == "file":
        path.write_text("old and longer")
    with create_file(path, 0o600) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert stat.S_ISREG(path.lstat().st_mode)
    assert path.stat().st_mode & 0o777 == 0o600
    assert victim.read_text() == "mine"


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(OSError), create_file(tmp_path / "model"):  # noqa: PT011 - the class depends on the system
        pass
    assert (tmp_path / "model").is_dir()


def test_only_regular_files_below_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("private")
    folder = tmp_path / "out"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "README.md").write_text("card")
    with open_below(folder, "model/README.md") as file:
        assert file.read() == b"card"
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(folder / "model")
    os.mkfifo(folder / "pipe")
    for name in ("file", "folder/README.md", "pipe", "model", "missing"):
        with pytest.raises(OSError), open_below(folder, name):  # noqa: PT011 - the class depends on the file
            pass


def test_entries_of_the_answer_cache_are_not_reached_through_links(tmp_path: Path) -> None:
    cache, elsewhere = AnswerStore(tmp_path / "answers"), AnswerStore(tmp_path / "elsewhere")
    first, second = (AnswerStore.key(number) for number in range(2))
    for key in (first, second):
        elsewhere.put(key, "poisoned")
    (tmp_path / "answers" / first[:2]).mkdir(parents=True)
    (tmp_path / "answers" / first[:2] / f"{first}.json").symlink_to(
        tmp_path / "elsewhere" / first[:2] / f"{first}.json"
    )
    (tmp_path / "answers" / second[:2]).symlink_to(tmp_path / "elsewhere" / second[:2])
    assert (cache.get(first), cache.get(second)) == (None, None)
    cache.put(first, "own")
    assert (cache.get(first), elsewhere.get(first)) == ("own", "poisoned")
    with pytest.raises(ConfigurationError, match="is a link"):
        cache.put(second, "own")


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


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from antidote_ci.paths import write_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "write_file(Path(sys.argv[1]), b'text')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "report.html")], capture_output=True, text=True, check=False
    )
    assert f"File too large: '{tmp_path / 'report.html'}'" in done.stderr
