"""Answers by a server with an OpenAI-compatible API, started for a model and stopped afterwards: docs/servers.md."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from antidote_ci.checkpoint.files import loadable
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation.chat_api import ChatApi, connect, list_models
from antidote_ci.evaluation.generators import supervisor
from antidote_ci.evaluation.generators.asking import to_chat_requests, to_progress, to_result
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.model.loading import MergeRequest, merge_checkpoint, model_fingerprint
from antidote_ci.model.store import JsonCache
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.sandbox.client import Sandbox, sandbox_environment

EXAMPLE = "vllm serve {model} --host 127.0.0.1 --port {port}"
START_TIMEOUT = 900.0
"""Seconds: large weights are read from slow disks."""
POLL_SECONDS = 0.25

INHERITED_PREFIXES = ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "NCCL_", "GLOO_", "RAY_", "VLLM_")
"""Servers find their devices, links and nodes by variables of these beginnings."""
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""A variable with one of these in its name stays here: VLLM_API_KEY."""

FORBIDDEN_OPTIONS = {
    "--trust-remote-code": "it would run code that comes with the weights",
    "--api-key": "the command is printed and recorded, and a server on this machine alone needs no key",
}


class ServerGenerator:
    """One server a model, started when something has to be asked."""

    def __init__(
        self,
        command: str,
        work: Path,
        sandbox: Sandbox,
        store: Path,
        *,
        start_limit: float = START_TIMEOUT,
    ) -> None:
        """`command` has {model} and {port} in it; `work` takes the server's log and merged weights; `child` merges.

        `store` is the folder of answers that are never asked for twice.
        Raises ConfigurationError for a command that cannot be used.
        """
        self._command = command
        self._pieces = _split_command(command)
        self._work = work
        self._child = sandbox
        self._store = store
        self._start_limit = start_limit

    def generate(self, request: GenerationRequest, report: OnProgress) -> GenerationResult:
        """Answers in the order of the conversations; each is stored as it comes, and asked for once."""
        if not request.add_generation_prompt:
            raise ValueError("a server's template opens the answer by itself")
        asked = to_chat_requests(request)
        versions = _server_versions(self._pieces[0])
        store = JsonCache(self._store)
        same = ("server", model_fingerprint(request.model), self._command, versions)
        keys = [JsonCache.key(*same, asdict(question)) for question in asked]
        kept = {position: store.get(key) for position, key in enumerate(keys)}
        found = {position: GeneratedAnswer(**value) for position, value in kept.items() if value is not None}
        missing = [position for position in range(len(asked)) if position not in found]
        if missing:
            with self._full_weights(request.model, report) as folder, self._run_server(folder, report) as api:
                for index, answer in api.stream_answers([asked[position] for position in missing]):
                    position = missing[index]
                    found[position] = answer
                    store.put(keys[position], asdict(answer))
                    report(to_progress(asked, found))
        return to_result(request, [found[position] for position in range(len(asked))], self._command, versions)

    @contextmanager
    def _full_weights(self, model: Model, report: OnProgress) -> Iterator[Path]:
        """A folder with full weights that lasts as long as the context: nothing lies in it that has no fingerprint."""
        with tempfile.TemporaryDirectory(dir=self._work.absolute(), prefix="served-") as folder:
            served = Path(folder) / "model"
            if model.adapter is not None:
                yield self._child.call(merge_checkpoint, MergeRequest(model, served), report)
            else:
                _link(model.folder, served)
                yield served

    @contextmanager
    def _run_server(self, folder: Path, report: OnProgress) -> Iterator[ChatApi]:
        port = _find_free_port()
        pieces = [piece.replace("{model}", str(folder)).replace("{port}", str(port)) for piece in self._pieces]
        log = self._work / "server.log"
        # A server may write prompts and answers there.
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with _temporary_home() as home, os.fdopen(descriptor, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", supervisor.__name__, *pieces],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=server_environment(os.environ, home),
                start_new_session=True,
            )
            try:
                names = self._wait_until_ready(process, _server_address(port), log, report)
                served = str(folder) if str(folder) in names or not names else names[0]
                try:
                    yield connect(_server_address(port), model=served)
                except InfrastructureError as error:
                    raise self._explain_failure(error, process, log) from None
            finally:
                _stop_server(process)

    def _wait_until_ready(
        self, process: "subprocess.Popen[bytes]", address: str, log: Path, report: OnProgress
    ) -> list[str]:
        started = time.monotonic()
        last = ""
        while (waited := time.monotonic() - started) < self._start_limit:
            report(Progress("seconds until the server is up", int(waited), int(self._start_limit)))
            if process.poll() is not None:
                raise _server_died_error(self._pieces[0], process.returncode, log)
            try:
                names = list_models(address, timeout=5, attempts=1)
            except InfrastructureError as error:
                last = error.what
                time.sleep(POLL_SECONDS)
                continue
            # Another program may have taken the port between its choice and the server's start.
            if process.poll() is None:
                return names
        raise InfrastructureError(
            f"the server {self._pieces[0]} was not up within {self._start_limit:g} s",
            cause=last,
            hint=f"its log is {log}; the command must listen at 127.0.0.1 on {{port}}",
        )

    def _explain_failure(
        self, error: InfrastructureError, process: "subprocess.Popen[bytes]", log: Path
    ) -> InfrastructureError:
        """A request's failure, by the server's death where it died."""
        try:
            return _server_died_error(self._pieces[0], process.wait(1), log)
        except subprocess.TimeoutExpired:
            return InfrastructureError(error.what, cause=error.cause, hint=f"the server's log is {log}")


