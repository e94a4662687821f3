"""A Postgres server of its own for the length of a `with`: real, on this machine, gone afterwards."""

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLACES = Path("/usr/lib/postgresql")
USER = "postgres"
DATABASE = "postgres"
"""There from the beginning."""
PATIENCE = 30.0
NOBODY = "nobody"
"""Who it runs as when we are root, which it refuses."""


def programs() -> Path | None:
    """Where initdb and postgres are, of the newest version that is installed; None where there are none."""
    found = [path.parent for path in PLACES.glob("*/bin/initdb") if (path.parent / "postgres").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Postgres:
    """One server on a fixed port of 127.0.0.1, which can go away and come back."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"
        self._data = folder / "data"
        self._log = folder / "log"
        self._programs = programs
        self._server: subprocess.Popen[bytes] | None = None
        options = ["--username", USER, "--auth", "trust", "--no-instructions"]
        initdb = [str(programs / "initdb"), "--pgdata", str(self._data), *options]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **_unprivileged())

    def start(self) -> None:
        """Returns when it answers."""
        place = ["-h", "127.0.0.1", "-p", str(self.port)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-k", "", *place]
        with self._log.open("ab") as log:
            server: subprocess.Popen[bytes] = subprocess.Popen(command, stdout=log, stderr=log, **_unprivileged())
        self._server = server
        deadline = time.monotonic() + PATIENCE
        while subprocess.run([str(self._programs / "pg_isready"), "--quiet", *place], check=False).returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres does not start: {self._log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """As `pg_ctl stop --mode fast`: whoever is connected is cut off."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(PATIENCE)
            self._server = None


@contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A server that runs; None where Postgres is not installed."""
    found = programs()
    if found is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam(NOBODY).pw_uid, -1)
        server = Postgres(Path(folder), found)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> dict[str, Any]:
    return {"user": NOBODY, "group": pwd.getpwnam(NOBODY).pw_gid, "extra_groups": ()} if os.getuid() == 0 else {}
