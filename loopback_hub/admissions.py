"""Who is let into a gated repository: https://huggingface.co/docs/hub/models-gated."""

from dataclasses import replace

from loopback_hub.accounts import known_caller
from loopback_hub.messages import Refused, Request, Response, as_json, as_page
from loopback_hub.records import Admission, Standing, now
from loopback_hub.store import Store

STANDINGS: dict[str, Standing] = {"pending": "pending", "accepted": "accepted", "rejected": "rejected"}


def ask(store: Store, request: Request, name: str) -> Response:
    """What the button on the repository's page does: at once where the gate is automatic, else the owner decides."""
    gate = store.repository(name).gated
    if gate is False:
        raise Refused(400, f"{name} is not gated")
    _admit(store, name, known_caller(store, request).account, "accepted" if gate == "auto" else "pending")
    return as_json({})


def grant(store: Store, request: Request, name: str) -> Response:
    """Without having been asked."""
    _admit(store, name, str(request.json().get("user")), "accepted")
    return as_json({})


def handle(store: Store, request: Request, name: str) -> Response:
    """Accept or reject, or let it wait again."""
    sent = request.json()
    user, standing = str(sent.get("user") or sent.get("requestId")), STANDINGS.get(str(sent.get("status")))
    if standing is None:
        raise Refused(400, f"a request cannot be {sent.get('status')}")
    if user not in store.repository(name).admissions:
        raise Refused(404, f"{user} has not asked for access to {name}")
    _admit(store, name, user, standing)
    return as_json({})


def listed(store: Store, request: Request, name: str, standing: str) -> Response:
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
    return as_page(found, request, store.page_size)


def _admit(store: Store, name: str, account: str, standing: Standing) -> None:
    with store.writing:
        repository = store.repository(name)
        admissions = {**repository.admissions, account: Admission(standing, now())}
        store.save(replace(repository, admissions=admissions))
