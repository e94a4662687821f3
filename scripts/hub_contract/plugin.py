"""A pytest plugin for huggingface_hub's tests: they ask a loopback Hub, and their results are written to a file.

The Hub runs in the process of the tests, because only one process at a time may use its storage for Xet. No other host
is reached. HUB_CONTRACT_RESULTS names the file.
"""

import importlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from loopback_hub import LoopbackHub
from scripts.hub_contract import Choice, choose, read_choices

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoUrl

STAGING = "hub-ci.huggingface.co"
RESULTS = "HUB_CONTRACT_RESULTS"
ORGANISATION, ORGANISATION_NAME = "valid_org_hub", "Dummy Hub Org"
"""The organisation of the tests' account, and its full name."""

RepoFactory = Callable[..., "RepoUrl"]
"""A name of the fixtures that the tests import."""

_closing = ExitStack()
_choices: dict[str, Choice] = {}
_run: set[str] = set()
_failures: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the Hub, and let the client reach it only, before the first import of the client."""
    # Some tests have a mark of pytest-vcr. It records requests, which is not wanted here.
    early_config.addinivalue_line("markers", "vcr: recorded by pytest-vcr")
    folder = Path(_closing.enter_context(tempfile.TemporaryDirectory()))
    hub = _closing.enter_context(LoopbackHub(folder / "hub"))
    os.environ.update(hub.environment, HF_HOME=str(folder / "home"), HF_TOKEN="")
    constants = _read_constants()
    constants["ENDPOINT_STAGING"] = hub.endpoint
    user, full_name = constants["USER"], constants["FULL_NAME"]
    full_names = {user: full_name, ORGANISATION: ORGANISATION_NAME}
    hub.add_account(user, constants["TOKEN"], organisations=[ORGANISATION], full_names=full_names)
    hub.add_account(constants["OTHER_USER"], constants["OTHER_TOKEN"])

    from huggingface_hub import set_client_factory

    set_client_factory(_create_client)


def pytest_unconfigure() -> None:
    _closing.close()


@pytest.fixture(autouse=True)
def patch_constants(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test an empty cache."""
    from huggingface_hub import constants

    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    for name, folder in (("HF_HUB_CACHE", "hub"), ("HUGGINGFACE_HUB_CACHE", "hub"), ("HF_TOKEN_PATH", "token")):
        monkeypatch.setattr(constants, name, str(home / folder))


@pytest.fixture(scope="session")
def api() -> "HfApi":
    """A client with the token of the tests' account."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ["HF_ENDPOINT"], token=_read_constants()["TOKEN"])


@pytest.fixture(scope="session")
def api_prod() -> "HfApi":
    """A client of the production Hub. No used test asks for it."""
    from huggingface_hub import HfApi

    return HfApi(token=False)


@pytest.fixture
def repo_factory(api: "HfApi") -> RepoFactory:
    """A function that creates a repository, by default with a name of its own."""

    def create(kind: str = "model", repo_id: str | None = None, **settings: Any) -> "RepoUrl":  # noqa: ANN401
        return api.create_repo(repo_id or f"{kind}-{uuid.uuid4().hex}", repo_type=kind, **settings)

    return create


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the used tests. Those of Xet need a Hub with Xet."""
    decided = read_choices(Path(__file__).with_name("choices.toml"))
    for item in items:
        asks_production = item.get_closest_marker("production") is not None
        _choices[item.nodeid] = choose(decided, _short_name(item.nodeid), asks_production)
    has_xet = os.environ["HF_HUB_DISABLE_XET"] == "0"
    kept = [item for item in items if _choices[item.nodeid].is_used and (has_xet or not item.get_closest_marker("xet"))]
    _run.update(item.nodeid for item in kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the first failure of a test, or why it was skipped."""
    if report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
        _failures.setdefault(report.nodeid, text.strip().splitlines()[0].replace(os.environ["HF_ENDPOINT"], ""))


def pytest_sessionfinish() -> None:
    results = [
        {
            "name": _short_name(name),
            "is_used": choice.is_used,
            "reason": choice.reason,
            "is_run": name in _run,
            "failure": _failures.get(name),
        }
        for name, choice in _choices.items()
    ]
    Path(os.environ[RESULTS]).write_text(json.dumps(results), encoding="utf-8")


def _short_name(nodeid: str) -> str:
    return nodeid.removeprefix("tests/")


def _read_constants() -> dict[str, Any]:
    """The names in the tests' own file of addresses and accounts."""
    return vars(importlib.import_module("tests.testing_constants"))


def _create_client() -> httpx2.Client:
    """Return the client that huggingface_hub would use, restricted to the loopback Hub."""
    from huggingface_hub.utils import _http

    client = _http.default_client_factory()
    client.event_hooks["request"].append(_redirect)
    return client


def _redirect(request: httpx2.Request) -> None:
    """Send a request for the staging Hub, whose name some tests contain, to the loopback Hub. Refuse other hosts."""
    hub = httpx2.URL(os.environ["HF_ENDPOINT"])
    if request.url.host == STAGING:
        request.url = request.url.copy_with(scheme=hub.scheme, host=hub.host, port=hub.port)
        request.headers["Host"] = hub.netloc.decode()
    elif request.url.host != hub.host:
        raise httpx2.ConnectError(f"only the loopback Hub may be reached, not {request.url.host}")
