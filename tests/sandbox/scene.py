"""A parent process with secrets, other processes, and two children of the sandbox: an attacker has taken over one.

    python -m tests.sandbox.scene SETTINGS FOLDER

SETTINGS: names of `SETTINGS`, comma-separated; `control` makes the same attempts without the sandbox too. FOLDER holds
the checkpoints `model` and `other`, and belongs to the user of the scene. Writes `scene.json` to it: `outcomes` of the
attempts inside the child and `control` of those without the sandbox, and `changes`, what the child has changed.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from antidote_ci import environment
from tests.sandbox import attacker, settings

ROOT = Path(__file__).parents[2]
SECRET = "planted-secret-of-the-scene"
SETTINGS = {
    "nobody": settings.become_nobody,
    "docker": settings.enter_container,
    "no-landlock": settings.hide_landlock,
}
FILES = {
    "token": "home/.cache/huggingface/token",
    "key": "home/.ssh/id_ed25519",
    "git": "workspace/.git/config",
    "output file": "runner/GITHUB_OUTPUT",
    "environment file": "runner/GITHUB_ENV",
    "path file": "runner/GITHUB_PATH",
    "summary file": "runner/GITHUB_STEP_SUMMARY",
    "store": "cache/answers/00.json",
    "report": "out/report.json",
}
SECONDS = f"300.{os.getpid()}"
"""The argument of the process that would survive."""
WRITTEN = Path("/dev/shm/written-by-the-attack")  # noqa: S108
UNCOMPARED = ("attacked", "temporary")
"""Folders in which the sandbox itself writes."""
SACRIFICES = {"file to truncate": "home/truncated", "file of a stranger": "out/other.json"}


def plant(folder: Path) -> dict[str, Any]:
    """Write the files and start the processes that an attacker looks for. Returns the targets."""
    for name in (*FILES.values(), *SACRIFICES.values()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{SECRET}\n")
        path.chmod(0o600)
    program = folder / "home/program"
    shutil.copy("/usr/bin/true", program)
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").touch()
    return {
        "secrets": {name: str(folder / path) for name, path in FILES.items()},
        "sacrifices": {name: str(folder / path) for name, path in SACRIFICES.items()},
        "program": str(program),
        "seconds": SECONDS,
        "folders": {
            **{name: str(folder / name) for name in ("home", "workspace", "runner", "out", "cache", "bin")},
            "working folder": str(folder / "working"),
            "temporary folder": str(folder / "temporary"),
            "shared memory": "/dev/shm",  # noqa: S108
        },
    }


def list_states(folder: Path) -> dict[str, list[object]]:
    """What a change of each file would change, but its time of access."""
    states: dict[str, list[object]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes().hex() if path.is_file() and status.st_size < 10_000 else ""
        attributes = sorted(os.listxattr(path, follow_symlinks=False))
        modified = status.st_mtime_ns if not path.is_dir() else 0
        if path.relative_to(folder).parts[0] not in UNCOMPARED:
            states[str(path.relative_to(folder))] = [status.st_mode, status.st_size, modified, attributes, content]
    return states


class Listeners:
    """Listening sockets: TCP, UDP, one like Docker's, and an abstract one."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.accepted: list[str] = []
        abstract = f"\0antidote-scene-{os.getpid()}"
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        self.targets = {
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "docker": str(folder / "docker.sock"),
            "abstract": abstract,
        }
        self._accept("tcp", tcp)
        threading.Thread(target=lambda: self.accepted.append(f"udp {udp.recv(9)!r}"), daemon=True).start()
        for name in ("docker", "abstract"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(self.targets[name])
            listener.listen()
            self._accept(name, listener)

    def _accept(self, name: str, listener: socket.socket) -> None:
        def run() -> None:
            while True:
                listener.accept()[0].close()
                self.accepted.append(name)

        threading.Thread(target=run, daemon=True).start()


def start_decoy(stack: ExitStack) -> "subprocess.Popen[bytes]":
    """A process of the same user with a secret in its environment and its command line."""
    code = "import time; time.sleep(600)"
    decoy = subprocess.Popen([sys.executable, "-S", "-c", code, SECRET], env={"SECRET": SECRET})
    stack.callback(decoy.wait)
    stack.callback(decoy.kill)
    return decoy


def write_interpreter(folder: Path) -> Path:
    """Write a program that starts Python with `attacker.attack_inside`, whose targets are in `folder`."""
    code = folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import importlib.util\nfrom pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('attacker', {attacker.__file__!r})\n"
        "attacker = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(attacker)\n"
        f"attacker.attack_inside(Path({str(folder / 'targets.json')!r}))\n"
    )
    program = folder / "python"
    variables = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(str(code))}"
    program.write_text(f'#!/bin/sh\n{variables} exec {shlex.quote(sys.executable)} "$@"\n')
    program.chmod(0o755)
    return program


