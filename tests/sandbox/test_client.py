"""The parent side of the sandbox: what a child sees, what its replies can do, and how every process ends."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.model.checkpoint_check import check_checkpoint, open_temporary_sandbox
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import (
    DecodeRequest,
    EncodeRequest,
    GenerationRequest,
    decode_batch,
    encode_conversations,
)
from antidote_ci.records import Model, Progress
from antidote_ci.sandbox import landlock
from antidote_ci.sandbox.client import Sandbox
from antidote_ci.sandbox.fork_server import INHERITED_VARIABLES, SPIN_COUNT, WAIT_VARIABLES, sandbox_environment
from antidote_ci.sandbox.replies import CallLimits
from tests.builders import empty_store, ignore
from tests.conftest import CopyOf
from tests.sandbox import child_functions
from tests.sandbox.child_functions import Allocation, Attempt, Named, RawReply
from tests.sandbox.conftest import SECRETS

LINUX = sys.platform == "linux"
needs_landlock = pytest.mark.skipif(landlock.find_version() == 0, reason="this kernel has no Landlock")
NOTHING = Named("")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the log of a sandbox that starts fast."""
    monkeypatch.setattr(sys, "executable", str(child_functions.write_interpreter(tmp_path / "code")))
    return folder_of(tmp_path / "out")


def process_of(sandbox: Sandbox) -> int:
    """The process id of the child that was called last."""
    return sandbox._children[-1].process


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_for_end(*processes: int) -> None:
    until = time.monotonic() + 20
    while any(map(is_running, processes)):
        assert time.monotonic() < until
        time.sleep(0.05)


def encode_request(folder: Path, text: str = "Hi") -> EncodeRequest:
    return EncodeRequest(Model(folder), [single_turn(text)], True)


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


# What a child sees.


def test_environments_hold_no_secret(own: Sandbox) -> None:
    allowed = sandbox_environment(dict.fromkeys(INHERITED_VARIABLES, ""), Path())
    variables = own.call(child_functions.list_variables, NOTHING, ignore)
    assert not variables.keys() & SECRETS.keys()
    assert not set(variables.values()) & set(SECRETS.values())
    if LINUX and os.getuid() == 0:
        for process in (process_of(own), own._server._process.pid):
            block = Path(f"/proc/{process}/environ").read_text().strip("\0").split("\0")
            names = {entry.partition("=")[0] for entry in block}
            # The interpreter of the tests adds the first two.
            assert names - {"PYTHONPATH", "PWD"} <= allowed.keys()
            assert "HF_HUB_OFFLINE" in names
            assert not any(value in entry for entry in block for value in SECRETS.values())


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_the_user_s_waiting_policy_wins(chosen: dict[str, str]) -> None:
    assert sandbox_environment({}, Path())["GOMP_SPINCOUNT"] == str(SPIN_COUNT)
    variables = sandbox_environment(chosen, Path())
    assert {name: variables[name] for name in WAIT_VARIABLES if name in variables} == chosen


def test_home_and_temporary_files_are_the_child_s_own(own: Sandbox) -> None:
    first = own.call(child_functions.list_variables, Named("", Path(__file__)), ignore)
    assert first["HOME"] == first["TMPDIR"] != os.environ.get("HOME")
    assert Path(first["HOME"]).is_dir()
    second = own.call(child_functions.list_variables, NOTHING, ignore)
    assert second["HOME"] != first["HOME"]
    assert not Path(first["HOME"]).exists()


@needs_landlock
def test_only_the_named_inputs_can_be_read(own: Sandbox, tmp_path: Path) -> None:
    model, other = folder_of(tmp_path / "model", config="{}"), folder_of(tmp_path / "other", config="{}")
    home = folder_of(tmp_path / "home", netrc="secret")
    reads = [str(path) for path in (other, other / "config", home / "netrc", model / "config", tmp_path, Path("/root"))]
    reads += ["/etc/shadow", "/etc/hostname", "/proc/1/cmdline", f"/proc/{os.getpid()}/environ"]
    found = own.call(child_functions.try_paths, Attempt(reads, model=Model(model)), ignore)
    assert found == dict.fromkeys(reads, "PermissionError")
    assert own.call(child_functions.read_text, Named("config", model), ignore) == "{}"


