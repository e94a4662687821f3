"""A sandbox that starts fast, and whose children run the functions of `child_functions`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from antidote_ci.sandbox.client import Sandbox
from tests.sandbox import child_functions

SECRETS = {
    "HF_TOKEN": "hf_readToken",
    "HF_WRITE_TOKEN": "hf_writeToken",
    "HUGGING_FACE_HUB_TOKEN": "hf_oldToken",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose parent has secrets, and whose children can run the functions of `child_functions`."""
    folder = tmp_path_factory.mktemp("own")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in SECRETS.items():
                patch.setenv(name, value)
            patch.setattr(sys, "executable", str(child_functions.write_interpreter(folder / "code")))
            running = stack.enter_context(Sandbox(folder / "child.log", None))
        yield running
