"""Parsing of deliveries: payloads of the Hub are understood, everything else raises BadPayload."""

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.service.events import MAX_BYTES, BadPayload, parse_event
from antidote_ci.service.records import RefUpdate, WebhookEvent

OLD, NEW = "0" * 40, "a" * 40


def payload(**changed: object) -> dict[str, Any]:
    """A push to main, word for word as the Hub tells it, with other values by their names."""
    document: dict[str, Any] = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": "model",
            "name": "org/model",
            "id": "621ffdc036468d709f17434d",
            "private": False,
            "url": {
                "web": "https://huggingface.co/org/model",
                "api": "https://huggingface.co/api/models/org/model",
            },
            "headSha": NEW,
            "owner": {"id": "628b753283ef59b5be89e937"},
            "tags": ["safetensors"],
        },
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": OLD, "newSha": NEW}],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
    }
    return document | changed


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def refused(content: bytes) -> str:
    with pytest.raises(BadPayload) as raised:
        parse_event(content)
    return str(raised.value)


def test_push_to_main() -> None:
    update = RefUpdate("refs/heads/main", NEW)
    assert parse_event(body(payload())) == WebhookEvent("repo.content", "model", "org/model", (update,))


def test_unknown_fields_are_ignored() -> None:
    document = payload(movedTo={"name": "a/b"}, comment={"id": 1}, somethingNew=[[[]]])
    document["event"] |= {"scope": "repo.content.lfs", "action": "rewrite"}
    document["repo"] |= {"type": "kernel", "size": 1}
    document["updatedRefs"].append({"ref": "refs/pr/1", "oldSha": None, "newSha": NEW, "by": "ada"})
    event = parse_event(body(document))
    assert (event.scope, event.kind) == ("repo.content.lfs", "kernel")
    assert event.updates[1] == RefUpdate("refs/pr/1", NEW)


def test_unused_fields_may_be_missing() -> None:
    document = payload(event={"scope": "repo.content"}, updatedRefs=[{"ref": "refs/heads/main", "newSha": NEW}])
    assert parse_event(body(document)) == parse_event(body(payload()))


def test_strange_branch_names_do_not_hide_main() -> None:
    # Somebody with write access could otherwise hide an update of main behind the name of another branch.
    names = ["refs/heads/\ud800", "refs/heads/\udcff\n::error::", "refs/heads/\x00", "", "\U0001f600" * 1000]
    refs = [{"ref": name, "oldSha": "none", "newSha": NEW} for name in names]
    event = parse_event(body(payload(updatedRefs=[*refs, {"ref": "refs/heads/main", "oldSha": None, "newSha": NEW}])))
    assert event.updates[-1] == RefUpdate("refs/heads/main", NEW)
    for update in event.updates:
        assert json.dumps(update.ref, ensure_ascii=False).encode(), "can be written down"


@pytest.mark.parametrize("absent", [None, []])
def test_without_references_the_head_counts(absent: object) -> None:
    (update,) = parse_event(body(payload(updatedRefs=absent))).updates
    assert update == RefUpdate("refs/heads/main", NEW)
    document = payload(updatedRefs=absent, event={"action": "update", "scope": "discussion"})
    assert parse_event(body(document)).updates == ()


@pytest.mark.parametrize("version", [1, 2, 4, 10**4000, -3])
def test_other_versions_are_refused(version: int) -> None:
    message = refused(body(payload(webhook={"id": "a", "version": version})))
    assert "webhook.version is not 3" in message
    assert "upgrade" in message


@pytest.mark.parametrize("version", [None, "3", 3.0, True, [3]])
def test_invalid_version(version: object) -> None:
    assert "webhook.version" in refused(body(payload(webhook={"version": version})))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "org/",
        "/name",
        "org/na/me",
        "../etc",
        "org/..",
        "org/.",
        "org/.hidden",
        "org/na..me",
        "org/na--me",
        "org/name.git",
        "org/-name",
        "org/name-",
        "-org/name",
        "org/na me",
        "org/name\n",
        "org/n\u00e4me",
        "org/name\x00",
        "org/$(id)",
        "org/\ud800",
        "o" * 97 + "/name",
        "org/" + "n" * 97,
    ],
)
def test_invalid_repository_names(name: str) -> None:
    document = payload()
    document["repo"]["name"] = name
    assert "repo.name" in refused(body(document))


