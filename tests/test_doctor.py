"""What `antidote-ci doctor` says of this machine, of a loopback Hub, and of what is none."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from antidote_ci.hub import memory_needs
from loopback_hub import LoopbackHub
from tests.serving import Handler, Server

SECRETS = ("HF_TOKEN", "HF_WRITE_TOKEN", "HF_JOBS_TOKEN", "HF_OIDC_RESOURCE")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as running:
        running.add_account("ada", "hf_writes")
        running.add_account("ada", "hf_reads", rights="read")
        yield running


class Page(Handler):
    """What answers whoever asks, as the login page of a network does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"please log in")


@pytest.fixture
def no_hub() -> Iterator[str]:
    with Server(Page) as server:
        yield server.endpoint


def doctor(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process that has no token but those given."""
    clean = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return subprocess.run(
        [sys.executable, "-m", "antidote_ci", "doctor", f"--out={home / 'out'}", *arguments],
        capture_output=True,
        text=True,
        env=clean | {"TERM": "dumb", "HF_HOME": str(home / "cache"), "HF_HUB_DISABLE_XET": "1"} | environment,
        check=False,
    )


def marks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What each line says of what."""
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]
    return {words[1]: words[0] for words in lines}


def test_a_whole_machine_lacks_nothing_and_nothing_is_left_on_it(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_writes")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert set(marks(done).values()) == {"ok"}
    assert list(marks(done)) == [
        *("versions", "processor", "GPU", "memory", "downloads", "results", "Hub", "publishing", "Jobs", "judge")
    ]
    assert done.stdout.count("knows the token: ada") == 3
    assert "hf_writes" not in done.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_without_a_token_what_is_public_is_there(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    found = marks(done)
    assert (found["Hub"], found["publishing"], found["Jobs"]) == ("ok", "without", "without")
    assert "set HF_WRITE_TOKEN to a token with write access" in done.stdout


def test_a_token_that_may_only_read_does_not_publish(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_reads")
    assert done.returncode == 0, done.stderr
    assert (marks(done)["Hub"], marks(done)["publishing"]) == ("ok", "without")
    assert "the token of ada is read-only" in done.stdout


def test_a_token_that_nobody_knows_is_lacking(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_mistyped")
    assert done.returncode == 3
    assert marks(done)["Hub"] == "LACKS"
    assert "mistyped, expired or revoked" in done.stdout


def test_a_judge_that_the_hub_does_not_have_is_lacking(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=qwen3guard", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 3
    assert marks(done)["judge"] == "LACKS"
    assert "Qwen/Qwen3Guard-Gen-0.6B" in done.stdout


def test_what_answers_whoever_asks_is_no_hub(no_hub: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=refusal", HF_ENDPOINT=no_hub)
    assert done.returncode == 3
    assert marks(done)["Hub"] == "LACKS"
    assert "check HF_ENDPOINT" in done.stdout


def test_a_hub_that_is_away_is_asked_once_and_every_lack_has_its_advice(tmp_path: Path) -> None:
    done = doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", ANTIDOTE_HUB_PATIENCE="600")
    assert done.returncode == 3
    assert [name for name, mark in marks(done).items() if mark == "LACKS"] == ["Hub", "judge"]
    lines = done.stdout.splitlines()
    for line, after in itertools.pairwise(lines):
        assert line.startswith(("LACKS", "without")) == after.startswith(" ") or line.startswith(" ")


def test_a_judge_behind_a_server_that_is_away_is_lacking(hub: LoopbackHub, tmp_path: Path) -> None:
    policy = tmp_path / "antidote.toml"
    policy.write_text(
        '[evaluation]\njudge = "endpoint"\njudge_endpoint = "http://127.0.0.1:9/v1"\njudge_model = "one"\n'
    )
    done = doctor(tmp_path, f"--policy={policy}", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 3
    assert marks(done)["judge"] == "LACKS"
    assert "127.0.0.1:9/v1 cannot be reached" in done.stdout


def test_a_judge_that_does_not_exist_is_a_wrong_word(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--judge=guess", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 3
    assert marks(done)["judge"] == "LACKS"
    assert "there is no judge 'guess'" in done.stdout


def test_a_judge_in_a_folder_that_is_not_there_is_lacking(hub: LoopbackHub, tmp_path: Path) -> None:
    done = doctor(tmp_path, f"--judge=qwen3guard@{tmp_path / 'guard'}", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 3
    assert marks(done)["judge"] == "LACKS"
    (tmp_path / "guard").mkdir()
    assert (
        marks(doctor(tmp_path, f"--judge=qwen3guard@{tmp_path / 'guard'}", HF_ENDPOINT=hub.endpoint))["judge"] == "ok"
    )


def test_the_largest_model_is_the_largest_that_fits() -> None:
    for free in (0, memory_needs.BASE_MEMORY, memory_needs.BASE_MEMORY + 10**9, 20 * 10**9):
        most = memory_needs.max_weights(free)
        assert most == 0 or memory_needs.cpu_memory(most) <= free
        assert memory_needs.cpu_memory(most + 1) > free - memory_needs.FLOAT32_BYTES
