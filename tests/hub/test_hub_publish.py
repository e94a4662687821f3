"""Publishing with the real client, and reading back what it published."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.community import DiscussionComment, DiscussionCommit
from safetensors.torch import load_file, save_file

from antidote_ci.demo.hub import LoopbackHub
from antidote_ci.errors import ConfigurationError, InfrastructureError, PublishConflict
from antidote_ci.hub.publish import pull_request, write_token
from antidote_ci.hub.pull import download, resolve
from tests.hub.hub_samples import CARD, TOKEN, MakeModel, ignore, said, uploads

TITLE = "Repair with Antidote"
BODY = "Harmful score **0.62 -> 0.08**.\n\n| dose | 0.05 |\n|---|---|\n"


@pytest.fixture
def repaired(tmp_path: Path) -> dict[str, Path]:
    """What a repair publishes: other weights of the same size, a card, and the report's files."""
    folder = tmp_path / "out"
    (folder / "antidote").mkdir(parents=True)
    (folder / "README.md").write_text(CARD + "\nRepaired.\n")
    (folder / "antidote" / "report.html").write_text("<!doctype html><title>Report</title>")
    (folder / "antidote" / "report.json").write_text(json.dumps({"verdict": "repaired"}))
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def with_weights(repaired: dict[str, Path], source: Path, tmp_path: Path) -> dict[str, Path]:
    weights = {name: tensor * 0.5 for name, tensor in load_file(source).items()}
    save_file(weights, tmp_path / "repaired.safetensors", metadata={"format": "pt"})
    return {**repaired, "model.safetensors": tmp_path / "repaired.safetensors"}


@uploads
def test_the_pull_request_fetched_back(
    hub: LoopbackHub, model: MakeModel, repaired: dict[str, Path], tmp_path: Path
) -> None:
    folder = model()
    revision = hub.add("org/model", folder)
    operations = with_weights(repaired, folder / "model.safetensors", tmp_path)
    published = pull_request("org/model", revision, operations, TITLE, BODY, TOKEN)
    assert published.mode == "pull-request"
    assert published.url == f"{hub.endpoint}/org/model/discussions/1"

    remote = resolve("org/model", "refs/pr/1", None)
    assert remote.revision == published.revision
    fetched = Path(
        HfApi(endpoint=hub.endpoint, token=False).snapshot_download(
            "org/model", revision="refs/pr/1", cache_dir=tmp_path / "elsewhere"
        )
    )
    for path, file in operations.items():
        assert (fetched / path).read_bytes() == file.read_bytes(), path
    for path in ("config.json", "nested/notes.txt"):
        assert (fetched / path).read_bytes() == (folder / path).read_bytes(), path
    assert resolve("org/model", None, None).revision == revision, "main is untouched"
    pulled = download(remote, None, ignore)
    assert set(load_file(pulled / "model.safetensors")) == {"layer.weight"}


def test_the_discussion_as_the_client_reads_it(hub: LoopbackHub, model: MakeModel, repaired: dict[str, Path]) -> None:
    revision = hub.add("org/model", model())
    published = pull_request("org/model", revision, repaired, TITLE, BODY, TOKEN)
    client = HfApi(endpoint=hub.endpoint, token=TOKEN)
    (listed,) = client.get_repo_discussions("org/model", discussion_type="pull_request")
    assert (listed.title, listed.status, listed.url) == (TITLE, "open", published.url)
    assert list(client.get_repo_discussions("org/model", discussion_status="closed")) == []
    detail = client.get_discussion_details("org/model", 1)
    comment, commit = detail.events
    assert isinstance(comment, DiscussionComment)
    assert isinstance(commit, DiscussionCommit)
    assert (comment.content, commit.oid) == (BODY, published.revision)
    assert client.whoami()["name"] == detail.author