@pytest.mark.skipif(not os.access(DROP_CACHES, os.W_OK), reason="only root on Linux can drop caches")
def test_scarce_memory_leaves_what_libraries_read(own: Sandbox) -> None:
    attempt = Attempt(reads=["/proc/self/statm", "/proc/self/task", "/proc/meminfo", "/sys/devices/system/cpu/online"])
    before = own.call(child_functions.try_paths, attempt, ignore)
    DROP_CACHES.write_text("2")  # the kernel forgets unused inodes, as it does when memory is scarce
    assert own.call(child_functions.try_paths, attempt, ignore) == before
    assert set(before.values()) == {"opened"}


@needs_landlock
def test_only_the_outputs_can_be_written(own: Sandbox, tmp_path: Path) -> None:
    model, output = folder_of(tmp_path / "model", config="{}"), tmp_path / "new" / "output"
    writes = [str(path) for path in (model / "config", model / "new", tmp_path / "file", output / "file")]
    writes.append(str(own._log_path))
    attempt = Attempt(writes=writes, model=Model(model), output=output)
    found = own.call(child_functions.try_paths, attempt, ignore, outputs=[output])
    assert {path for path, result in found.items() if result == "opened"} == {str(output / "file")}
    assert (output / "file").read_text() == "written by the child"
    assert (model / "config").read_text() == "{}"


