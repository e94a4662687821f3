"""Who is let into a gated repository: https://huggingface.co/docs/hub/models-gated."""

from dataclasses import replace

from loopback_hub.accounts import require_credential
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import AccessRequest, AccessStatus, utc_now
from loopback_hub.store import HubStore

STATUSES: dict[str, AccessStatus] = {"pending": "pending", "accepted": "accepted", "rejected": "rejected"}


def request_access(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """What the button on the repository's page does: at once where the gate is automatic, else the owner decides."""
    gate = store.repository(name).gated
    if gate is False:
        raise HttpError(400, f"{name} is not gated")
    _set_status(store, name, require_credential(store, request).account, "accepted" if gate == "auto" else "pending")
    return json_response({})


def grant_access(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Without having been asked."""
    _set_status(store, name, str(request.json().get("user")), "accepted")
    return json_response({})


def decide_access(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Accept or reject, or let it wait again."""
    sent = request.json()
    user, standing = str(sent.get("user") or sent.get("requestId")), STATUSES.get(str(sent.get("status")))
    if standing is None:
        raise HttpError(400, f"a request cannot be {sent.get('status')}")
    if user not in store.repository(name).admissions:
        raise HttpError(404, f"{user} has not asked for access to {name}")
    _set_status(store, name, user, standing)
    return json_response({})


def list_requests(store: HubStore, request: HttpRequest, name: str, standing: str) -> HttpResponse:
    admissions = store.repository(name).admissions
    found = [
        {
            "requestId": account,
            "user": {"user": account, "fullname": account},
            "status": standing,
            "timestamp": admission.since,
        }
        for account, admission in admissions.items()
        if admission.standing == standing
    ]
    return page_response(found, request, store.page_size)


def _set_status(store: HubStore, name: str, account: str, state: AccessStatus) -> None:
    with store.writing:
        repository = store.repository(name)
        admissions = {**repository.admissions, account: AccessRequest(state, utc_now())}
        store.save(replace(repository, admissions=admissions))