def attack_in_child(names: list[str], folder: Path) -> dict[str, Any]:
    """Attack from the child of one model while the child of another runs, and compare everything before and after."""
    from antidote_ci.model.conversations import single_turn
    from antidote_ci.model.generation import DecodeRequest, EncodeRequest, decode_batch, encode_conversations
    from antidote_ci.records import Model
    from antidote_ci.sandbox.client import Sandbox

    def answer(sandbox: Sandbox, model: Model) -> object:
        rows = sandbox.call(encode_conversations, EncodeRequest(model, [single_turn("Tell me")], True), ignore).rows
        return rows, sandbox.call(decode_batch, DecodeRequest(model, rows, 4, 0, None), ignore)

    def ignore(_: object) -> None:
        pass

    model, other = Model(folder / "model"), Model(folder / "other")
    interpreter = sys.executable
    with ExitStack() as stack:
        targets = plant(folder)
        (folder / "logs").mkdir()
        (folder / "attacked").mkdir()
        listeners = Listeners(stack, folder)
        decoy, fragile = start_decoy(stack), start_decoy(stack)
        neighbour = stack.enter_context(Sandbox(folder / "logs" / "neighbour.log", None))
        sys.executable = str(write_interpreter(folder))
        attacked = Sandbox(folder / "attacked" / "child.log", None)
        attacked.__enter__()
        sys.executable = interpreter
        before = answer(neighbour, other)
        child = neighbour._children[-1]
        (child._folder / "home" / "private").write_text(SECRET)
        targets |= listeners.targets
        targets["secrets"] |= {
            "file of the neighbour": str(child._folder / "home" / "private"),
            "link of the neighbour": str(next(child._links.rglob("config.json"))),
            "other model": str(other.folder / "config.json"),
        }
        targets["weights"] = str(model.folder / "model.safetensors")
        targets["processes"] = {"decoy": decoy.pid, "neighbour": child.process}
        targets["fragile"] = fragile.pid
        (folder / "targets.json").write_text(json.dumps(targets))
        states = list_states(folder)
        answer(attacked, model)
        taken_over = attacked._children[-1]
        home, group = taken_over._folder, taken_over.process
        attacked.__exit__()
        log = (folder / "attacked" / "child.log").read_text()
        outcomes = json.loads(log.partition(attacker.MARK)[2].partition("\n")[0] or "{}")
        time.sleep(0.2)
        after = list_states(folder)
        changes = [name for name in {*states, *after} if states.get(name) != after.get(name)]
        changes += [f"accepted: {name}" for name in listeners.accepted]
        changes += ["a process was killed"] * (decoy.poll() is not None or fragile.poll() is not None)
        changes += ["the answers of another child"] * (answer(neighbour, other) != before)
        changes += ["the home folder stays"] * home.exists()
        changes += [f"process {process} survives" for process in list_survivors(group)]
        targets["processes"] |= {"server": neighbour._server._process.pid, "parent": os.getpid()}
        (folder / "targets.json").write_text(json.dumps(targets))
        control = attack_without_sandbox(folder) if "control" in names else {}
        control_kills = fragile.poll() is not None
        return {
            "outcomes": outcomes,
            "control": control,
            "control_effects": [control_kills, end_survivors(10 if control else 0)],
            "changes": sorted(changes),
            "protections": attacked.protections,
            "log": log[-2_000:],
        }