@needs_landlock
def test_inputs_stay_when_the_folder_of_the_log_is_an_output(own: Sandbox, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", config="{}")
    outputs = [own._log_path.parent]
    with pytest.raises(ConfigurationError, match="may not open"):
        own.call(child_functions.write_text, Named("config", folder), ignore, outputs=outputs)
    assert (folder / "config").read_text() == "{}"


def test_changed_files_are_seen_by_the_next_call(own: Sandbox, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", config="one")
    request = Named("config", folder)
    assert own.call(child_functions.read_text, request, ignore) == "one"
    (folder / "config").write_text("three")
    assert own.call(child_functions.read_text, request, ignore) == "three"
    (folder / "new").write_text("of the same folder")
    assert own.call(child_functions.read_text, Named("new", folder), ignore) == "of the same folder"


def test_child_stays_for_equal_inputs_and_ends_for_others(own: Sandbox, tmp_path: Path) -> None:
    one, two = folder_of(tmp_path / "one", file=""), folder_of(tmp_path / "two", file="")
    first = own.call(child_functions.get_process, Named("", one), ignore)
    assert own.call(child_functions.get_process, Named("other text", one), ignore) == first == process_of(own)
    second = own.call(child_functions.get_process, Named("", two), ignore)
    assert second != first
    assert not is_running(first)
    third = own.call(child_functions.get_process, Named("", two), ignore, outputs=[tmp_path / "output"])
    assert third != second
    assert not is_running(second)


def test_children_of_several_models_stay_while_memory_suffices(light: Path, tmp_path: Path) -> None:
    models = [Model(folder_of(tmp_path / name, weights="weights")) for name in ("first", "second")]
    with Sandbox(light / "child.log", None, child_functions.report_much_memory) as sandbox:
        first, second, again = (
            sandbox.call(child_functions.name_process, model, ignore) for model in (*models, models[0])
        )
        assert first == again != second
        if LINUX:
            # The child that is not called cannot go on.
            assert Path(f"/proc/{second}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        (tmp_path / "first" / "weights").write_text("other weights")
        assert sandbox.call(child_functions.name_process, models[0], ignore) != first
        wait_for_end(first)
        assert is_running(second)
        sandbox.call(child_functions.get_process, Named("", tmp_path / "first" / "weights"), ignore)
        wait_for_end(second)


@pytest.mark.skipif(not LINUX, reason="only Linux has the filter of system calls")
def test_a_stopped_child_cannot_continue_itself(light: Path, tmp_path: Path) -> None:
    models = [Model(folder_of(tmp_path / name, weights="weights")) for name in ("first", "second")]
    with Sandbox(light / "child.log", None, child_functions.report_much_memory) as sandbox:
        refused = sandbox.call(child_functions.stay_active, models[0], ignore)
        home = sandbox._children[-1]._folder / "home"
        assert len(refused) == 2 or "seccomp" not in sandbox.protections
        sandbox.call(child_functions.name_process, models[1], ignore)
        before = (home / "count").read_text()
        time.sleep(0.5)
        assert (home / "count").read_text() == before


def test_child_ends_when_memory_does_not_suffice_for_another(light: Path, tmp_path: Path) -> None:
    models = [Model(folder_of(tmp_path / name, weights="weights")) for name in ("first", "second")]
    with Sandbox(light / "child.log", None, child_functions.report_little_memory) as sandbox:
        first, second = (sandbox.call(child_functions.name_process, model, ignore) for model in models)
        wait_for_end(first)
        assert is_running(second)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the owner of a file")
def test_file_that_only_root_can_read_is_copied(sandbox: Sandbox, tiny_llama: Path, copy_of: CopyOf) -> None:
    """Root can read every file; a child that root starts cannot."""
    folder = copy_of(tiny_llama)
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).chmod(0o600)
        os.chown(folder / name, 65534, 65534)
    assert sandbox.call(check_checkpoint, Model(folder), ignore) is None
    assert sandbox.call(encode_conversations, encode_request(folder), ignore).rows[0]


# Replies.


def test_result_and_progress_are_returned(sandbox: Sandbox, tiny_llama: Path) -> None:
    reports: list[Progress] = []
    sets = {"all": [single_turn(f"Tell me {n}") for n in range(3)]}
    request = GenerationRequest(Model(tiny_llama), sets, {"all": 8})
    result = TransformersGenerator(sandbox, empty_store()).generate(request, reports.append)
    assert len(result.answers["all"]) == 3
    assert result.plan.max_new_tokens == 8
    assert reports[-1] == Progress("answers", 24, 24)


def test_unexpected_exception_names_the_log_and_the_child_goes_on(sandbox: Sandbox, tiny_llama: Path) -> None:
    with pytest.raises(InfrastructureError, match="unexpected") as raised:
        sandbox.call(decode_batch, DecodeRequest(Model(tiny_llama), [[10**9]], 4), ignore)
    assert str(sandbox._log_path) in str(raised.value.hint)
    process = process_of(sandbox)
    assert sandbox.call(decode_batch, DecodeRequest(Model(tiny_llama), [[5]], 4), ignore)
    assert process_of(sandbox) == process


def test_a_temporary_log_is_kept_only_for_an_error(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_temporary_sandbox() as sandbox:
        sandbox.call(decode_batch, DecodeRequest(Model(tiny_llama), [[5]], 4), ignore)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InfrastructureError) as raised, open_temporary_sandbox() as sandbox:
        sandbox.call(decode_batch, DecodeRequest(Model(tiny_llama), [[10**9]], 4), ignore)
    [folder] = tmp_path.iterdir()
    assert str(folder / "child.log") in str(raised.value.hint)
    assert "Error" in (folder / "child.log").read_text()


def test_expected_error_keeps_its_class(sandbox: Sandbox, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("eos_token", "no_token").replace("pad_token", "nor_token"))
    with pytest.raises(ConfigurationError, match="neither a padding token nor an end token"):
        sandbox.call(encode_conversations, encode_request(folder), ignore)


def test_missing_input_is_a_configuration_error(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="/nowhere/at/all cannot be read"):
        sandbox.call(encode_conversations, encode_request(Path("/nowhere/at/all")), ignore)


@pytest.mark.skipif(not LINUX, reason="only Linux shows the memory of a process in /proc")
@pytest.mark.parametrize("way", ["plain", "name", "ended thread", "programs"])
def test_memory_beyond_the_limit_is_refused(
    own: Sandbox, way: Literal["plain", "name", "ended thread", "programs"]
) -> None:
    limits = CallLimits(silence=20, memory=100 << 20)
    size = 50 << 20
    assert own.call(child_functions.allocate, Allocation(size), ignore, limits=limits) == size
    # Each of eight programs takes no more than the child had before.
    request = Allocation(size if way == "programs" else 300 << 20, way)
    with pytest.raises(UnsafeCheckpoint, match="more than 100 MiB"):
        own.call(child_functions.allocate, request, ignore, limits=limits)


@pytest.mark.skipif(not LINUX or os.getuid() != 0, reason="only root on Linux can mount a small disk")
@pytest.mark.parametrize("disk", ["temporary folder", "log", "output"])
def test_a_full_disk_ends_the_child(light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str) -> None:
    small = folder_of(tmp_path / "small")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=500", "none", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a disk")
    log, folder, outputs = light / "child.log", None, []
    if disk == "temporary folder":
        monkeypatch.setattr(tempfile, "tempdir", str(small))
    if disk == "log":
        log = small / "child.log"
    if disk != "temporary folder":
        folder = small / "output"
        outputs = [folder]
    try:
        with (
            Sandbox(log, None) as sandbox,
            pytest.raises(InfrastructureError, match=f"filled the disk of its {disk}"),
        ):
            sandbox.call(child_functions.create_files, Named("450", folder), ignore, outputs=outputs)
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", str(small)], check=True)  # noqa: S607


def test_each_model_is_checked_once_before_other_functions_open_it(light: Path, tmp_path: Path) -> None:
    models = [Model(folder_of(tmp_path / name, config="{}")) for name in ("one", "two")]
    log = light / "child.log"

    def checked() -> list[str]:
        return [line for line in log.read_text().splitlines() if line.startswith("checked")]

    with Sandbox(log, child_functions.print_model) as running:
        for _ in range(2):
            running.call(child_functions.try_paths, Attempt(model=models[0]), ignore)
        assert checked() == ["checked one"]
        running.call(child_functions.try_paths, Attempt(model=models[1]), ignore)
        running.call(child_functions.try_paths, Attempt(model=models[0]), ignore)
        assert checked() == ["checked one", "checked two"]
        (models[0].folder / "config").write_text("{ }")
        running.call(child_functions.try_paths, Attempt(model=models[0]), ignore)
        assert checked() == ["checked one", "checked two", "checked one"]


# The ends of the processes.


def test_killed_child_raises_infrastructure_error_and_is_replaced(own: Sandbox) -> None:
    process = own.call(child_functions.get_process, NOTHING, ignore)
    threading.Timer(0.5, os.kill, (process, signal.SIGKILL)).start()
    with pytest.raises(InfrastructureError, match=r"died \(killed\)") as raised:
        own.call(child_functions.allocate, Allocation(1), ignore)  # takes two seconds
    assert "memory" in str(raised.value.cause)
    assert own.call(child_functions.get_process, NOTHING, ignore) != process
    assert not is_running(process)


def test_processes_and_folders_end_with_the_context(light: Path) -> None:
    with Sandbox(light / "child.log", None) as running:
        variables = running.call(child_functions.list_variables, NOTHING, ignore)
        child, server = process_of(running), running._server._process.pid
        homes = [Path(variables["HOME"]), Path(running._server._home.name)]
        assert all(home.is_dir() for home in homes)
        assert len(list(light.iterdir())) == 2
    assert not is_running(child)
    assert not is_running(server)
    assert [path.name for path in light.iterdir()] == ["child.log"]
    assert not any(home.exists() for home in homes)


def test_a_killed_command_leaves_no_temporary_folder(tiny_llama: Path, tmp_path: Path) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    arguments = ["evaluate", str(tiny_llama), "--prompts=embedded", "--judge=refusal", f"--out={tmp_path / 'out'}"]
    environment = os.environ | {"TMPDIR": str(temporary), "ANTIDOTE_CACHE": str(tmp_path / "answers")}
    with subprocess.Popen([sys.executable, "-m", "antidote_ci", *arguments], env=environment) as process:
        wait_until(lambda: any(temporary.glob("antidote-server-*/child-*/home")))
        process.kill()
    wait_until(lambda: not any(temporary.glob("antidote-*")))


def test_killed_server_is_one_error(light: Path) -> None:
    with Sandbox(light / "child.log", None) as running:
        child = running.call(child_functions.get_process, NOTHING, ignore)
        os.kill(running._server._process.pid, signal.SIGKILL)
        with pytest.raises(InfrastructureError, match=r"that starts the sandbox died \(killed\)"):
            running.call(child_functions.get_process, Named("", light), ignore)
    wait_for_end(child)
    assert [path.name for path in light.iterdir()] == ["child.log"]


PARENT = """
import sys, time
from pathlib import Path
from antidote_ci.sandbox.client import Sandbox
from tests.sandbox import child_functions
sys.executable = sys.argv[2]
with Sandbox(Path(sys.argv[1]), None) as sandbox:
    sandbox.call(child_functions.get_process, child_functions.Named(""), lambda _: None)
    print(sandbox._children[-1].process, sandbox._server._process.pid, flush=True)
    if sys.argv[3] == "busy":
        sandbox.call(child_functions.write_raw, child_functions.RawReply(""), lambda _: None)
    time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_processes_end_with_their_parent(tmp_path: Path, state: str) -> None:
    interpreter = child_functions.write_interpreter(tmp_path / "code")
    command = [sys.executable, "-c", PARENT, str(tmp_path / "child.log"), str(interpreter), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, server = map(int, parent.stdout.readline().split())
        assert is_running(child)
        assert is_running(server)
        parent.kill()
    wait_for_end(child, server)


@pytest.mark.skipif(not LINUX, reason="only Linux lists the open files of a process in /proc")
def test_no_file_stays_open_and_no_folder_is_left(own: Sandbox, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", config="")

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def use() -> None:
        own.call(child_functions.get_process, Named("", folder), ignore)
        own.call(child_functions.get_process, NOTHING, ignore)
        with pytest.raises(AntidoteError):
            own.call(child_functions.write_raw, RawReply("", then="exit"), ignore)

    use()
    before = opened()
    for _ in range(3):
        use()
    assert opened() == before
    assert list(own._links.iterdir()) == []


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "sys.modules['transformers'] = None"])
def test_server_that_does_not_start_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(sys, "executable", str(child_functions.write_interpreter(tmp_path / "code", code)))
    folder = folder_of(tmp_path / "out")
    with Sandbox(folder / "child.log", None) as running:
        for _ in range(2):
            with pytest.raises(InfrastructureError, match=r"that starts the sandbox died \(exit \d\)") as raised:
                running.call(child_functions.get_process, NOTHING, ignore)
            assert str(folder / "child.log") in str(raised.value.hint)
    assert [path.name for path in folder.iterdir()] == ["child.log"]


# The log.


def _link(log: Path, other: Path) -> None:
    log.symlink_to(other)


def _link_hard(log: Path, other: Path) -> None:
    log.hardlink_to(other)


def _make_pipe(log: Path, _other: Path) -> None:
    os.mkfifo(log)


@pytest.mark.parametrize("make", [_link, _link_hard, _make_pipe])
def test_planted_log_is_replaced_and_not_followed(tmp_path: Path, make: Callable[[Path, Path], Any]) -> None:
    other, out = tmp_path / "other", folder_of(tmp_path / "out")
    other.write_text("of another program")
    make(out / "child.log", other)
    with Sandbox(out / "child.log", None):
        assert (out / "child.log").is_file()
        assert not (out / "child.log").is_symlink()
    assert other.read_text() == "of another program"
    assert [path.name for path in out.iterdir()] == ["child.log"]
