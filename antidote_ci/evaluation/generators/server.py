"""Generator that starts an OpenAI-compatible server for a model and stops it afterwards: docs/servers.md."""

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

from antidote_ci.checkpoint.files import list_files, list_loadable
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.links import LinkedCheckpoint, link_checkpoint, model_fingerprint
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.chat_api import ChatApi, connect, list_models
from antidote_ci.evaluation.generators import supervisor
from antidote_ci.evaluation.generators.api import to_chat_requests, to_progress, to_result
from antidote_ci.model.generation import (
    EncodedConversations,
    EncodeRequest,
    GeneratedAnswer,
    GenerationRequest,
    GenerationResult,
    encode_conversations,
)
from antidote_ci.model.merging import MergeRequest, merge_checkpoint
from antidote_ci.paths import open_log, require_space
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.sandbox.client import Sandbox
from antidote_ci.sandbox.fork_server import sandbox_environment
from antidote_ci.sandbox.replies import invalid_reply_error

EXAMPLE = "vllm serve {model} --host 127.0.0.1 --port {port}"
START_TIMEOUT = 900.0
"""Seconds. Large checkpoints on slow disks take minutes to load."""
POLL_SECONDS = 0.25
BYTES_PER_WEIGHT = 2
"""Of a merged checkpoint, which is in bfloat16."""

INHERITED_PREFIXES = ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "NCCL_", "GLOO_", "RAY_", "VLLM_")
"""Prefixes of the environment variables that GPU servers need."""
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Variables whose names contain one of these words, such as VLLM_API_KEY, are not passed on."""

FORBIDDEN_OPTIONS = {
    "--trust-remote-code": "it runs code from the checkpoint",
    "--api-key": "the command is printed and recorded, and a server on 127.0.0.1 needs no key",
}


class ServerGenerator:
    """Starts one server for each request, and only when an answer is not stored.

    The idle children of the sandbox end first, so that their models leave its memory to the server.
    """

    def __init__(
        self, command: str, work: Path, sandbox: Sandbox, store: AnswerStore, *, start_timeout: float = START_TIMEOUT
    ) -> None:
        """Check `command`, which must contain {model} and {port}. Raises ConfigurationError when it is invalid.

        `work` holds the log of the server and merged weights; `sandbox` encodes prompts and merges adapters; `store`
        holds answers; `start_timeout` is in seconds.
        """
        self._command = command
        self._arguments = _split_command(command)
        self._work = work
        self._sandbox = sandbox
        self._store = store
        self._start_timeout = start_timeout

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations. Each answer is stored as soon as it arrives."""
        if not request.add_generation_prompt:
            raise ValueError("a server always adds the generation prompt")
        versions = _server_versions(self._arguments[0])
        shared_key = ("server", model_fingerprint(request.model), self._command, versions)
        encoded = self._encode(request, on_progress)
        chat_requests = to_chat_requests(request, encoded.mode)
        tokens = [row for row in encoded.rows for _ in range(request.samples)]
        keys = [
            AnswerStore.key(*shared_key, asdict(chat_request), row)
            for chat_request, row in zip(chat_requests, tokens, strict=True)
        ]
        stored = {index: self._store.get(key) for index, key in enumerate(keys)}
        answers = {index: GeneratedAnswer(**value) for index, value in stored.items() if value is not None}
        missing = [index for index in range(len(keys)) if index not in answers]
        if missing:
            self._sandbox.end_children()  # a server takes most of a GPU's memory
            with (
                self._full_weights(request.model, on_progress) as weights,
                self._run_server(weights, on_progress) as api,
            ):
                for position, answer in api.stream_answers([chat_requests[index] for index in missing]):
                    index = missing[position]
                    answers[index] = answer
                    self._store.put(keys[index], asdict(answer))
                    on_progress(to_progress(chat_requests, answers))
        return to_result(request, answers, self._command, versions, encoded.mode, encoded.marks)

    def _encode(self, request: GenerationRequest, on_progress: OnProgress) -> EncodedConversations:
        """The token ids of each conversation, by the model's own template and tokenizer."""
        conversations = [conversation for conversations in request.sets.values() for conversation in conversations]
        # A server prints its own date, so answers to a template that prints it are valid for one day.
        date = time.localtime()[:3]
        encode_request = EncodeRequest(
            request.model, conversations, request.add_generation_prompt, date, request.template_arguments
        )
        encoded = self._sandbox.call(encode_conversations, encode_request, on_progress)
        if len(encoded.rows) != len(conversations):
            raise invalid_reply_error()
        return encoded

    @contextmanager
    def _full_weights(self, model: Model, on_progress: OnProgress) -> Iterator[LinkedCheckpoint]:
        """Provide a temporary folder with full weights and no file that `model_fingerprint` does not cover."""
        with tempfile.TemporaryDirectory(dir=self._work.absolute(), prefix="served-") as parent:
            if model.adapter is not None:
                folder = Path(parent) / "merged" / "model"
                require_space(self._work, BYTES_PER_WEIGHT * read_layout(model.folder).entries, "--out")
                outputs = [folder.parent]
                self._sandbox.call(merge_checkpoint, MergeRequest(model, folder), on_progress, outputs=outputs)
                read_layout(folder)  # the model may have taken over the process that wrote it
                yield link_checkpoint(folder, list_files(folder), Path(parent))
            else:
                yield link_checkpoint(model.folder, list_loadable(model.folder), Path(parent))

    @contextmanager
    def _run_server(self, weights: LinkedCheckpoint, on_progress: OnProgress) -> Iterator[ChatApi]:
        folder, port = weights.folder, _find_free_port()
        address = f"http://127.0.0.1:{port}/v1"
        arguments = [part.replace("{model}", str(folder)).replace("{port}", str(port)) for part in self._arguments]
        log = self._work / "server.log"
        # A server may log prompts and answers.
        with _temporary_home() as home, open_log(log) as output:
            process = subprocess.Popen(
                supervisor.to_command(arguments, weights, home),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=server_environment(os.environ, home),
                start_new_session=True,
            )
            try:
                names = self._wait_until_ready(process, address, log, on_progress)
                name = str(folder) if str(folder) in names or not names else names[0]
                try:
                    yield connect(address, model=name, is_running=lambda: process.poll() is None)
                except InfrastructureError as error:
                    raise self._explain_failure(error, process, log) from None
            finally:
                _stop_server(process)

    def _wait_until_ready(
        self, process: "subprocess.Popen[bytes]", address: str, log: Path, on_progress: OnProgress
    ) -> list[str]:
        """Return the names of the served models once the server answers."""
        started = time.monotonic()
        last_error = ""
        while (waited := time.monotonic() - started) < self._start_timeout:
            on_progress(Progress("seconds until the server is up", int(waited), int(self._start_timeout)))
            if process.poll() is not None:
                raise self._exit_error(process.returncode, log)
            try:
                names = list_models(address, timeout=5, attempts=1)
            except InfrastructureError as error:
                last_error = error.what
                time.sleep(POLL_SECONDS)
                continue
            # Another program can take the port before the server does.
            if process.poll() is None:
                return names
        raise InfrastructureError(
            f"the server {self._arguments[0]} did not start within {self._start_timeout:g} s",
            cause=last_error,
            hint=f"read its log, {log}; the command must listen on 127.0.0.1 and {{port}}",
        )

    def _explain_failure(
        self, error: InfrastructureError, process: "subprocess.Popen[bytes]", log: Path
    ) -> InfrastructureError:
        """Replace the error of a request by that of the server when the server has ended."""
        try:
            return self._exit_error(process.wait(1), log)
        except subprocess.TimeoutExpired:
            return InfrastructureError(error.what, cause=error.cause, hint=f"read the log of the server, {log}")

    def _exit_error(self, status: int, log: Path) -> InfrastructureError:
        return InfrastructureError(
            f"the server {self._arguments[0]} exited unexpectedly (status {status})",
            cause="usually an invalid option or too little memory",
            hint=f"read its log, {log}",
        )


