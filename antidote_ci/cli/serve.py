"""`antidote-ci serve`."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import PolicyFile, Repositories, Where, option
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import read_policy

DEFAULT_FOLDER = Path("antidote-service")
MAX_PORT = 65535


def serve(
    repository: Repositories = None,
    policy: PolicyFile = None,
    on: Where = "here",
    folder: Annotated[Path, option("--folder", "Folder for the queue, runs and reports.")] = DEFAULT_FOLDER,
    host: Annotated[str, option("--host", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, option("--port", "Port to listen on.")] = 8080,
    runs: Annotated[int, option("--runs", "Concurrent runs, over all repositories.")] = 1,
) -> None:
    """Receive webhook deliveries of the Hub, and measure and repair the models that they name (docs/service.md).

    The secret of the deliveries is read from ANTIDOTE_WEBHOOK_SECRET. Exits with 143 after SIGTERM; interrupted runs
    continue at the next start.
    """
    with handle_exit("interrupted runs continue at the next start"):
        _require_installed()
        from antidote_ci.service.events import parse_allow_list
        from antidote_ci.service.settings import SECRET_VARIABLE, ServiceSettings, require_strong_secret

        if not 0 <= port <= MAX_PORT:
            raise ConfigurationError(f"--port {port} is not a port", hint=f"use 0 (any free port) to {MAX_PORT}")
        if runs < 1:
            raise ConfigurationError(f"--runs {runs} would never start a run", hint="use 1 or more")
        settings = ServiceSettings(
            read_policy(policy),
            folder,
            parse_allow_list(repository or ()),
            require_strong_secret(os.environ.get(SECRET_VARIABLE)),
            host=host,
            port=port,
            runs=runs,
            on=on,
        )
        from antidote_ci.service import uvicorn_server

        uvicorn_server.run_service(settings)


def _require_installed() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`serve` needs {' and '.join(missing)}, which the plain installation does not include",
            hint="in a clone of antidote-ci: pip install '.[service]', or use the image (docs/docker.md)",
        )
