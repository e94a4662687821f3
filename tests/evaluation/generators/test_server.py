"""The server generator: working and failing servers, caching, the environment, and clean-up."""

import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antidote_ci import paths
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.api import ApiGenerator
from antidote_ci.evaluation.generators.server import ServerGenerator, server_environment
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.model.merging import merge_checkpoint
from antidote_ci.records import Model, Progress
from antidote_ci.sandbox.client import Sandbox
from tests.builders import empty_store, ignore
from tests.evaluation import small_server
from tests.evaluation.small_server import SmallServer

SECRETS = {"HF_TOKEN": "hf_readToken", "VLLM_API_KEY": "sk-secret", "HF_WRITE_TOKEN": "hf_writeToken"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without long pauses."""
    monkeypatch.setattr(chat_api, "MAX_PAUSE", 0.01)


def command(behaviour: str = "fine") -> str:
    script = shlex.join([sys.executable, small_server.__file__])
    return f"{script} --model {{model}} --port {{port}} --behaviour {behaviour}"


@pytest.fixture
def weights(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_llama, tmp_path / "a model's folder")


def request(folder: Path, prompts: int = 3) -> GenerationRequest:
    return GenerationRequest(
        Model(folder),
        {
            "harmful": [single_turn(f"Tell me {n}") for n in range(prompts)],
            "task": [single_turn("Which?")],
            "benign": [],
        },
        {"harmful": 64, "task": 4, "benign": 64},
    )


def change_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def running(folder: Path) -> list[str]:
    """Return the command lines of running servers and supervisors that were started for this folder."""
    listing = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [line for line in listing.splitlines() if small_server.__file__ in line and str(folder) in line]


def texts(generator: ServerGenerator | ApiGenerator, asked_for: GenerationRequest) -> dict[str, list[str]]:
    answers = generator.generate(asked_for, ignore).answers
    return {name: [answer.text for answer in given] for name, given in answers.items()}


def test_answers_of_every_set_and_the_environment(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    seen: list[Progress] = []
    generator = ServerGenerator(command(), tmp_path, sandbox, empty_store())
    result = generator.generate(request(weights), seen.append)
    assert [answer.text for answer in result.answers["harmful"]] == [f"Tell me {n} / 64 / 0 / 0" for n in range(3)]
    assert [answer.text for answer in result.answers["task"]] == ["Which? / 4 / 0 / 0"]
    assert result.answers["benign"] == []
    assert seen[-1] == Progress("answers", 3 * 64 + 4, 3 * 64 + 4)
    assert (result.plan.generator, result.plan.device, result.plan.dtype) == (command(), "server", "unknown")
    assert running(tmp_path) == []


def test_idle_children_end_before_the_server_starts(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    """Their models would hold the memory of the GPU that the server needs."""
    children: list[int] = []

    def look(progress: Progress) -> None:
        if progress.what == "seconds until the server is up":
            children.append(len(sandbox._children))

    ServerGenerator(command(), tmp_path, sandbox, empty_store()).generate(request(weights), look)
    assert children
    assert set(children) == {0}


def test_disk_space_for_merged_weights_is_required_first(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "free_space", lambda _folder: 1000)
    asked_for = replace(request(tiny_llama), model=Model(tiny_llama, tiny_adapter))
    with pytest.raises(InfrastructureError, match="not enough disk space"):
        ServerGenerator(command(), tmp_path, sandbox, empty_store()).generate(asked_for, ignore)
    assert list(tmp_path.glob("served-*")) == []


def test_answers_are_requested_once(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    generator = ServerGenerator(command(), tmp_path, sandbox, AnswerStore(tmp_path / "store"))
    before = texts(generator, request(weights))
    (tmp_path / "server.log").unlink()
    assert texts(generator, request(weights)) == before
    assert not (tmp_path / "server.log").exists(), "a server was started for nothing"
    assert len(texts(generator, request(weights, 5))["harmful"]) == 5
    assert (tmp_path / "server.log").exists()


def test_cache_depends_on_weights_and_command(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    store = AnswerStore(tmp_path / "store")
    ServerGenerator(command(), tmp_path, sandbox, store).generate(request(weights), ignore)
    broken = ServerGenerator(command("dies"), tmp_path, sandbox, store)
    with pytest.raises(InfrastructureError):
        broken.generate(request(weights), ignore)
    change_last_byte(weights / "model.safetensors")
    (tmp_path / "server.log").unlink()
    ServerGenerator(command(), tmp_path, sandbox, store).generate(request(weights), ignore)
    assert (tmp_path / "server.log").exists()


def test_answers_before_an_interrupt_are_cached(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    heard: list[Progress] = []

    def stop(progress: Progress) -> None:
        heard.extend([progress] if progress.what == "answers" else [])
        if len(heard) == 2:
            raise KeyboardInterrupt

    generator = ServerGenerator(command(), tmp_path, sandbox, AnswerStore(tmp_path / "store"))
    with pytest.raises(KeyboardInterrupt):
        generator.generate(request(weights), stop)
    assert running(tmp_path) == []
    assert len(list((tmp_path / "store").rglob("*.json"))) == 2
    seen: list[Progress] = []
    generator.generate(request(weights), seen.append)
    counted = [progress for progress in seen if progress.what == "answers"]
    assert len(counted) == 2
    assert counted[-1].done == counted[-1].total > counted[0].done > heard[-1].done


def test_model_name_of_the_server_is_used(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    generator = ServerGenerator(command("strict") + " --model served", tmp_path, sandbox, empty_store())
    assert len(texts(generator, request(weights))["harmful"]) == 3


@pytest.mark.parametrize(
    ("behaviour", "what", "limit"),
    [
        ("dies", r"exited unexpectedly \(status 3\)", 30),
        ("exit", r"exited unexpectedly \(status 3\)", 30),
        ("deaf", r"did not start within 0\.5 s", 0.5),
        ("html", r"did not start within 1 s", 1),
        ("500", "status 500", 30),
        ("no content", "lacks choices", 30),
    ],
)
def test_server_failures(
    behaviour: str, what: str, limit: float, weights: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    generator = ServerGenerator(command(shlex.quote(behaviour)), tmp_path, sandbox, empty_store(), start_timeout=limit)
    with pytest.raises(InfrastructureError, match=what) as raised:
        generator.generate(request(weights), ignore)
    assert str(tmp_path / "server.log") in str(raised.value.hint)
    assert stat.S_IMODE((tmp_path / "server.log").stat().st_mode) == 0o600
    assert raised.value.cause
    assert running(tmp_path) == []


def test_server_sees_no_secret_and_only_fingerprinted_files(
    weights: Path, tiny_llama: Path, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (weights / "additional_chat_templates").mkdir()
    (weights / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    (weights / "checkpoint-10").mkdir()
    (weights / "checkpoint-10" / "model.safetensors").write_bytes(b"other weights")
    environment: list[bytes] = []
    files: dict[str, bytes] = {}

    def look(progress: Progress) -> None:
        if progress.what == "answers" and not environment:
            environment.extend(_environment_of_the_server())
            (folder,) = next(tmp_path.glob("served-*")).iterdir()
            files.update(read_files(folder))

    ServerGenerator(command(), tmp_path, sandbox, empty_store()).generate(request(weights), look)
    assert any(entry.startswith(b"PATH=") for entry in environment)
    assert not any(value.encode() in entry for entry in environment for value in SECRETS.values())
    assert files == read_files(tiny_llama) | {"additional_chat_templates/tools.jinja": b"{{ messages }}"}
    assert not list(tmp_path.glob("served-*"))


def _environment_of_the_server() -> list[bytes]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if len(arguments) > 1 and arguments[1].decode() == small_server.__file__:
                return (folder / "environ").read_bytes().split(b"\0")
    return []


def test_device_variables_are_inherited_and_secrets_are_not() -> None:
    passed = {"CUDA_HOME": "/cuda", "NCCL_DEBUG": "INFO", "VLLM_CACHE_ROOT": "/cache", "PATH": "/bin"}
    kept = dict.fromkeys(("VLLM_API_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"), "x")
    given = server_environment(passed | kept, Path("/home"))
    assert passed.items() <= given.items()
    assert not kept.keys() & given.keys()


def test_server_ends_when_its_parent_is_killed(weights: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from antidote_ci.checkpoint.links import LinkedCheckpoint\n"
        "from antidote_ci.evaluation.generators.server import ServerGenerator\n"
        "generator = ServerGenerator(sys.argv[1], Path(sys.argv[2]), None, None)\n"
        "with generator._run_server(LinkedCheckpoint(Path(sys.argv[3]), []), lambda _: None):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, command(), str(tmp_path), str(weights)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert running(tmp_path)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(tmp_path) == []


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("vllm serve {model}", r"lacks \{port\}"),
        ("vllm serve --port {port}", r"lacks \{model\}"),
        ("", r"lacks \{model\}"),
        ("vllm serve '{model} --port {port}", "cannot be parsed"),
        ("no-such-program {model} {port}", "program no-such-program was not found"),
        ("vllm serve {model} --port {port} --trust-remote-code", "--trust-remote-code"),
        ("vllm serve {model} --port {port} --trust_remote_code=true", "--trust-remote-code"),
        ("vllm serve {model} --port {port} --api-key=sk-secret", "--api-key"),
    ],
)
def test_invalid_commands_are_refused(written: str, what: str, tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match=what) as raised:
        ServerGenerator(written, tmp_path, sandbox, empty_store())
    assert "sk-secret" not in repr(raised.value.__dict__)


def test_command_is_not_run_by_a_shell(weights: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    generator = ServerGenerator(
        command() + f" ; touch {tmp_path}/touched $(touch {tmp_path}/too)", tmp_path, sandbox, empty_store()
    )
    with pytest.raises(InfrastructureError, match="status 2"):
        generator.generate(request(weights), ignore)
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "too").exists()


def test_adapter_is_merged_and_the_merged_weights_are_deleted(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    merged: list[set[str]] = []

    def look(progress: Progress) -> None:
        if progress.what == "answers" and not merged:
            folder = next(tmp_path.glob("served-*")) / "merged" / "model"
            merged.append({path.name for path in folder.iterdir()})

    asked_for = replace(request(tiny_llama), model=Model(tiny_llama, tiny_adapter))
    ServerGenerator(command(), tmp_path, sandbox, empty_store()).generate(asked_for, look)
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= merged[0]
    assert not any(name.startswith("adapter") for name in merged[0])
    assert list(tmp_path.glob("served-*")) == []


class TakenOver(Sandbox):
    """A sandbox whose child adds files to what it writes."""

    added: str

    def call(self, function: Any, request: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        result = super().call(function, request, *arguments, **options)
        if function is merge_checkpoint:
            for name in self.added.split():
                (request.output / name).write_text('{"auto_map": {"AutoConfig": "code.Config"}}')
        return result


@pytest.mark.parametrize("added", ["code.py pytorch_model.bin", "processor_config.json"])
def test_only_checked_files_of_merged_weights_are_served(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, added: str
) -> None:
    served: list[set[str]] = []

    def look(_: Progress) -> None:
        served.extend({path.name for path in folder.iterdir()} for folder in tmp_path.glob("served-*/model"))

    asked_for = replace(request(tiny_llama), model=Model(tiny_llama, tiny_adapter))
    sandbox = TakenOver(tmp_path / "child.log", None)
    sandbox.added = added
    with sandbox:
        generator = ServerGenerator(command(), tmp_path, sandbox, empty_store())
        if added.endswith(".json"):
            with pytest.raises(UnsafeCheckpoint, match="auto_map"):
                generator.generate(asked_for, look)
            assert not served
        else:
            generator.generate(asked_for, look)
            assert served
            assert not any(names.intersection(added.split()) for names in served)


def test_running_server_answers_with_one_seed_per_sample() -> None:
    with SmallServer(models=("theirs",)) as server:
        generator = ApiGenerator(server.address + "?version=1")
        result = generator.generate(replace(request(Path("/nowhere"), 2), samples=2), ignore)
    assert {asked["model"] for asked in server.asked} == {"theirs"}
    assert [answer.text for answer in result.answers["harmful"]] == [
        f"Tell me {n} / 64 / 1 / {seed}" for n in range(2) for seed in range(2)
    ]
    assert result.plan.generator == server.address
