"""What the tests of the loopback Hub share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import TOKEN


def client(hub: LoopbackHub, token: str | None = TOKEN) -> HfApi:
    """The real client, with a token or none."""
    return HfApi(endpoint=hub.endpoint, token=token or False)


def write(folder: Path, **texts: str) -> Path:
    """A folder of text files; a double underscore in a name is a slash."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def file(path: str, text: str) -> CommitOperationAdd:
    return CommitOperationAdd(path, text.encode())


def refused(call: Callable[..., object], *arguments: object, **options: object) -> HfHubHTTPError:
    """What the client raises for a call that the Hub must refuse."""
    with pytest.raises(HfHubHTTPError) as raised:
        call(*arguments, **options)
    return raised.value


def status(call: Callable[..., object], *arguments: object, **options: object) -> int:
    """The status of a call that the Hub must refuse."""
    return refused(call, *arguments, **options).response.status_code
