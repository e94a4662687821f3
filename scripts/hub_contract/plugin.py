"""A pytest plugin for huggingface_hub's tests: they ask the loopback Hub, and their results are written to a file.

The environment names the Hub as HF_ENDPOINT and the file as HUB_CONTRACT_RESULTS. No other host is reached.
"""

import importlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, RepoUrl, constants, set_client_factory
from huggingface_hub.utils import _http

from scripts.hub_contract import Choice, choose, read_choices

STAGING = "hub-ci.huggingface.co"
RESULTS = "HUB_CONTRACT_RESULTS"

RepoFactory = Callable[..., RepoUrl]
"""A name of the fixtures that the tests import."""

_hub = httpx2.URL(os.environ["HF_ENDPOINT"])
_choices: dict[str, Choice] = {}
_failures: dict[str, str] = {}
_constants = vars(importlib.import_module("tests.testing_constants"))
# The tests copy the address when they are imported.
_constants["ENDPOINT_STAGING"] = os.environ["HF_ENDPOINT"]


def pytest_configure(config: pytest.Config) -> None:
    """Let the client reach the loopback Hub only."""
    # Some tests have a mark of pytest-vcr. It records requests, which is not wanted here.
    config.addinivalue_line("markers", "vcr: recorded by pytest-vcr")
    set_client_factory(_create_client)


@pytest.fixture(autouse=True)
def patch_constants(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test an empty cache."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    for name, folder in (("HF_HUB_CACHE", "hub"), ("HUGGINGFACE_HUB_CACHE", "hub"), ("HF_TOKEN_PATH", "token")):
        monkeypatch.setattr(constants, name, str(home / folder))


@pytest.fixture(scope="session")
def api() -> HfApi:
    """A client with the token of the tests' account."""
    return HfApi(endpoint=os.environ["HF_ENDPOINT"], token=_constants["TOKEN"])


@pytest.fixture(scope="session")
def api_prod() -> HfApi:
    """A client of the production Hub. No used test asks for it."""
    return HfApi(token=False)


@pytest.fixture
def repo_factory(api: HfApi) -> RepoFactory:
    """A function that creates a repository, by default with a name of its own."""

    def create(kind: str = "model", repo_id: str | None = None, **settings: Any) -> RepoUrl:  # noqa: ANN401
        return api.create_repo(repo_id or f"{kind}-{uuid.uuid4().hex}", repo_type=kind, **settings)

    return create


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the used tests."""
    decided = read_choices(Path(__file__).with_name("choices.toml"))
    for item in items:
        asks_production = item.get_closest_marker("production") is not None
        _choices[item.nodeid] = choose(decided, _short_name(item.nodeid), asks_production)
    unused = [item for item in items if not _choices[item.nodeid].is_used]
    config.hook.pytest_deselected(items=unused)
    items[:] = [item for item in items if _choices[item.nodeid].is_used]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the first failure of a test, or why it was skipped."""
    if report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
        _failures.setdefault(report.nodeid, text.strip().splitlines()[0].replace(os.environ["HF_ENDPOINT"], ""))


def pytest_sessionfinish() -> None:
    results = [
        {"name": _short_name(name), "is_used": choice.is_used, "reason": choice.reason, "failure": _failures.get(name)}
        for name, choice in _choices.items()
    ]
    Path(os.environ[RESULTS]).write_text(json.dumps(results), encoding="utf-8")


def _short_name(nodeid: str) -> str:
    return nodeid.removeprefix("tests/")


def _create_client() -> httpx2.Client:
    """Return the client that huggingface_hub would use, restricted to the loopback Hub."""
    client = _http.default_client_factory()
    client.event_hooks["request"].append(_redirect)
    return client


def _redirect(request: httpx2.Request) -> None:
    """Send a request for the staging Hub, whose name some tests contain, to the loopback Hub. Refuse other hosts."""
    if request.url.host == STAGING:
        request.url = request.url.copy_with(scheme=_hub.scheme, host=_hub.host, port=_hub.port)
        request.headers["Host"] = _hub.netloc.decode()
    elif request.url.host != _hub.host:
        raise httpx2.ConnectError(f"only the loopback Hub may be reached, not {request.url.host}")
