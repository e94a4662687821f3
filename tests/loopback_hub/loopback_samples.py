"""Helpers of the loopback Hub's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import TOKEN


def client(hub: LoopbackHub, token: str | None = TOKEN) -> HfApi:
    """Return the real client, with a token or without."""
    return HfApi(endpoint=hub.endpoint, token=token or False)


def write(folder: Path, **texts: str) -> Path:
    """Write text files to a folder. A double underscore in a name stands for a slash."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def file(path: str, text: str) -> CommitOperationAdd:
    return CommitOperationAdd(path, text.encode())


def rejected(call: Callable[..., object], *arguments: object, **options: object) -> HfHubHTTPError:
    """Return the exception of a call that the Hub must reject."""
    with pytest.raises(HfHubHTTPError) as raised:
        call(*arguments, **options)
    return raised.value


def status(call: Callable[..., object], *arguments: object, **options: object) -> int:
    """Return the HTTP status of a call that the Hub must reject."""
    return rejected(call, *arguments, **options).response.status_code
