"""`antidote-ci serve`: start, shutdown, and the errors before it listens."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.service.command_line import invoke
from tests.service.service_process import eventually, payload

SECRET = "0123456789abcdef" * 2


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "antidote_ci", "serve", "--folder", str(folder / "service"), *options]


def environ(**variables: str) -> dict[str, str]:
    """The environment without ANTIDOTE_* variables except these."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANTIDOTE_")} | variables


def serve(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A service that fails to start."""
    words = command(folder, "--repository", "org/*", "--port", "0", *options)
    return subprocess.run(
        words,
        env=environ(ANTIDOTE_WEBHOOK_SECRET=SECRET),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_serves_until_sigterm(tmp_path: Path) -> None:
    """Options and secret come from environment variables; the exit code is 143."""
    variables = environ(ANTIDOTE_WEBHOOK_SECRET=f" {SECRET}\n", ANTIDOTE_REPOSITORY="org/*,other/model")
    with subprocess.Popen(
        command(tmp_path, "--port", "0"), env=variables, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        address = process.stderr.readline().decode().split()[-1]
        try:
            eventually(lambda: httpx2.get(f"{address}/health/ready").status_code == 200)
            page = httpx2.get(address, headers={"X-Webhook-Secret": SECRET}).text
            ignored = httpx2.post(
                f"{address}/webhook", content=payload("a" * 40, "third/model"), headers={"X-Webhook-Secret": SECRET}
            )
        finally:
            process.terminate()
        assert process.wait(20) == 143
        assert process.stdout.read() == b""
        assert SECRET not in process.stderr.read().decode()
    assert "org/*, other/model" in page
    assert ignored.json()["status"] == "ignored"
    assert (tmp_path / "service").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("options", "secret", "message"),
    [
        (["--repository", "org/*"], None, "ANTIDOTE_WEBHOOK_SECRET is not set"),
        (["--repository", "org/*"], "short", "ANTIDOTE_WEBHOOK_SECRET has 5 characters"),
        ([], SECRET, "no repository is allowed"),
        (["--repository", "everything"], SECRET, "'everything' is not a repository name"),
        (["--repository", "o/m", "--policy", "none.toml"], SECRET, "no policy file none.toml"),
        (["--repository", "o/m", "--port", "70000"], SECRET, "--port 70000 is not a port"),
        (["--repository", "o/m", "--runs", "0"], SECRET, "--runs 0 would never start a run"),
    ],
)
def test_invalid_options_exit_2_and_create_nothing(
    tmp_path: Path, options: list[str], secret: str | None, message: str
) -> None:
    variables = {"ANTIDOTE_WEBHOOK_SECRET": secret, "ANTIDOTE_REPOSITORY": None, "ANTIDOTE_POLICY": None}
    result = invoke("serve", "--folder", str(tmp_path / "service"), *options, **variables)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.splitlines()[0]
    assert "hint: " in result.stderr
    assert not (tmp_path / "service").exists()


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["antidote_ci.cli.webhook"], "find_spec", lambda name: None if name == "uvicorn" else object()
    )
    result = invoke("serve")
    assert result.exit_code == 2
    assert "uvicorn" in result.stderr
    assert "pip install '.[service]'" in result.stderr


def test_second_service_of_a_folder_exits_2(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    with (tmp_path / "service" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = serve(tmp_path)
    assert done.returncode == 2
    assert f"another service uses {tmp_path / 'service'}" in done.stderr
    assert not (tmp_path / "service" / "policy.toml").exists(), "runs of the other service would read it"


def test_used_port_exits_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = serve(tmp_path, "--port", port)
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr


def test_invalid_database_file_exits_3(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "queue.sqlite").write_text("not a database, but a text of some length " * 100)
    done = serve(tmp_path)
    assert done.returncode == 3
    assert "queue.sqlite cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
