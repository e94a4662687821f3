"""The service as a process that is killed and started again."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

TIMEOUT = 60.0
LIVE, READY = "/health/live", "/health/ready"


@dataclass
class Service:
    """`antidote-ci serve` on one port. All starts append to one log."""

    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    log: Path
    kills: list[float] = field(default_factory=list)
    """By the machine's monotonic clock."""
    ups: list[float] = field(default_factory=list)
    """Times of the first answer after a start."""
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the process without waiting for its first answer."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Send SIGKILL to the service only. Its runs continue, as in a crash."""
        assert self._process is not None  # noqa: S101
        self._process.kill()
        self._process.wait()
        self.kills.append(time.monotonic())

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        assert self._process is not None  # noqa: S101
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(TIMEOUT)

    def wait_up(self, deadline: float) -> None:
        """Wait for an answer until the deadline."""
        while time.monotonic() < deadline:
            if self.health(LIVE) is not None:
                self.ups.append(time.monotonic())
                return
            time.sleep(0.02)

    def health(self, path: str) -> int | None:
        """The HTTP status of a health route; None without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=TIMEOUT) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def wait(self, path: str = READY, status: int = 200) -> None:
        """Wait for this status of a health route."""
        deadline = time.monotonic() + TIMEOUT
        while (found := self.health(path)) != status:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is {found}, not {status}:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        """Enter without starting the process."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(endpoint: str, folder: Path, secret: str, token: str) -> dict[str, str]:
    """The environment of the service, with its secret and the Hub at `endpoint`."""
    own = {
        "ANTIDOTE_WEBHOOK_SECRET": secret,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "huggingface"),
        "HF_WRITE_TOKEN": token,
    }
    return {**os.environ, **own}
