"""The real service with a stand-in for its work: `python -m benchmarks.webhook.serving FOLDER POLICY DATABASE PORT`"""

import os
import sys
import time
from pathlib import Path

from antidote_ci.cli.exit_codes import handle_exit
from antidote_ci.policy import read_policy
from antidote_ci.service.authentication import WEBHOOK_VARIABLE, require_strong
from antidote_ci.service.settings import RunSettings, ServiceSettings
from antidote_ci.service.uvicorn_server import run_service
from benchmarks.webhook.ledger import SERVICE, STANDIN
from benchmarks.webhook.plan import ALLOWED

PAUSES = (0.2, 0.4, 0.8)
"""Before a failed run is tried again: the service's own are minutes."""
RUNS = 2
"""At a time: as many as this machine has cores."""


def main() -> None:
    """Serve until it is told to end, or killed."""
    folder, policy, database, port = sys.argv[1:]
    os.environ[SERVICE] = f"{os.getpid()}-{time.monotonic_ns()}"
    work = RunSettings(
        policy=read_policy(Path(policy)),
        folder=Path(folder) / "service",
        on="here",
        command=(sys.executable, "-I", "-S", str(STANDIN), str(Path(folder) / "ledger")),
        pauses=PAUSES,
    )
    secret = require_strong(os.environ.get(WEBHOOK_VARIABLE))
    with handle_exit() as talk:
        run_service(ServiceSettings(work, secret, (f"{ALLOWED}/*",), database, "127.0.0.1", int(port), RUNS), talk)


if __name__ == "__main__":
    main()
