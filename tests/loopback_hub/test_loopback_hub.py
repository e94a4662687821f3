"""The loopback Hub: stored state, pages, and rejected requests."""

import base64
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import TOKEN, MakeModel
from tests.loopback_hub.loopback_samples import client
from tests.report.test_page import Outline

BAD_CARD = base64.b64encode(b"---\ntags: 1\n---\n").decode()
REPORT = "<!doctype html><title>Report</title><p>0.62 before, 0.08 after"


def fetch(address: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
    return httpx2.get(address, headers=headers, timeout=5)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("LOCALHOST:8080", 200), ("rebound.example", 421), ("127.0.0.1.example:80", 421), ("", 421)],
)
def test_only_local_host_headers_are_accepted(hub: LoopbackHub, host: str, status: int) -> None:
    """A web page could otherwise reach the Hub through DNS rebinding."""
    assert fetch(f"{hub.endpoint}/api/jobs/hardware", {"Host": host}).status_code == status


def test_state_persists_in_the_folder(model: MakeModel, tmp_path: Path, client_settings: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as first:
        revision = first.add("org/model", model())
        opened = client(first).create_commit(
            "org/model",
            [CommitOperationAdd("notes.md", b"more")],
            commit_message="A note",
            create_pr=True,
        )
    with LoopbackHub(tmp_path / "hub") as second:
        assert client(second).model_info("org/model").sha == revision
        (pull,) = client(second).get_repo_discussions("org/model")
        assert pull.title == "A note"
        assert client(second).model_info("org/model", revision="refs/pr/1").sha == opened.oid
        assert second.add("org/model", tmp_path / "model") == revision, "an unchanged folder makes no commit"


def test_client_reads_safetensors_headers_by_range(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    metadata = client(hub).get_safetensors_metadata("org/model")
    assert metadata.parameter_count == {"F32": 64 * 64}


@given(span=st.tuples(st.integers(0, 40), st.integers(0, 40)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_byte_ranges(hub: LoopbackHub, tmp_path: Path, span: tuple[int, int]) -> None:
    content = bytes(range(30))
    if not hub.store.names():
        (tmp_path / "spans").mkdir()
        (tmp_path / "spans" / "config.json").write_bytes(content)
        hub.add("org/spans", tmp_path / "spans")
    address = f"{hub.endpoint}/org/spans/resolve/main/config.json"
    first, last = span
    answer = fetch(address, {"Range": f"bytes={first}-{last}"})
    if first > last or first >= len(content):
        assert answer.status_code == 416
    else:
        assert answer.status_code == 206
        assert answer.content == content[first : last + 1]
        end = first + len(answer.content) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{end}/{len(content)}"
        assert fetch(address, {"Range": f"bytes={first}-"}).content == content[first:]


@pytest.mark.parametrize(("span", "part"), [("-3", b"hij"), ("-30", b"abcdefghij"), ("0-0", b"a")])
def test_suffix_and_invalid_ranges(hub: LoopbackHub, tmp_path: Path, span: str, part: bytes) -> None:
    (tmp_path / "spans").mkdir()
    (tmp_path / "spans" / "config.json").write_bytes(b"abcdefghij")
    hub.add("org/spans", tmp_path / "spans")
    address = f"{hub.endpoint}/org/spans/resolve/main/config.json"
    assert fetch(address, {"Range": f"bytes={span}"}).content == part
    for wrong in ("bytes=-", "bytes=-0", "bytes=9-1", "lines=1-2"):
        assert fetch(address, {"Range": wrong}).status_code == 416


@pytest.mark.parametrize(
    "line",
    [
        {"key": "file", "value": {"path": "../outside", "content": "", "encoding": "base64"}},
        {"key": "file", "value": {"path": "..\\outside", "content": "", "encoding": "base64"}},
        {"key": "file", "value": {"path": "a//b", "content": "", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "a.bin", "oid": "../../state.json", "size": 1}},
        {"key": "deletedFolder", "value": {"path": "../"}},
        {"key": "unheard-of", "value": {"path": "a"}},
        {"key": "file", "value": {"path": "README.md", "content": BAD_CARD, "encoding": "base64"}},
    ],
)
def test_invalid_commit_is_rejected(hub: LoopbackHub, model: MakeModel, line: dict[str, object]) -> None:
    revision = hub.add("org/model", model())
    header = {"key": "header", "value": {"summary": "Hostile"}}
    body = "\n".join(json.dumps(part) for part in (header, line)).encode()
    address = f"{hub.endpoint}/api/models/org/model/commit/main"
    answer = httpx2.post(address, content=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in (400, 422)
    assert client(hub).model_info("org/model").sha == revision


def test_card_without_metadata_is_a_warning(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    card = CommitOperationAdd("README.md", b"# A model\n")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        client(hub).create_commit("org/model", [card], commit_message="A card")


def test_upload_with_a_wrong_hash_is_rejected(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    address = f"{hub.endpoint}/org/model.git/info/lfs/objects/{'a' * 64}"
    assert httpx2.put(address, content=b"other").status_code == 400
    assert hub.store.blobs.path("a" * 64) is None


def test_upload_of_unknown_length_is_rejected(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    address = f"{hub.endpoint}/org/model.git/info/lfs/objects/{'a' * 64}"
    assert httpx2.put(address, content=iter([b"a", b"b"])).status_code == 411
    assert client(hub).model_info("org/model").id == "org/model"


@pytest.mark.parametrize("path", ["../../state.json", "..%2F..%2Fstate.json", "nested", "missing"])
def test_path_outside_the_repository_is_not_found(hub: LoopbackHub, model: MakeModel, path: str) -> None:
    hub.add("org/model", model())
    for name in ("org/model", "org/%2e%2e", "%2e%2e/repositories"):
        address = f"{hub.endpoint}/{name}/resolve/main/{path}"
        assert fetch(address, {"Authorization": "Bearer x"}).status_code == 404


def test_repository_with_a_broken_card_is_readable(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model(card="---\nunclosed: [\n---\n"))
    assert client(hub).model_info("org/model").card_data is None


def test_concurrent_pull_requests_get_different_numbers(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())

    def open_one(number: int) -> None:
        client(hub).create_commit(
            "org/model",
            [CommitOperationAdd("notes.md", str(number).encode())],
            commit_message=f"Note {number}",
            create_pr=True,
            parent_commit=revision,
        )

    threads = [threading.Thread(target=open_one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pulls = list(client(hub).get_repo_discussions("org/model"))
    assert sorted(pull.num for pull in pulls) == list(range(1, 9))
    assert {pull.title for pull in pulls} == {f"Note {number}" for number in range(8)}


def open_pull_request(hub: LoopbackHub, title: str, body: str) -> str:
    created = client(hub).create_commit(
        "org/model",
        [
            CommitOperationAdd("antidote/report.html", REPORT.encode()),
            CommitOperationAdd("config.json", title.encode()),
            CommitOperationDelete("nested/"),
        ],
        commit_message=title,
        commit_description=body,
        create_pr=True,
    )
    return str(created.pr_url)


def test_page_of_a_pull_request(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    address = open_pull_request(hub, "Repair with Antidote", "From 0.62\n\nto 0.08")
    page = fetch(address).text
    seen = Outline(page).text
    for text in ("Repair with Antidote", "open", "From 0.62\n\nto 0.08", "3 changed files"):
        assert text in seen
    assert re.findall(r"added|changed|removed", seen.partition("changed files")[2]) == [
        "added",
        "changed",
        "removed",
    ]
    links = re.findall(r'href="([^"]+)"', page)
    assert not [link for link in links if not link.startswith("/")], "the page has no external links"
    report = next(link for link in links if link.endswith("antidote/report.html"))
    answer = fetch(hub.endpoint + report)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text == REPORT
    assert {fetch(hub.endpoint + link).status_code for link in links} == {200}


def test_page_of_a_repository_links_to_its_pull_requests(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    address = open_pull_request(hub, "Repair", "")
    page = fetch(f"{hub.endpoint}/org/model").text
    assert f'href="{address.removeprefix(hub.endpoint)}"' in page
    assert "model.safetensors" in page
    assert "org/model" in fetch(hub.endpoint + "/").text


HOSTILE = st.sampled_from(["<script>alert(1)</script>", '"><img src=x onerror=a>', "</pre><b>", "{{ 7 }}"])


@given(title=HOSTILE, body=HOSTILE, around=st.text("ab<>&'\"", max_size=6))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_escape_untrusted_text(hub: LoopbackHub, tmp_path: Path, title: str, body: str, around: str) -> None:
    folder = tmp_path / "hostile"
    (folder / "nested").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "nested" / "<b>.json").write_text("{}")
    hub.add("org/model", folder)
    address = open_pull_request(hub, f"t{around}{title}", f"b{around}{body}")
    for page in (fetch(address).text, fetch(f"{hub.endpoint}/org/model").text):
        seen = Outline(page)
        tags = [tag for tag, *_ in seen.tags]
        assert not {"script", "img", "b"} & set(tags)
        assert tags.count("pre") <= 1
        assert f"t{around}{title}" in seen.text
    assert f"b{around}{body}" in Outline(fetch(address).text).text
