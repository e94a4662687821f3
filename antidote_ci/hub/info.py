"""What the Hub says of a model, without what its card says: a card may hold names that the client stumbles over.

https://huggingface.co/docs/hub/api#get-apimodelsrepoid
"""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

ANSWER_SECONDS = 30.0
"""How long the Hub may take to describe a repository: the client itself would wait for ever."""


def fetch_model_info(
    client: "HfApi", identifier: str, revision: str | None = None, *, files: bool = False, security: bool = False
) -> "ModelInfo":
    """As `HfApi.model_info`, of the card the licence alone. Raises what that raises."""
    from huggingface_hub import ModelInfo
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import get_session, hf_raise_for_status
    from huggingface_hub.utils._validators import validate_repo_id

    validate_repo_id(identifier)
    place = f"{client.endpoint}/api/models/{identifier}"
    asked = {"blobs": files, "securityStatus": security}
    response = get_session().get(
        place if revision is None else f"{place}/revision/{quote(revision, safe='')}",
        headers=build_hf_headers(token=client.token, library_name=client.library_name),
        params={name: True for name, wanted in asked.items() if wanted},
        timeout=ANSWER_SECONDS,
    )
    hf_raise_for_status(response)
    said: Any = None
    with suppress(RecursionError):
        said = response.json()
    if not isinstance(said, dict):
        raise json.JSONDecodeError("it is no object", response.text, 0)
    said.pop("self", None)  # the client's own name for what it fills in
    card = said.get("cardData")
    said["cardData"] = {"license": card.get("license")} if isinstance(card, dict) else None
    said.pop("evalResults", None)
    return ModelInfo(**said)  # type: ignore[no-untyped-call]
