"""`antidote-ci serve`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from antidote_ci.cli.exit_codes import handle_exit
from antidote_ci.cli.options import PolicyFile, Repositories, Where, option
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import read_policy

DEFAULT_FOLDER = Path("antidote-service")
LARGEST_PORT = 65535


def serve(
    repository: Repositories = None,
    policy: PolicyFile = None,
    on: Where = "here",
    folder: Annotated[Path, option("--folder", "Where queue, runs and reports are kept.")] = DEFAULT_FOLDER,
    database: Annotated[
        str,
        option(
            "--database",
            "Address of a Postgres, postgresql://...; one with a password belongs in the variable. Unless given: a "
            "SQLite file in --folder.",
        ),
    ] = "",
    host: Annotated[str, option("--host", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, option("--port", "Port to listen on.")] = 8080,
    runs: Annotated[int, option("--runs", "Runs at once, over all repositories.")] = 1,
) -> None:
    """Take the Hub's webhook deliveries, and measure and repair what they announce (docs/service.md).

    The secret that deliveries carry is read from ANTIDOTE_WEBHOOK_SECRET. Ends with 143 when asked to (SIGTERM): runs
    under way are gone on with at the next start.
    """
    try:
        with handle_exit("what ran is gone on with at the next start") as talk:
            _require_installed()
            from antidote_ci.service import authentication, filters
            from antidote_ci.service.settings import RunSettings, ServiceSettings

            if not 0 <= port <= LARGEST_PORT:
                raise ConfigurationError(f"--port {port} is no port", hint=f"0 (any) to {LARGEST_PORT}")
            if runs < 1:
                raise ConfigurationError(f"--runs {runs} would never begin one", hint="at least 1")
            serving = ServiceSettings(
                RunSettings(read_policy(policy), folder, on),
                secret=authentication.require_strong(os.environ.get(authentication.WEBHOOK_VARIABLE)),
                repositories=filters.parse_allow_list(repository or ()),
                database=database,
                host=host,
                port=port,
                runs=runs,
            )
            from antidote_ci.service import uvicorn_server

            uvicorn_server.run_service(serving, talk)
    except typer.Exit as end:
        exit_process(end.exit_code)
        raise


def _require_installed() -> None:
    missing = [name for name in ("dbos", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`serve` needs {' and '.join(missing)}, which the plain installation leaves out",
            hint="pip install 'antidote-ci[service]'",
        )


def exit_process(code: int) -> None:
    """At once where a thread waits for the Hub: it holds nothing, and the interpreter would wait for it."""
    service = sys.modules.get("antidote_ci.service.uvicorn_server")
    if service is not None and service.is_anything_left():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
