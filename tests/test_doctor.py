"""The command `doctor`: checks of tokens, Hub and judges."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from antidote_ci.hub import memory_needs
from loopback_hub import LoopbackHub
from tests.command_line import FinishedCommand, run_command
from tests.serving import Handler, Server

SECRETS = ("HF_TOKEN", "HF_WRITE_TOKEN", "HF_JOBS_TOKEN", "HF_OIDC_RESOURCE")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as running:
        running.add_account("ada", "hf_writes")
        running.add_account("ada", "hf_reads", rights="read")
        yield running


class Page(Handler):
    """A web page that answers every request, like the login page of a network."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"please log in")


@pytest.fixture
def no_hub() -> Iterator[str]:
    with Server(Page) as server:
        yield server.endpoint


def doctor(home: Path, *arguments: str, **environment: str) -> FinishedCommand:
    """The command without any tokens except those in `environment`."""
    own = dict.fromkeys(SECRETS, "") | {"HF_HOME": str(home / "cache")} | environment
    return run_command("doctor", f"--out={home / 'out'}", *arguments, **own)


def marks(done: FinishedCommand) -> dict[str, str]:
    """The mark of each check by its name."""
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]
    return {words[1]: words[0] for words in lines}


def test_all_checks_pass_and_nothing_is_written(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_writes")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert set(marks(done).values()) == {"ok"}
    machine = ["versions", "processor", "GPU", "memory", "sandbox", "downloads", "results", "answers"]
    assert list(marks(done)) == [*machine, "Hub", "publishing", "Jobs", "judge"]
    assert done.stdout.count("accepts the token of ada") == 3
    assert "hf_writes" not in done.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_folders_that_cannot_be_written_are_named(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file" / "inside")
    folders = {"HF_HOME": inside, "ANTIDOTE_CACHE": inside}
    done = doctor(tmp_path, "--judge=refusal", f"--out={inside}", HF_ENDPOINT=hub.endpoint, **folders)
    assert done.returncode == 3
    assert [name for name, mark in marks(done).items() if mark == "MISSING"] == ["downloads", "results", "answers"]
    assert done.stdout.count(f"{tmp_path / 'file'} is a file") == 3
    for name in ("HF_HOME", "--out", "ANTIDOTE_CACHE"):
        assert name in done.stdout


def test_verbose_shows_the_requests(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", "-v", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_writes")
    assert f"HTTP Request: GET {hub.endpoint}/api/whoami-v2" in done.stderr
    assert "hf_writes" not in done.stderr


def test_without_a_token_only_public_models_are_available(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    found = marks(done)
    assert (found["Hub"], found["publishing"], found["Jobs"]) == ("ok", "optional", "optional")
    assert "set HF_WRITE_TOKEN to a token with write access" in done.stdout


def test_a_read_token_cannot_publish(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_reads")
    assert done.returncode == 0, done.stderr
    assert (marks(done)["Hub"], marks(done)["publishing"]) == ("ok", "optional")
    assert "the token of ada is read-only" in done.stdout


def test_an_invalid_token_fails(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_mistyped")
    assert done.returncode == 3
    assert marks(done)["Hub"] == "MISSING"
    assert "mistyped, expired or revoked" in done.stdout


def test_a_server_that_is_not_a_hub_fails(no_hub: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=no_hub)
    assert done.returncode == 3
    assert marks(done)["Hub"] == "MISSING"
    assert "check HF_ENDPOINT" in done.stdout


def test_an_unreachable_hub_is_not_retried_and_every_failure_has_advice(tmp_path: Path) -> None:
    done = doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", ANTIDOTE_HUB_RETRY_SECONDS="600")
    assert done.returncode == 3
    assert [name for name, mark in marks(done).items() if mark == "MISSING"] == ["Hub"]
    lines = done.stdout.splitlines()
    for line, after in itertools.pairwise(lines):
        assert line.startswith(("MISSING", "optional")) == after.startswith(" ") or line.startswith(" ")


def test_an_unreachable_hub_is_described_once(tmp_path: Path) -> None:
    done = doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN="hf_writes")
    assert done.returncode == 3
    assert done.stdout.count("no network, a proxy, or a wrong HF_ENDPOINT") == 1
    assert [name for name, mark in marks(done).items() if mark == "skipped"] == ["publishing", "Jobs", "judge"]
    assert marks(doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))["publishing"] == "optional"


def test_an_adapter_needs_more_memory(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its base is loaded as it is stored, and a full model in the 16 bits in which this processor computes."""
    described = tmp_path / "cpuinfo"
    monkeypatch.setattr(memory_needs, "CPU_INFO", described)
    lines = []
    for flags in ("avx2", "avx512_bf16"):
        described.write_text(f"flags : {flags}\n")
        done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint)
        lines += [line for line in done.stdout.splitlines() if " memory " in line]
    assert "adapter" not in lines[0]
    numbers = re.findall(r"([\d.]+) billion", lines[1])
    assert float(numbers[0]) == pytest.approx(2 * float(numbers[1]), abs=0.2)
    assert lines[1].endswith("for an adapter of a base in float32")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("guess", "there is no judge 'guess'"),
        ("qwen3guard", "Qwen/Qwen3Guard-Gen-0.6B"),
        ("qwen3guard@./nowhere", "there is no folder ./nowhere"),
        ("endpoint", "127.0.0.1:9/v1 cannot be reached"),
    ],
)
def test_a_judge_that_cannot_be_used_fails(hub: LoopbackHub, tmp_path: Path, judge: str, said: str) -> None:
    policy = tmp_path / "antidote.toml"
    policy.write_text('[evaluation]\njudge_endpoint = "http://127.0.0.1:9/v1"\njudge_model = "one"\n')
    done = doctor(tmp_path, f"--policy={policy}", f"--judge={judge}", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 3
    assert marks(done)["judge"] == "MISSING"
    assert said in done.stdout


def test_a_judge_in_a_folder_passes(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    done = doctor(tmp_path, f"--judge=qwen3guard@{tmp_path / 'guard'}", HF_ENDPOINT=hub.endpoint)
    assert marks(done)["judge"] == "ok"


def test_max_weights_is_the_inverse_of_the_needed_memory() -> None:
    for free in (0, memory_needs.BASE_MEMORY, memory_needs.BASE_MEMORY + 10**9, 20 * 10**9):
        most = memory_needs.max_weights(free)
        assert most == 0 or memory_needs.cpu_memory(most) <= free
        assert memory_needs.cpu_memory(most + 1) > free - memory_needs.FLOAT32_BYTES
