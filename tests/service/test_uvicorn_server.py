"""`antidote-ci serve`: what it refuses, in words that name what is wrong."""

import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.service import database
from tests.service.workshop import eventually, needs_sqlite, payload

SECRET = "0123456789abcdef" * 2


def command(folder: Path, *options: str, without: str = "") -> list[str]:
    """As it is typed; `without`: a library that is not installed."""
    hidden = f"sys.modules['{without}'] = None; " if without else ""
    program = f"import sys; {hidden}from antidote_ci.__main__ import main; main()"
    return [sys.executable, "-c", program, "serve", "--folder", str(folder / "service"), "--port", "0", *options]


def there(**environment: str) -> dict[str, str]:
    """The environment without what a test did not put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANTIDOTE_")} | environment


def serve(folder: Path, *options: str, without: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """One that ends by itself."""
    words = command(folder, *options, without=without)
    return subprocess.run(words, env=there(**environment), capture_output=True, text=True, timeout=60, check=False)


@needs_sqlite
def test_served_until_it_is_told_to_end(tmp_path: Path) -> None:
    """The options from variables, the secret from its own, and 143 at the end."""
    environment = there(ANTIDOTE_WEBHOOK_SECRET=f" {SECRET}\n", ANTIDOTE_REPOSITORY="org/*,other/model")
    with subprocess.Popen(
        command(tmp_path), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = process.stderr.readline().decode()
        address = said.split()[-1]
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
    ("options", "environment", "said"),
    [
        (["--repository", "org/*"], {}, "ANTIDOTE_WEBHOOK_SECRET is not set"),
        (["--repository", "org/*"], {"ANTIDOTE_WEBHOOK_SECRET": "short"}, "ANTIDOTE_WEBHOOK_SECRET has 5 characters"),
        ([], {"ANTIDOTE_WEBHOOK_SECRET": SECRET}, "no repository may be worked on"),
        (["--repository", "everything"], {"ANTIDOTE_WEBHOOK_SECRET": SECRET}, "'everything' names no repository"),
        (
            ["--repository", "o/m", "--policy", "none.toml"],
            {"ANTIDOTE_WEBHOOK_SECRET": SECRET},
            "no policy file none.toml",
        ),
        (["--repository", "o/m", "--port", "70000"], {"ANTIDOTE_WEBHOOK_SECRET": SECRET}, "--port 70000 is no port"),
        (["--repository", "o/m", "--runs", "0"], {"ANTIDOTE_WEBHOOK_SECRET": SECRET}, "--runs 0 would never begin one"),
        (
            ["--repository", "o/m"],
            {"ANTIDOTE_WEBHOOK_SECRET": SECRET, "ANTIDOTE_DATABASE": "mysql://user:geheim@host/name"},
            "--database is no address",
        ),
    ],
)
def test_what_is_not_served(tmp_path: Path, options: list[str], environment: dict[str, str], said: str) -> None:
    """Exit 2 before anything is made or listened on."""
    done = serve(tmp_path, *options, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[0]
    assert "hint: " in done.stderr
    assert "geheim" not in done.stderr
    assert not (tmp_path / "service").exists()


def test_plain_installation(tmp_path: Path) -> None:
    """Names what to install."""
    done = serve(tmp_path, "--repository", "org/*", without="dbos", ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 2
    assert "dbos" in done.stderr
    assert "pip install 'antidote-ci[service]'" in done.stderr


@needs_sqlite
def test_second_service_of_a_folder(tmp_path: Path) -> None:
    """Each would take up what the other is at."""
    (tmp_path / "service").mkdir()
    with (tmp_path / "service" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = serve(tmp_path, "--repository", "org/*", ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 2
    assert f"another service works in {tmp_path / 'service'}" in done.stderr
    assert not (tmp_path / "service" / "policy.toml").exists(), "runs of the other one would read it"


@needs_sqlite
def test_port_that_is_taken(tmp_path: Path) -> None:
    """Exit 3: another time, or another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = serve(tmp_path, "--repository", "org/*", "--port", port, ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr


@needs_sqlite
def test_file_that_is_no_database(tmp_path: Path) -> None:
    """Exit 3 in three lines."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "queue.sqlite").write_text("this is no database, but a text of some length " * 100)
    done = serve(tmp_path, "--repository", "org/*", ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 3
    assert "queue.sqlite cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_instant() -> None:
    """None of the service's libraries is needed to explain it."""
    script = (
        "import sys; from antidote_ci.cli import app; app(['serve', '--help'], standalone_mode=False)\n"
        "heavy = {'dbos', 'sqlalchemy', 'fastapi', 'uvicorn', 'huggingface_hub', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sqlite_that_is_too_old_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dbos would fail in the middle of its own tables."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(ConfigurationError, match="in which the queue cannot be"):
        database.require_supported_url(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    database.require_supported_url("postgresql://user:password@host/name")