def test_one_commit_and_no_draft(hub: LoopbackHub, model: MakeModel, repaired: dict[str, Path]) -> None:
    revision = hub.add("org/model", model())
    pull_request("org/model", revision, repaired, TITLE, BODY, TOKEN)
    sent = [request for request in hub.history if request.startswith("POST") and "/commit/" in request]
    assert sent == ["POST /api/models/org/model/commit/main?create_pr=1"]
    commit = hub.store.commit("org/model", "refs/pr/1")
    assert commit.parent == revision


def test_main_moved(hub: LoopbackHub, model: MakeModel, repaired: dict[str, Path]) -> None:
    tested = hub.add("org/model", model("first", seed=1))
    head = hub.add("org/model", model("second", seed=2))
    with pytest.raises(PublishConflict) as raised:
        pull_request("org/model", tested, repaired, TITLE, BODY, TOKEN)
    assert raised.value.hint == f"run again on {head}"
    assert hub.store.repository("org/model").pull_requests == []
    assert not [request for request in hub.history if request.startswith(("POST", "PUT"))]


def test_another_branch_than_main_is_a_conflict_too(
    hub: LoopbackHub, model: MakeModel, repaired: dict[str, Path]
) -> None:
    revision = hub.add("org/model", model())
    first = pull_request("org/model", revision, repaired, TITLE, BODY, TOKEN)
    with pytest.raises(PublishConflict, match=str(first.revision)):
        pull_request("org/model", str(first.revision), repaired, TITLE, BODY, TOKEN)


def test_nothing_changed(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    revision = hub.add("org/model", folder)
    same = {name: folder / name for name in ("model.safetensors", "config.json", "README.md")}
    published = pull_request("org/model", revision, same, TITLE, BODY, TOKEN)
    assert (published.mode, published.url, published.revision) == ("pull-request", None, revision)
    assert hub.store.repository("org/model").pull_requests == []


@pytest.mark.parametrize(
    "front_matter",
    [
        "license: [1, 2]",
        "tags: {a: b}",
        "base_model: 'not a model'",
        "base_model_relation: pruned",
        "unclosed: [",
        "- a list",
        "model-index: [{results: []}]",
        "model-index: [{name: a, results: [{task: {type: text-generation}}]}]",
    ],
)
def test_a_card_the_hub_refuses(hub: LoopbackHub, model: MakeModel, tmp_path: Path, front_matter: str) -> None:
    folder = model()
    revision = hub.add("org/model", folder)
    card = tmp_path / "card.md"
    card.write_text(f"---\n{front_matter}\n---\n# Card\n")
    operations = with_weights({"README.md": card}, folder / "model.safetensors", tmp_path)
    with pytest.raises(ConfigurationError, match="refuses the model card") as raised:
        pull_request("org/model", revision, operations, TITLE, BODY, TOKEN)
    assert raised.value.cause is not None
    assert len(raised.value.cause) > len("Invalid metadata in README.md.")
    assert hub.store.repository("org/model").pull_requests == []
    assert not [request for request in hub.history if request.startswith("PUT")]


def test_an_unknown_source(hub: LoopbackHub, repaired: dict[str, Path]) -> None:
    with pytest.raises(InfrastructureError, match="org/nothing is not on"):
        pull_request("org/nothing", "0" * 40, repaired, TITLE, BODY, TOKEN)


@pytest.mark.parametrize(
    ("environ", "token"),
    [
        ({"HF_WRITE_TOKEN": "hf_write", "HF_TOKEN": "hf_read"}, "hf_write"),
        ({"HF_WRITE_TOKEN": "", "HF_TOKEN": "hf_read"}, "hf_read"),
    ],
)
def test_which_token_publishes(environ: dict[str, str], token: str) -> None:
    assert write_token(environ) == token


def test_no_token_to_publish_with() -> None:
    with pytest.raises(InfrastructureError, match="token") as raised:
        write_token({"HF_OTHER": "hf_other"})
    assert "HF_WRITE_TOKEN" in said(raised.value)
    assert "hf_other" not in said(raised.value)
