"""The door: deliveries in, verdicts out. The only importer of FastAPI.

A delivery is answered as soon as its order is written down. Strangers reach /webhook with the secret in its header, and
the two health routes; everything else wants the same secret, from a browser as the password of any user.
"""

import asyncio
import re
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from starlette.requests import ClientDisconnect

from antidote_ci.errors import InfrastructureError
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten
from antidote_ci.service import executor, page
from antidote_ci.service.authentication import WEBHOOK_HEADER, is_correct_secret
from antidote_ci.service.events import MAX_BYTES, BadPayload, parse_event
from antidote_ci.service.filters import decide_event
from antidote_ci.service.queue import RunQueue
from antidote_ci.service.records import IgnoredEvent
from antidote_ci.service.settings import ServiceSettings

DELIVERY = "Webhook-Id"
"""The same for every attempt at one delivery, and for its replays."""
SECONDS_FOR_A_BODY = 10.0
MAX_DRAINED_BYTES = 1024 * 1024
"""So much of a body that is too large is still taken off the line, so that whoever sends it hears why."""
SECONDS_TO_COME_BACK = "30"
FILES = {
    "report.html": (executor.OUT_FOLDER, "text/html; charset=utf-8"),
    "report.json": (executor.OUT_FOLDER, "application/json"),
    executor.LOG_FILE: (".", "text/plain; charset=utf-8"),
}
"""What is served of a run, where it lies in the run's folder, and what it is."""
RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]
"""Of every answer, whoever gives it."""

_basic = HTTPBasic(realm="antidote-ci", auto_error=False)


def create_app(serving: ServiceSettings, queue: RunQueue, console: Console) -> FastAPI:
    """The application: no documentation of itself, no state of its own."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    def owner(request: Request, given: Annotated[HTTPBasicCredentials | None, Depends(_basic)]) -> None:
        """Whoever knows the secret, by the header or by HTTP Basic."""
        password = request.headers.get(WEBHOOK_HEADER) if given is None else given.password
        if not is_correct_secret(password, serving.secret):
            raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="antidote-ci"'})

    @app.post("/webhook")
    async def webhook(request: Request) -> Response:
        body = await _read_body(request)
        if not is_correct_secret(request.headers.get(WEBHOOK_HEADER), serving.secret):
            raise HTTPException(401)
        try:
            event = parse_event(body)
        except BadPayload as error:
            raise HTTPException(400, str(error)) from None
        order = decide_event(event, serving.repositories, serving.run_settings.policy_sha256)
        if isinstance(order, IgnoredEvent):
            return JSONResponse({"status": "ignored", "reason": order.reason})
        submitted = await run_in_threadpool(queue.submit, order, request.headers.get(DELIVERY) or None)
        if submitted == "seen":
            return JSONResponse({"status": "duplicate"})
        if submitted == "accepted":
            console.print(f"{flatten(order.repository)} at {order.revision[:12]}: accepted")
        return JSONResponse({"status": submitted, "id": order.id}, 202)

    @app.get("/health/live")
    async def live() -> Response:
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        return JSONResponse({"status": "ready"}) if queue.is_ready() else JSONResponse({"status": "not ready"}, 503)

    @app.get("/", dependencies=[Depends(owner)])
    def runs() -> Response:
        running, waiting, ended = (queue.entries(state, page.MAX_RUNS) for state in ("running", "waiting", "ended"))
        return HTMLResponse(page.render_runs_page(running, waiting, ended, serving), headers=PAGE_HEADERS)

    @app.get("/runs/{run}/{file}", dependencies=[Depends(owner)])
    def artefact(run: str, file: str) -> Response:
        where, kind = FILES.get(file, ("", ""))
        path = serving.run_settings.folder.absolute() / executor.RUNS_FOLDER / run / where / file
        # Names alone: nothing else has a way into the file system.
        if file not in FILES or not RUN.fullmatch(run) or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type=kind, headers=PAGE_HEADERS)

    @app.exception_handler(InfrastructureError)
    async def away(_request: Request, _error: InfrastructureError) -> Response:
        """The Hub sends again what was not answered with 2xx."""
        return JSONResponse(
            {"detail": "the database cannot be used"}, 503, headers={"Retry-After": SECONDS_TO_COME_BACK}
        )

    return app


async def _read_body(request: Request) -> bytes:
    """The body, never more of it in memory than is allowed. Raises HTTPException: 413 too large, 408 too slow."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(SECONDS_FOR_A_BODY):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BYTES:
                    body += chunk
                elif size > MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise HTTPException(408, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400) from None
    if size > MAX_BYTES:
        raise HTTPException(413, f"at most {MAX_BYTES} bytes", headers={"Connection": "close"})
    return bytes(body)