def attack_in_server(folder: Path) -> dict[str, Any]:
    """Attack from a program that runs as an inference server, and compare everything before and after."""
    from antidote_ci.checkpoint.links import LinkedCheckpoint
    from antidote_ci.evaluation.generators import supervisor
    from antidote_ci.evaluation.generators.server import server_environment

    with ExitStack() as stack:
        targets = plant(folder)
        listeners = Listeners(stack, folder)
        decoy, fragile = start_decoy(stack), start_decoy(stack)
        targets |= listeners.targets
        targets["secrets"]["other model"] = str(folder / "other" / "config.json")
        targets["weights"] = str(folder / "model" / "model.safetensors")
        targets["processes"] = {"decoy": decoy.pid, "parent": os.getpid()}
        targets["fragile"] = fragile.pid
        (folder / "targets.json").write_text(json.dumps(targets))
        states = list_states(folder)
        home = folder / "attacked"
        home.mkdir()
        server = [sys.executable, attacker.__file__, str(folder / "targets.json"), str(home / "outcomes.json")]
        with (folder / "working" / "server.log").open("wb") as log:
            process = subprocess.Popen(
                supervisor.to_command(server, LinkedCheckpoint(folder / "model", []), home),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=server_environment(os.environ, home),
                start_new_session=True,
            )
            process.wait(60)  # its input stays open meanwhile: the end of it ends the server
            process.communicate()
        (folder / "working" / "server.log").rename(home / "server.log")
        time.sleep(0.2)
        after = list_states(folder)
        changes = [name for name in {*states, *after} if states.get(name) != after.get(name)]
        changes += ["a process was killed"] * (decoy.poll() is not None or fragile.poll() is not None)
        changes += ["a process survives"] * end_survivors(1)
        WRITTEN.unlink(missing_ok=True)  # a server may write there
        outcomes = home / "outcomes.json"
        return {
            "outcomes": json.loads(outcomes.read_text()) if outcomes.exists() else {},
            "accepted": listeners.accepted,
            "changes": sorted(changes),
            "log": (home / "server.log").read_text()[-2_000:],
        }


def attack_without_sandbox(folder: Path) -> dict[str, str]:
    """The outcomes of the same attempts in an ordinary process."""
    WRITTEN.unlink(missing_ok=True)
    command = [sys.executable, attacker.__file__, str(folder / "targets.json"), str(folder / "control.json")]
    with (folder / "control.log").open("wb") as output:
        subprocess.run(
            command, env={"HOME": str(folder / "home")}, check=True, stdout=output, stderr=output, timeout=60
        )
    WRITTEN.unlink(missing_ok=True)
    outcomes: dict[str, str] = json.loads((folder / "control.json").read_text())
    return outcomes


def list_survivors(group: int) -> list[int]:
    """The processes of the group, and those that `attacker.survive` has started."""
    survivors = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if (fields[0] != "Z" and (group and int(fields[2]) == group)) or command == f"sleep\0{SECONDS}\0".encode():
            survivors.append(int(process.name))
    return survivors


def end_survivors(seconds: float) -> bool:
    """Kill what `attacker.survive` has started, and return whether there was any. On a busy machine it starts later."""
    until = time.monotonic() + seconds
    while not (survivors := list_survivors(0)) and time.monotonic() < until:
        time.sleep(0.05)
    for process in survivors:
        os.kill(process, signal.SIGKILL)
    return bool(survivors)


def main() -> None:
    """Enter the settings, then start again: a process that has changed its user cannot read its own memory maps."""
    names, folder = sys.argv[1].split(","), Path(sys.argv[2])
    if "entered" not in names:
        for name in names:
            SETTINGS.get(name, do_nothing)()
        for name in ("working", "temporary"):
            (folder / name).mkdir()
        variables = {"HOME": "home", "ANTIDOTE_CACHE": "cache", "TMPDIR": "temporary"}
        os.environ.update({name: str(folder / path) for name, path in variables.items()}, HF_TOKEN=SECRET)
        entered = ",".join([*names, "entered"])
        os.chdir(folder / "working")
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "tests.sandbox.scene", entered, str(folder)])  # noqa: S606
    environment.protect()
    report = attack_in_server(folder) if "server" in names else attack_in_child(names, folder)
    (folder / "scene.json").write_text(json.dumps(report))


def do_nothing() -> None:
    """The setting of the test itself."""


if __name__ == "__main__":
    main()