@pytest.mark.parametrize("sha", ["", "a" * 39, "A" * 40, "a" * 41, "g" * 40, "a" * 40 + "\n", 7, True, [NEW], "main"])
def test_invalid_commits(sha: object) -> None:
    assert "newSha" in refused(body(payload(updatedRefs=[{"ref": "refs/heads/main", "newSha": sha}])))
    document = payload(updatedRefs=None)
    document["repo"]["headSha"] = sha
    assert "repo.headSha" in refused(body(document))


def test_duplicate_keys_are_refused() -> None:
    text = json.dumps(payload())
    for twice in (
        text.replace('"name":', '"name": "org/harmless", "name":'),
        text.replace('"version": 3', '"version": 3, "version": 4'),
        text[:-1] + ', "tags": 1, "tags": 2}',
    ):
        assert refused(twice.encode()) == "the payload contains a duplicate key"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b"[" * MAX_BYTES,
        b'{"a":' * (MAX_BYTES // 5),
        b"9" * MAX_BYTES,
        b'{"a": ' + b"9" * 60_000 + b"}",
        b'{"webhook": NaN}',
        b'{"webhook": Infinity}',
        b"null",
        b'"repo.content"',
        b"[]",
        b"{}",
        b"{} {}",
        b"'{}'",
    ],
)
def test_invalid_payloads(content: bytes) -> None:
    assert len(refused(content)) < 100


def test_size_limit() -> None:
    text = body(payload(filler=""))
    full = text.replace(b'"filler": ""', b'"filler": "' + b"x" * (MAX_BYTES - len(text)) + b'"')
    assert len(full) == MAX_BYTES
    assert parse_event(full).repository == "org/model"
    assert "65,536" in refused(full + b" ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([NEW, "org/model", "main"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(content: bytes) -> None:
    """Parsing succeeds or raises BadPayload. A parsed event can be printed and stored."""
    document = ""
    try:
        event = parse_event(content)
    except BadPayload as error:
        document = str(error)
    if document:
        assert document.isascii(), document
        assert document.isprintable(), document
        return
    text = json.dumps([event.scope, event.kind, event.repository])
    assert text.isascii()
    assert "\\" not in text, "nothing that had to be escaped"
    assert json.dumps([update.ref for update in event.updates], ensure_ascii=False).encode()
    assert all(update.revision is None or len(update.revision) == 40 for update in event.updates)


@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    read(content)


@given(JSON)
def test_any_json(document: object) -> None:
    read(json.dumps(document).encode())


PLACES = (
    ("event",),
    ("event", "action"),
    ("event", "scope"),
    ("repo",),
    ("repo", "type"),
    ("repo", "name"),
    ("repo", "headSha"),
    ("updatedRefs",),
    ("updatedRefs", 0),
    ("updatedRefs", 0, "ref"),
    ("updatedRefs", 0, "oldSha"),
    ("updatedRefs", 0, "newSha"),
    ("webhook",),
    ("webhook", "version"),
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
def test_any_json_in_any_field(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    document = payload()
    for (*path, last), value in changes:
        at: Any = document
        # What was put elsewhere may have taken the place away.
        with suppress(TypeError, KeyError, IndexError):
            for step in path:
                at = at[step]
            at[last] = value
    read(json.dumps(document).encode())


@given(st.integers(0, 2**32))
def test_damaged_payloads(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    content = bytearray(body(payload()))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(content))
        content[at : at + chance.randint(0, 3)] = bytes(
            chance.choices(b'\x00"{}[],:\\u0d8\xff', k=chance.randint(0, 3))
        )
    read(bytes(content))
