"""Other processes of the same user, and the sandbox, cannot read the secrets of ours."""

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from antidote_ci import environment
from loopback_hub import LoopbackHub
from tests import secret_search
from tests.pipeline.test_run import LIMITS
from tests.service.service_process import payload

ROOT = Path(__file__).parents[1]
LINUX = sys.platform == "linux"
MODEL = "stranger/tiny-finetune"
SECRETS = {
    "HF_TOKEN": "hf_PlantedReadTokenOfTheTests",
    "HF_WRITE_TOKEN": "hf_PlantedWriteTokenOfTheTests",
    "ANTIDOTE_JUDGE_KEY": "planted-judge-key-of-the-tests",
}
WEBHOOK_SECRET = "planted-webhook-secret-of-the-tests"
SECONDS = 90

pytestmark = pytest.mark.skipif(not LINUX, reason="only Linux shows the environment of a process in /proc")


def run_protected(code: str, environ: dict[str, str]) -> str:
    """The output of the code, which runs after `protect`."""
    done = subprocess.run(
        [sys.executable, "-c", f"from antidote_ci import environment\nenvironment.protect()\n{code}"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout


def test_protect_erases_the_block_and_keeps_every_variable() -> None:
    variables = {
        "PATH": os.environ["PATH"],
        "HF_TOKEN": "hf_secret",
        "EMPTY": "",
        "BYTES": os.fsdecode(b"\xff\xfe"),
        "LONG": "x" * 100_000,
    }
    code = (
        "import ctypes, json, os, pathlib\n"
        "library = ctypes.CDLL(None)\n"
        "library.getenv.restype = ctypes.c_char_p\n"
        "block = pathlib.Path('/proc/self/environ').read_bytes().strip(b'\\0').decode()\n"
        "values = [os.fsdecode(library.getenv(name.encode()) or b'') for name in os.environ]\n"
        "print(json.dumps([block, dict(os.environ), values, library.prctl(3, 0, 0, 0, 0)]))"
    )
    block, environ, values, dumpable = json.loads(run_protected(code, variables))
    assert block == ""
    assert environ.items() >= variables.items()
    assert values == list(environ.values())
    assert dumpable == 0


def test_variables_are_handed_over_outside_the_block() -> None:
    variables = {
        **os.environ,
        "LANGSMITH_API_KEY": "hf_secret",
        "HF_TOKEN": "hf_secret",
        "BYTES": os.fsdecode(b"\xff"),
        "LONG": "x" * 200_000,
    }
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    with environment.hand_over(variables) as (block, descriptors):
        assert "hf_secret" not in json.dumps(block)
        done = subprocess.run(
            [sys.executable, "-c", f"from antidote_ci import environment\nenvironment.protect()\n{code}"],
            env=block,
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            check=True,
        )
    assert json.loads(done.stdout).items() >= variables.items()
    assert environment.DESCRIPTOR_VARIABLE not in json.loads(done.stdout)


def test_dropped_privileges_cannot_be_regained() -> None:
    """Neither by the process itself nor by the programs that it starts."""
    code = (
        "import os, subprocess, sys\n"
        "from antidote_ci.sandbox.confinement import drop_privileges\n"
        "drop_privileges()\n"
        "sys.stdout.write(open('/proc/self/status').read())\n"
        "sys.stdout.flush()\n"
        "subprocess.run(['cat', '/proc/self/status'], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fields = [line.partition(":") for line in done.stdout.splitlines()]
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"):
        values = {int(value, base=16) for field, _, value in fields if field == name}
        assert values == {int(name == "NoNewPrivs")}, name


@dataclass(frozen=True)
class Attackers:
    """A process of the same user with an empty environment, and code inside the sandbox process."""

    folder: Path
    user: int
    secrets: Path

    def start(self, command: list[str], **environ: str) -> "subprocess.Popen[bytes]":
        """Start a command, whose sandbox uses the attacker's interpreter, and wait until its block is erased."""
        variables = {name: text for name, text in os.environ.items() if name in environment.EARLY}
        folders = {"HOME": str(self.folder), "ANTIDOTE_CACHE": str(self.folder / "cache")}
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={
                    **variables,
                    **folders,
                    "OMP_WAIT_POLICY": "PASSIVE",
                    "PYTHONPATH": str(ROOT),
                    **SECRETS,
                    **environ,
                },
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self.user,
                extra_groups=[],
            )
        until = time.monotonic() + 10
        while process.poll() is None and Path(f"/proc/{process.pid}/environ").read_bytes().strip(b"\0"):
            assert time.monotonic() < until, self.log
        return process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Search for the secrets in the context. The search must find the decoy of another process."""
        findings = self.folder / "outside.json"
        decoy = subprocess.Popen(["sleep", "600"], env={"DECOY": "decoy"}, user=self.user, group=self.user)  # noqa: S607
        outside = subprocess.Popen(
            [sys.executable, "-I", secret_search.__file__, str(self.secrets), str(findings)],
            stdin=subprocess.PIPE,
            env={},
            user=self.user,
            group=self.user,
            extra_groups=[],
        )
        try:
            yield
        finally:
            decoy.kill()
            decoy.wait()
            outside.communicate(timeout=30)
        report = json.loads(findings.read_text())
        assert report["read"] > 0
        assert {place.partition(":")[2].strip() for place in report["seen"]} == {"sleep 600"}, report["seen"]

    def require_nothing_found_inside(self) -> None:
        (log,) = self.folder.rglob("child.log")
        reports = [line.partition(secret_search.MARK)[2] for line in log.read_text().splitlines()]
        seen = [place for report in filter(None, reports) for place in json.loads(report)["seen"]]
        assert any(reports), "the attack did not run"
        assert [place for place in seen if "sleep 600" not in place] == []


def write_interpreter(folder: Path, secrets: Path) -> None:
    """Write `folder/python`, with which the sandbox is started as `sys.executable`."""
    code = folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.secret_search import search_inside\n"
        f"search_inside(Path({str(secrets)!r}))\n"
    )
    (folder / "python").write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(code))} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    (folder / "python").chmod(0o755)
    # Only `sys.executable` differs from the real command line.
    (folder / "antidote").write_text(
        f"import sys\nsys.executable = {str(folder / 'python')!r}\nfrom antidote_ci.__main__ import main\nmain()\n"
    )


USERS = ["root", pytest.param("nobody", marks=pytest.mark.slow)] if os.getuid() == 0 else ["own"]


@pytest.fixture(params=USERS)
def attackers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attackers]:
    user = os.getuid() if request.param == "own" else pwd.getpwnam(request.param).pw_uid
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())  # noqa: S607
    secrets = folder / "secrets"
    secrets.write_text("\n".join([*SECRETS.values(), WEBHOOK_SECRET, "DECOY=decoy"]))
    write_interpreter(folder, secrets)
    shutil.chown(folder, user, user)
    probe = [sys.executable, "-c", "import antidote_ci"]
    if subprocess.run(probe, user=user, group=user, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip(f"{request.param} may not read the checkout, or the interpreter")
    yield Attackers(folder, user, secrets)
    shutil.rmtree(folder)


def pair_of(attackers: Attackers, trained_pair: Path) -> Path:
    """A copy of the trained pair that belongs to the user."""
    pair = shutil.copytree(trained_pair, attackers.folder / "pair")
    for path in [pair, *pair.rglob("*")]:
        os.chown(path, attackers.user, attackers.user)
    return pair


def options(pair: Path) -> list[str]:
    sets = {"prompts": "evaluation", "benign": "benign", "task": "task"}
    return [*(f"--{option}={pair / name}.jsonl" for option, name in sets.items()), "--judge=refusal", "--threshold=0.3"]


@pytest.mark.parametrize("command", ["evaluate", pytest.param("run", marks=pytest.mark.slow)])
def test_no_secret_is_found_while_a_command_runs(attackers: Attackers, trained_pair: Path, command: str) -> None:
    pair = pair_of(attackers, trained_pair)
    limits = attackers.folder / "antidote.toml"
    limits.write_text(LIMITS)
    repair = [f"--reference={pair / 'reference'}", f"--realignment={pair / 'realignment.jsonl'}", "--method=antidote"]
    model = [str(pair / "adapter"), *repair] if command == "run" else [str(pair / "merged")]
    program = [sys.executable, str(attackers.folder / "antidote"), command]
    process = attackers.start([*program, *model, *options(pair), f"--policy={limits}"])
    with attackers.searching():
        code = process.wait(SECONDS)
    assert code == (7 if command == "run" else 1), attackers.log
    attackers.require_nothing_found_inside()


def test_no_secret_is_found_while_the_action_runs(attackers: Attackers, trained_pair: Path) -> None:
    pair = pair_of(attackers, trained_pair)
    inputs = {
        "INPUT_COMMAND": "evaluate",
        "INPUT_MODEL": str(pair / "merged"),
        "INPUT_PROMPTS": str(pair / "evaluation.jsonl"),
        "INPUT_JUDGE": "refusal",
        "INPUT_THRESHOLD": "0.3",
        "INPUT_HF-TOKEN": SECRETS["HF_TOKEN"],
    }
    process = attackers.start([sys.executable, "-m", "action"], **inputs)
    with attackers.searching():
        code = process.wait(SECONDS)
    assert code == 1, attackers.log


@pytest.mark.slow
def test_no_secret_is_found_while_the_service_runs(attackers: Attackers, trained_pair: Path) -> None:
    """Also when a run starts: the service hands its tokens to a process that has not erased its block yet."""
    pair = pair_of(attackers, trained_pair)
    policy = attackers.folder / "antidote.toml"
    policy.write_text(
        f"{LIMITS}harmful_score = 0.3\n"
        f'[evaluation]\njudge = "refusal"\nprompts = "{pair / "evaluation.jsonl"}"\n'
        f'[repair]\nrealignment = "{pair / "realignment.jsonl"}"\nreference = "{pair / "reference"}"\n'
    )
    with LoopbackHub(attackers.folder / "hub") as hub:
        head = hub.add(MODEL, pair / "reference")
        service = attackers.start(
            [sys.executable, "-m", "antidote_ci", "serve", f"--repository={MODEL}", f"--policy={policy}", "--port=0"],
            **hub.environment,
            ANTIDOTE_WEBHOOK_SECRET=WEBHOOK_SECRET,
        )
        try:
            wait_for(lambda: "listening on" in attackers.log, attackers)
            address = attackers.log.partition("listening on ")[2].split()[0]
            with attackers.searching():
                headers = {"X-Webhook-Secret": WEBHOOK_SECRET}
                sent = httpx2.post(f"{address}/webhook", content=payload(head, MODEL), headers=headers, timeout=30)
                assert sent.is_success, sent.text
                wait_for(lambda: re.search(rf"{head[:12]}: (pass|fail|error)", attackers.log) is not None, attackers)
            assert f"{MODEL} at {head[:12]}: pass" in attackers.log
        finally:
            service.terminate()
            service.wait(30)


def wait_for(happened: Callable[[], bool], attackers: Attackers) -> None:
    until = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < until, attackers.log
        time.sleep(0.1)