def server_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of the sandbox plus the variables that GPU servers need, without secrets."""
    inherited = {
        name: value
        for name, value in environ.items()
        if name.startswith(INHERITED_PREFIXES) and not any(word in name for word in SECRET_WORDS)
    }
    return inherited | sandbox_environment(environ, home)


def _split_command(command: str) -> list[str]:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise ConfigurationError("the server command cannot be parsed", cause=str(error), hint=EXAMPLE) from None
    for name in ("{model}", "{port}"):
        if not any(name in argument for argument in arguments):
            raise ConfigurationError(f"the server command lacks {name}", hint=f"for example: {EXAMPLE}")
    for argument in arguments:
        option = argument.partition("=")[0].replace("_", "-")
        if option in FORBIDDEN_OPTIONS:
            raise ConfigurationError(f"the server command must not contain {option}", cause=FORBIDDEN_OPTIONS[option])
    if shutil.which(arguments[0]) is None:
        raise ConfigurationError(
            f"the server program {arguments[0]} was not found",
            cause="it is not installed, or its environment is not active",
            hint="docs/servers.md lists what to install",
        )
    return arguments


def _server_versions(program: str) -> dict[str, str]:
    """Return the version of a program that is installed in this Python environment, or nothing."""
    from importlib.metadata import PackageNotFoundError, version

    path = shutil.which(program)
    if path is None or Path(path).parent != Path(sys.executable).parent:
        return {}
    try:
        return {Path(path).name: version(Path(path).name)}
    except PackageNotFoundError:
        return {}


@contextmanager
def _temporary_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="antidote-server-", ignore_cleanup_errors=True) as folder:
        # `transformers serve` requires an existing cache folder.
        (Path(folder) / "huggingface" / "hub").mkdir(parents=True)
        yield Path(folder)


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _stop_server(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()  # the supervisor then ends the server
    try:
        process.wait(supervisor.GRACE_SECONDS + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
