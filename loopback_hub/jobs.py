"""Endpoints for Jobs."""

import uuid
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

from loopback_hub.accounts import is_owner, require_credential
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import HARDWARE, Credential, Flavor, StoredJob, StoredJobSpec, utc_now
from loopback_hub.store import HubStore

DEFAULT_SECONDS = 30 * 60
EVENTS = "text/event-stream; charset=utf-8"


def list_hardware(_store: HubStore, _request: HttpRequest) -> HttpResponse:
    return json_response([flavor_json(flavor) for flavor in HARDWARE])


def handle_submit(store: HubStore, request: HttpRequest, namespace: str) -> HttpResponse:
    caller = _require_namespace(store, request, namespace)
    if caller.rights in ("read", "fine-grained"):
        raise HttpError(403, "Forbidden: this authentication method has insufficient permissions to start Jobs")
    if namespace in store.jobs.without_credit:
        raise HttpError(402, "Payment required: add credits to run Jobs")
    sent = request.json()
    spec = _parse_spec(sent)
    return json_response(
        job_json(start_job(store, namespace, spec, {}, _require_texts(sent, "secrets"), caller.account))
    )


def start_job(
    store: HubStore,
    namespace: str,
    spec: StoredJobSpec,
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
    initiator: str,
) -> StoredJob:
    """Start a Job of `spec`. `environment` holds the variables that a webhook adds. `secrets` are never returned."""
    job = StoredJob(uuid.uuid4().hex[:24], namespace, initiator, spec, utc_now())
    store.jobs.start(job, {**environment, **secrets})
    return job


def list_jobs(store: HubStore, request: HttpRequest, namespace: str) -> HttpResponse:
    _require_namespace(store, request, namespace)
    query = parse_qs(urlsplit(request.path).query)
    stages, labels = query.get("stage"), {tuple(label.split("=", 1)) for label in query.get("label", [])}
    jobs = [
        job_json(job)
        for job in store.jobs.list_jobs(namespace)
        if (stages is None or job.stage in stages) and labels <= set(job.spec.labels.items())
    ]
    return page_response(jobs, request, store.page_size)


def show_job(store: HubStore, request: HttpRequest, namespace: str, job_id: str) -> HttpResponse:
    return json_response(job_json(require_job(store, request, namespace, job_id)))


def stream_logs(store: HubStore, request: HttpRequest, namespace: str, job_id: str) -> HttpResponse:
    """Stream the log as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

    It begins with the first line, or at the line that ?tail= or the strictness selects from the end.
    """
    limits = (request.query_number("tail"), store.strictness.log_lines or 0)
    lines = store.jobs.follow_log(require_job(store, request, namespace, job_id), min(filter(None, limits), default=0))
    return HttpResponse(200, {"Content-Type": EVENTS}, _encode_events(lines))


def cancel_job(store: HubStore, request: HttpRequest, namespace: str, job_id: str) -> HttpResponse:
    store.jobs.cancel(require_job(store, request, namespace, job_id))
    return json_response(job_json(require_job(store, request, namespace, job_id)))


def require_job(store: HubStore, request: HttpRequest, namespace: str, job_id: str) -> StoredJob:
    """Return a Job. Requires a namespace of the caller."""
    _require_namespace(store, request, namespace)
    job = store.jobs.find_job(namespace, job_id)
    if job is None:
        raise HttpError(404, "Job not found")
    return job


def job_json(job: StoredJob) -> dict[str, object]:
    spec = job.spec
    return {
        "id": job.id,
        "createdAt": job.created,
        "startedAt": job.started,
        "finishedAt": job.finished,
        **spec_json(spec),
        "status": {"stage": job.stage, "message": job.message},
        "owner": {"id": job.namespace, "name": job.namespace, "type": "user"},
        "initiator": {"type": "user", "id": job.initiator, "name": job.initiator},
    }


def spec_json(spec: StoredJobSpec) -> dict[str, object]:
    """Return the spec as JSON. Secrets are never returned."""
    return {
        "dockerImage": spec.image,
        "spaceId": None,
        "command": spec.command,
        "arguments": spec.arguments,
        "environment": spec.environment,
        "secrets": {},
        "flavor": spec.flavor,
        "timeout": spec.timeout,
        "labels": spec.labels,
    }


def _require_namespace(store: HubStore, request: HttpRequest, namespace: str) -> Credential:
    caller = require_credential(store, request)
    if not is_owner(caller, namespace):
        raise HttpError(403, f"Forbidden: you are not a member of {namespace}")
    return caller


def _parse_spec(sent: dict[str, object]) -> StoredJobSpec:
    flavor, seconds = sent.get("flavor"), sent.get("timeoutSeconds", DEFAULT_SECONDS)
    if flavor not in {flavor.name for flavor in HARDWARE}:
        raise HttpError(400, f"Invalid flavor: {flavor}")
    if not isinstance(seconds, int) or seconds < 1:
        raise HttpError(400, "timeoutSeconds must be a positive number of seconds")
    if not isinstance(sent.get("dockerImage"), str):
        raise HttpError(400, "a Job requires an image")
    command, arguments = (_require_list(sent.get(key, [])) for key in ("command", "arguments"))
    if not command:
        raise HttpError(400, "a Job requires a command")
    return StoredJobSpec(
        str(sent["dockerImage"]),
        command,
        arguments,
        _require_texts(sent, "environment"),
        str(flavor),
        seconds,
        _require_texts(sent, "labels"),
    )


def _require_list(value: object) -> list[str]:
    if not isinstance(value, list):
        raise HttpError(400, "a command must be a list")
    return [str(item) for item in value]


def _require_texts(sent: dict[str, object], key: str) -> dict[str, str]:
    value = sent.get(key) or {}
    if not isinstance(value, dict):
        raise HttpError(400, f"{key} must be an object")
    return {str(name): str(text) for name, text in value.items()}


def _encode_events(lines: Iterator[str]) -> Iterator[bytes]:
    for line in lines:
        yield f"data: {line}\n\n".encode() if line else b": keep-alive\n\n"


def flavor_json(hardware: Flavor) -> dict[str, object]:
    accelerator, micro_dollars = None, round(hardware.dollars / 60 * 1e6)
    if hardware.gpu:
        model, quantity, memory = hardware.gpu
        accelerator = {
            "type": "gpu",
            "model": model,
            "quantity": str(quantity),
            "vram": memory,
            "manufacturer": "Nvidia",
        }
    return {
        "name": hardware.name,
        "prettyName": hardware.title,
        "cpu": hardware.cpu,
        "ram": hardware.ram,
        "ephemeralStorage": hardware.storage,
        "accelerator": accelerator,
        "unitCostMicroUSD": micro_dollars,
        "unitCostUSD": micro_dollars / 1e6,
        "unitLabel": "minute",
    }