def _link(folder: Path, served: Path) -> None:
    """Link the loadable files of `folder` into `served`, which does not exist yet."""
    for name in loadable(folder):
        source, target = os.path.realpath(folder / name), served / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A server in a container sees the content of a hard link, but not what a symbolic one points to.
            target.hardlink_to(source)
        except OSError:  # on another disk, or owned by another user
            target.symlink_to(source)


def server_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The child's environment, and what GPU servers need; nothing that speaks for its owner."""
    passed_on = {
        name: value
        for name, value in environ.items()
        if name.startswith(INHERITED_PREFIXES) and not any(part in name for part in SECRET_WORDS)
    }
    return passed_on | sandbox_environment(environ, home)


def _split_command(command: str) -> list[str]:
    try:
        pieces = shlex.split(command)
    except ValueError as error:
        raise ConfigurationError("the server's command cannot be read", cause=str(error), hint=EXAMPLE) from None
    for name in ("{model}", "{port}"):
        if not any(name in piece for piece in pieces):
            raise ConfigurationError(f"the server's command lacks {name}", hint=f"for example: {EXAMPLE}")
    for piece in pieces:
        option = piece.partition("=")[0].replace("_", "-")
        if option in FORBIDDEN_OPTIONS:
            raise ConfigurationError(f"the server's command may not have {option}", cause=FORBIDDEN_OPTIONS[option])
    if shutil.which(pieces[0]) is None:
        raise ConfigurationError(
            f"there is no program {pieces[0]} to serve the model",
            cause="it is not installed, or its environment is not active",
            hint="docs/servers.md says what to install",
        )
    return pieces


def _server_versions(program: str) -> dict[str, str]:
    """Of a program that was installed beside this one; nothing is known of others."""
    from importlib.metadata import PackageNotFoundError, version

    found = shutil.which(program)
    if found is None or Path(found).parent != Path(sys.executable).parent:
        return {}
    try:
        return {Path(found).name: version(Path(found).name)}
    except PackageNotFoundError:
        return {}


@contextmanager
def _temporary_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="antidote-server-", ignore_cleanup_errors=True) as folder:
        # `transformers serve` lists an empty cache, but fails without one.
        (Path(folder) / "huggingface" / "hub").mkdir(parents=True)
        yield Path(folder)


def _find_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _server_address(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _server_died_error(program: str, status: int, log: Path) -> InfrastructureError:
    return InfrastructureError(
        f"the server {program} ended by itself (exit {status})",
        cause="most often a wrong option, or too little memory",
        hint=f"its log is {log}",
    )


def _stop_server(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()  # the supervisor ends the server then
    try:
        process.wait(supervisor.SECONDS_TO_END + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
