"""Jobs as the client starts, follows and cancels them."""

import uuid
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

from loopback_hub.accounts import known_caller, owns
from loopback_hub.job_records import HARDWARE, Hardware, Job, JobSpec
from loopback_hub.messages import Refused, Request, Response, as_json, as_page
from loopback_hub.records import now
from loopback_hub.registered import Credential
from loopback_hub.store import Store

DEFAULT_SECONDS = 30 * 60
EVENTS = "text/event-stream; charset=utf-8"


def hardware(_store: Store, _request: Request) -> Response:
    return as_json([_priced(each) for each in HARDWARE])


def submit(store: Store, request: Request, namespace: str) -> Response:
    caller = _at_home(store, request, namespace)
    if caller.rights in ("read", "fine-grained"):
        raise Refused(403, "Forbidden: this authentication method has insufficient permissions to start Jobs")
    if namespace in store.jobs.penniless:
        raise Refused(402, "Payment required: add credits to run Jobs")
    sent = request.json()
    spec = _spec(sent)
    return as_json(shown(start(store, namespace, spec, {}, _texts(sent, "secrets"), caller.account)))


def start(
    store: Store,
    namespace: str,
    spec: JobSpec,
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
    initiator: str,
) -> Job:
    """A new Job of `spec`, with `environment` beside its own: what a webhook adds. The secrets are shown to nobody."""
    job = Job(uuid.uuid4().hex[:24], namespace, initiator, spec, now())
    store.jobs.start(job, {**environment, **secrets})
    return job


def listed(store: Store, request: Request, namespace: str) -> Response:
    _at_home(store, request, namespace)
    query = parse_qs(urlsplit(request.path).query)
    stages, labels = query.get("stage"), {tuple(each.split("=", 1)) for each in query.get("label", [])}
    found = [
        shown(job)
        for job in store.jobs.all(namespace)
        if (stages is None or job.stage in stages) and labels <= set(job.spec.labels.items())
    ]
    return as_page(found, request, store.page_size)


def detail(store: Store, request: Request, namespace: str, job_id: str) -> Response:
    return as_json(shown(find(store, request, namespace, job_id)))


def logs(store: Store, request: Request, namespace: str, job_id: str) -> Response:
    """Server-sent events, from the first line on: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    return Response(200, {"Content-Type": EVENTS}, _events(store.jobs.lines(find(store, request, namespace, job_id))))


def cancel(store: Store, request: Request, namespace: str, job_id: str) -> Response:
    store.jobs.cancel(find(store, request, namespace, job_id))
    return as_json(shown(find(store, request, namespace, job_id)))


def find(store: Store, request: Request, namespace: str, job_id: str) -> Job:
    """A Job of a namespace in which the caller is at home."""
    _at_home(store, request, namespace)
    job = store.jobs.job(namespace, job_id)
    if job is None:
        raise Refused(404, "Job not found")
    return job


def shown(job: Job) -> dict[str, object]:
    spec = job.spec
    return {
        "id": job.id,
        "createdAt": job.created,
        "startedAt": job.started,
        "finishedAt": job.finished,
        **spec_shown(spec),
        "status": {"stage": job.stage, "message": job.message},
        "owner": {"id": job.namespace, "name": job.namespace, "type": "user"},
        "initiator": {"type": "user", "id": job.initiator, "name": job.initiator},
    }


def spec_shown(spec: JobSpec) -> dict[str, object]:
    """Without its secrets, which nobody is shown."""
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


def _at_home(store: Store, request: Request, namespace: str) -> Credential:
    caller = known_caller(store, request)
    if not owns(caller, namespace):
        raise Refused(403, f"Forbidden: you are no member of {namespace}")
    return caller


def _spec(sent: dict[str, object]) -> JobSpec:
    flavor, seconds = sent.get("flavor"), sent.get("timeoutSeconds", DEFAULT_SECONDS)
    if flavor not in {each.name for each in HARDWARE}:
        raise Refused(400, f"Invalid flavor: {flavor}")
    if not isinstance(seconds, int) or seconds < 1:
        raise Refused(400, "timeoutSeconds is a number of seconds")
    if not isinstance(sent.get("dockerImage"), str):
        raise Refused(400, "a Job needs an image")
    command, arguments = (_list(sent.get(key, [])) for key in ("command", "arguments"))
    if not command:
        raise Refused(400, "a Job needs a command")
    return JobSpec(
        str(sent["dockerImage"]),
        command,
        arguments,
        _texts(sent, "environment"),
        str(flavor),
        seconds,
        _texts(sent, "labels"),
    )


def _list(value: object) -> list[str]:
    if not isinstance(value, list):
        raise Refused(400, "a command is a list")
    return [str(each) for each in value]


def _texts(sent: dict[str, object], key: str) -> dict[str, str]:
    value = sent.get(key) or {}
    if not isinstance(value, dict):
        raise Refused(400, f"{key} is no object")
    return {str(name): str(each) for name, each in value.items()}


def _events(lines: Iterator[str]) -> Iterator[bytes]:
    for line in lines:
        yield f"data: {line}\n\n".encode() if line else b": keep-alive\n\n"


def _priced(hardware: Hardware) -> dict[str, object]:
    accelerator = None
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
        "unitCostMicroUSD": hardware.micro_dollars,
        "unitCostUSD": hardware.micro_dollars / 1e6,
        "unitLabel": "minute",
    }
