"""Large files, sent ahead of the commit that names them.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.store import HubStore


def handle_batch(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Where to send each large file; nothing for one that is here already."""
    objects = []
    for wanted in request.json()["objects"]:
        known: dict[str, object] = {"oid": wanted["oid"], "size": wanted["size"]}
        if store.blobs.path(wanted["oid"]) is None:
            address = f"{request.base}/{name}.git/info/lfs/objects"
            known["actions"] = {
                "upload": {"href": f"{address}/{wanted['oid']}"},
                "verify": {"href": f"{address}/verify"},
            }
        objects.append(known)
    return json_response({"transfer": "basic", "objects": objects})


def handle_upload(store: HubStore, request: HttpRequest, name: str, sha256: str) -> HttpResponse:
    """One large file. The address is the permission, as with the Hub's signed ones."""
    store.repository(name)
    try:
        store.blobs.put(request.body, expected=sha256)
    except ValueError as error:
        raise HttpError(400, str(error)) from error
    return json_response({})


def handle_verify(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001
    sent = request.json()
    path = store.blobs.path(str(sent.get("oid")))
    if path is None or path.stat().st_size != sent.get("size"):
        raise HttpError(404, "the object was not uploaded whole")
    return json_response({})
