"""The HTTP application: webhook deliveries, health checks, and pages for the owner. The only importer of FastAPI.

A delivery is answered as soon as its request is stored. /webhook requires the secret in its header, the health routes
require nothing, and every other route requires the secret as a header or as the password of HTTP Basic.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterator
from typing import IO, Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from starlette.requests import ClientDisconnect

from antidote_ci.errors import InfrastructureError
from antidote_ci.paths import open_below
from antidote_ci.report.text import flatten
from antidote_ci.service import executor, page
from antidote_ci.service.events import MAX_BYTES, BadPayload, decide_event, parse_event
from antidote_ci.service.queue import RunQueue
from antidote_ci.service.records import IgnoredEvent
from antidote_ci.service.settings import SECRET_HEADER, ServiceSettings

logger = logging.getLogger(__name__)

DELIVERY_HEADER = "Webhook-Id"
"""Where the Hub sends it, the same for all attempts and replays of one delivery. No delivery has to have one."""
DELIVERY = re.compile(r"[\x20-\x7e]{1,200}")
MAX_HEADER_BYTES = 16 * 1024
"""Of the request line and all headers."""
CHUNK_BYTES = 64 * 1024
BODY_SECONDS = 10.0
MAX_DRAINED_BYTES = 1024 * 1024
"""How much of a body that is too large is read, so that the sender receives the answer."""
RETRY_AFTER_SECONDS = "30"
FILES = {
    "report.html": (executor.OUT_FOLDER, "text/html; charset=utf-8"),
    "report.json": (executor.OUT_FOLDER, "application/json"),
    executor.LOG_FILE: (".", "text/plain; charset=utf-8"),
}
"""The files of a run that are served: name -> folder below the run's folder, and media type."""
RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]
"""Headers of every response."""

_basic = HTTPBasic(realm="antidote-ci", auto_error=False)


def create_app(settings: ServiceSettings, queue: RunQueue) -> FastAPI:
    """The application. It publishes no API documentation and holds no state."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A redirect would name the host of the request, which the client chooses.
        redirect_slashes=False,
        dependencies=[Depends(_limit_headers)],
    )

    @app.post("/webhook")
    async def webhook(request: Request) -> Response:
        body = await _read_body(request)
        if not is_correct_secret(request.headers.get(SECRET_HEADER), settings.secret):
            raise HTTPException(401)
        delivery = request.headers.get(DELIVERY_HEADER) or None
        if delivery is not None and not DELIVERY.fullmatch(delivery):
            raise HTTPException(400, f"{DELIVERY_HEADER} is not an id of at most 200 characters")
        try:
            event = parse_event(body)
        except BadPayload as error:
            raise HTTPException(400, str(error)) from None
        decision = decide_event(event, settings.repositories, settings.policy_sha256)
        if isinstance(decision, IgnoredEvent):
            return JSONResponse({"status": "ignored", "reason": decision.reason})
        submitted = await run_in_threadpool(queue.submit, decision, delivery)
        if submitted == "seen":
            return JSONResponse({"status": "duplicate"})
        if submitted == "accepted":
            logger.info("%s at %s: accepted", flatten(decision.repository), decision.revision[:12])
        return JSONResponse({"status": submitted, "id": decision.id}, 202)

    @app.get("/health/live")
    async def live() -> Response:
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        return JSONResponse({"status": "ready"}) if queue.is_ready() else JSONResponse({"status": "not ready"}, 503)

    _add_pages(app, settings, queue)

    @app.exception_handler(InfrastructureError)
    async def database_failed(_request: Request, _error: InfrastructureError) -> Response:
        """A delivery that is lost is found when the heads of the allowed models are read next."""
        return JSONResponse(
            {"detail": "the database cannot be used"}, 503, headers={"Retry-After": RETRY_AFTER_SECONDS}
        )

    return app


def _add_pages(app: FastAPI, settings: ServiceSettings, queue: RunQueue) -> None:
    """Add the routes for the owner, which require the secret."""

    def require_owner(request: Request, basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)]) -> None:
        secret = request.headers.get(SECRET_HEADER) if basic is None else basic.password
        if not is_correct_secret(secret, settings.secret):
            raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="antidote-ci"'})

    @app.get("/", dependencies=[Depends(require_owner)])
    def runs() -> Response:
        running, waiting, ended = (queue.list_latest(state, page.MAX_RUNS) for state in ("running", "waiting", "ended"))
        return HTMLResponse(page.render_runs_page(running, waiting, ended, settings), headers=PAGE_HEADERS)

    @app.get("/models", dependencies=[Depends(require_owner)])
    def models() -> Response:
        ended = queue.list_latest("ended", page.MAX_RUNS)
        return HTMLResponse(page.render_models_page(ended, settings), headers=PAGE_HEADERS)

    @app.get("/runs/{run}/{file}", dependencies=[Depends(require_owner)])
    def run_file(run: str, file: str) -> Response:
        folder, media_type = FILES.get(file, ("", ""))
        # Only listed file names and plain folder names reach the file system.
        if file not in FILES or not RUN.fullmatch(run):
            raise HTTPException(404)
        try:
            opened = open_below(settings.folder, f"{executor.RUNS_FOLDER}/{run}/{folder}/{file}")
        except OSError:
            raise HTTPException(404) from None
        size = os.fstat(opened.fileno()).st_size
        return StreamingResponse(
            _read_chunks(opened, size), media_type=media_type, headers=PAGE_HEADERS | {"Content-Length": str(size)}
        )


async def _limit_headers(request: Request) -> None:
    size = len(request.url.path) + len(request.url.query) + sum(map(len, sum(request.headers.raw, ())))
    if size > MAX_HEADER_BYTES:
        raise HTTPException(431, headers={"Connection": "close"})


def _read_chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes: a log may grow meanwhile."""
    with file:
        while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
            size -= len(chunk)
            yield chunk


def is_correct_secret(received: str | None, secret: str) -> bool:
    """Compare two secrets in constant time, whatever their lengths."""
    return received is not None and hmac.compare_digest(_hash(received), _hash(secret))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


async def _read_body(request: Request) -> bytes:
    """The body, with at most MAX_BYTES in memory. Raises HTTPException: 413 too large, 408 too slow, 400 cut off."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
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
