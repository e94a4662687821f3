"""The real service with fake runs: `python -m benchmarks.webhook.serving FOLDER POLICY PORT`"""

import os
import sys
import time
from pathlib import Path

from antidote_ci.cli.ending import handle_exit
from antidote_ci.policy import read_policy
from antidote_ci.service.settings import SECRET_VARIABLE, ServiceSettings, require_strong_secret
from antidote_ci.service.uvicorn_server import run_service
from benchmarks.webhook.ledger import FAKE_RUN, SERVICE
from benchmarks.webhook.plan import ALLOWED

RETRY_PAUSES = (0.2, 0.4, 0.8)
"""Seconds before a failed run is retried; the service itself waits for minutes."""
RUNS = 2
"""Concurrent runs."""


def main() -> None:
    """Serve until a signal arrives."""
    folder, policy, port = sys.argv[1:]
    os.environ[SERVICE] = f"{os.getpid()}-{time.monotonic_ns()}"
    settings = ServiceSettings(
        policy=read_policy(Path(policy)),
        folder=Path(folder) / "service",
        repositories=(f"{ALLOWED}/*",),
        secret=require_strong_secret(os.environ.get(SECRET_VARIABLE)),
        port=int(port),
        runs=RUNS,
        command=(sys.executable, "-I", "-S", str(FAKE_RUN), str(Path(folder) / "ledger")),
        retry_pauses=RETRY_PAUSES,
    )
    with handle_exit():
        # Deliveries alone request runs here: every run must have one.
        run_service(settings, read_heads=lambda: ())


if __name__ == "__main__":
    main()
