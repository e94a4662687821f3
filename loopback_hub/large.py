"""Large files, sent ahead of the commit that names them.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from loopback_hub.messages import Refused, Request, Response, as_json
from loopback_hub.store import Store


def batch(store: Store, request: Request, name: str) -> Response:
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
    return as_json({"transfer": "basic", "objects": objects})


def upload(store: Store, request: Request, name: str, sha256: str) -> Response:
    """One large file. The address is the permission, as with the Hub's signed ones."""
    store.repository(name)
    try:
        store.blobs.put(request.body, expected=sha256)
    except ValueError as error:
        raise Refused(400, str(error)) from error
    return as_json({})


def verify(store: Store, request: Request, name: str) -> Response:  # noqa: ARG001
    sent = request.json()
    path = store.blobs.path(str(sent.get("oid")))
    if path is None or path.stat().st_size != sent.get("size"):
        raise Refused(404, "the object was not uploaded whole")
    return as_json({})
