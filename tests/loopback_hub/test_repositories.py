"""Repositories of the loopback Hub, tested with the real client."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import DisabledRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from loopback_hub import LoopbackHub
from loopback_hub.strictness import VARIANTS
from tests.hub.hub_samples import TOKEN, MakeModel
from tests.loopback_hub.loopback_samples import client, file, rejected, status, write


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_create_and_delete_twice(hub: LoopbackHub, kind: str) -> None:
    hf = client(hub)
    created = hf.create_repo("org/new", repo_type=kind, private=True)
    assert (created.repo_id, created.repo_type) == ("org/new", kind)
    info = hf.repo_info("org/new", repo_type=kind)
    assert (info.private, info.author) == (True, "org")
    assert hf.list_repo_files("org/new", repo_type=kind) == [".gitattributes"]
    (first,) = hf.list_repo_commits("org/new", repo_type=kind)
    assert (first.commit_id, first.title, first.authors) == (info.sha, "initial commit", ["demo"])
    assert status(hf.create_repo, "org/new", repo_type=kind) == 409
    assert hf.create_repo("org/new", repo_type=kind, exist_ok=True) == created
    hf.delete_repo("org/new", repo_type=kind)
    assert not hf.repo_exists("org/new", repo_type=kind)
    assert isinstance(rejected(hf.delete_repo, "org/new", repo_type=kind), RepositoryNotFoundError)


def test_change_settings(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    hf = client(hub)
    hf.update_repo_settings("org/model", gated="manual", private=True)
    info = hf.model_info("org/model")
    assert (info.gated, info.private) == ("manual", True)
    hf.update_repo_settings("org/model", gated=False)
    info = hf.model_info("org/model")
    assert (info.gated, info.private) == (False, True), "a missing setting stays unchanged"


def test_commit_history_is_paged(tmp_path: Path, client_settings: Path) -> None:
    with LoopbackHub(tmp_path / "hub", page_size=2) as hub:
        hub.add("org/model", write(tmp_path / "model", a="0"))
        hf = client(hub)
        created = [
            hf.create_commit("org/model", [file("a", str(n))], commit_message=f"Commit {n}", commit_description="why")
            for n in range(1, 5)
        ]
        log = hf.list_repo_commits("org/model")
        assert [commit.commit_id for commit in log[:-1]] == [commit.oid for commit in reversed(created)]
        assert [commit.title for commit in log] == [*(f"Commit {n}" for n in range(4, 0, -1)), "Upload model"]
        assert log[0].message == "why"
        assert [commit.created_at for commit in log] == sorted((commit.created_at for commit in log), reverse=True)
        assert len([request for request in hub.requests if "/commits/" in request]) == 3
        older = hf.list_repo_commits("org/model", revision=created[0].oid)
        assert [commit.title for commit in older] == ["Commit 1", "Upload model"]


def test_tree_is_paged(tmp_path: Path, client_settings: Path) -> None:
    with LoopbackHub(tmp_path / "hub", page_size=2) as hub:
        hub.add("org/model", write(tmp_path / "model", a="1", b__c="2", b__d__e="3", f="4"))
        hf = client(hub)
        listed = list(hf.list_repo_tree("org/model", recursive=True))
        assert {item.path for item in listed if isinstance(item, RepoFile)} == {"a", "b/c", "b/d/e", "f"}
        assert {item.path for item in listed if isinstance(item, RepoFolder)} == {"b", "b/d"}
        assert len([request for request in hub.requests if "/tree/" in request]) == 3
        assert {item.path for item in hf.list_repo_tree("org/model", "b")} == {"b/c", "b/d"}
        assert status(lambda: list(hf.list_repo_tree("org/model", "nowhere"))) == 404


def test_branches(hub: LoopbackHub, model: MakeModel) -> None:
    first = hub.add("org/model", model())
    hf = client(hub)
    hf.create_branch("org/model", branch="repair/one")
    created = hf.create_commit("org/model", [file("a", "b")], commit_message="On it", revision="repair/one")
    hf.create_branch("org/model", branch="old", revision=first)
    for revision, commit in (("main", first), ("repair/one", created.oid), ("old", first), (created.oid, created.oid)):
        assert hf.list_repo_commits("org/model", revision=revision)[0].commit_id == commit
    assert status(hf.create_branch, "org/model", branch="old") == 409
    unknown = rejected(hf.create_branch, "org/model", branch="new", revision="nowhere")
    assert isinstance(unknown, RevisionNotFoundError)


def test_references_are_listed_and_branches_deleted(hub: LoopbackHub, model: MakeModel) -> None:
    first = hub.add("org/model", model())
    hf = client(hub)
    hf.create_branch("org/model", branch="repair/one")
    proposed = hf.create_commit("org/model", [file("a", "b")], commit_message="Propose", create_pr=True)
    refs = hf.list_repo_refs("org/model", include_pull_requests=True)
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("main", "refs/heads/main", first),
        ("repair/one", "refs/heads/repair/one", first),
    ]
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests or []] == [("refs/pr/1", proposed.oid)]
    assert hf.list_repo_refs("org/model").pull_requests is None
    hf.delete_branch("org/model", branch="repair/one")
    assert not hf.revision_exists("org/model", "repair/one")
    assert isinstance(rejected(hf.delete_branch, "org/model", branch="repair/one"), RevisionNotFoundError)
    assert "Cannot delete refs/heads/main" in str(rejected(hf.delete_branch, "org/model", branch="main"))
    assert status(hf.delete_branch, "org/model", branch="refs/pr/1") == 404


def test_names_differ_in_more_than_upper_case(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("Org/Model", model())
    hf = client(hub)
    created = hf.create_commit("org/model", [file("a", "b")], commit_message="In lower case")
    assert (hf.model_info("ORG/model").id, hf.model_info("Org/Model").sha) == ("Org/Model", created.oid)
    assert status(hf.create_repo, "org/model") == 409


def test_repository_without_a_namespace_does_not_exist(hub: LoopbackHub) -> None:
    for call in (client(hub).model_info, client(hub).list_repo_commits, client(hub).list_repo_files):
        assert isinstance(rejected(call, "model"), RepositoryNotFoundError)
    assert rejected(client(hub).model_info, "model").request_id


def test_description_of_paths(hub: LoopbackHub, tmp_path: Path) -> None:
    revision = hub.add("org/model", write(tmp_path / "model", a__b="1", c="2"))
    paths = client(hub).get_paths_info("org/model", ["a", "a/b", "nowhere"], expand=True)
    assert [(type(item), item.path) for item in paths] == [(RepoFolder, "a"), (RepoFile, "a/b")]
    assert paths[1].last_commit is not None
    assert paths[1].last_commit.oid == revision


def test_file_list_names_the_xet_hash(tmp_path: Path, client_settings: Path, model: MakeModel) -> None:
    with LoopbackHub(tmp_path / "hub", strictness=VARIANTS["xet"]) as hub:
        hub.add("org/model", model())
        paths = ["config.json", "model.safetensors"]
        config, weights = client(hub).get_paths_info("org/model", paths)
        address = hf_hub_url("org/model", weights.path, endpoint=hub.endpoint)
        metadata = get_hf_file_metadata(address, token=TOKEN, endpoint=hub.endpoint)
    assert isinstance(config, RepoFile)
    assert isinstance(weights, RepoFile)
    assert metadata.xet_file_data is not None
    assert (config.xet_hash, weights.xet_hash) == (None, metadata.xet_file_data.file_hash)


def test_renamed_repository_redirects(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    revision = hub.add("org/model", model())
    hf = client(hub)
    hf.move_repo("org/model", "other/better")
    info = hf.model_info("org/model")
    assert (info.id, info.sha) == ("other/better", revision)
    assert client(hub, None).hf_hub_download("org/model", "config.json", cache_dir=tmp_path / "elsewhere")
    created = hf.create_commit("org/model", [file("a", "b")], commit_message="By the old name")
    assert hf.model_info("other/better").sha == created.oid
    hub.add("third/model", tmp_path / "model")
    assert status(hf.move_repo, "other/better", "third/model") == 409
    hf.create_repo("org/model")
    assert hf.model_info("org/model").id == "org/model", "a new repository replaces the redirect"


def test_disabled_repository_is_rejected(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model(), disabled=True)
    hf = client(hub)
    for call in (
        lambda: hf.model_info("org/model"),
        lambda: hf.list_repo_files("org/model"),
        lambda: hf.create_commit("org/model", [file("a", "b")], commit_message="No"),
    ):
        assert isinstance(rejected(call), DisabledRepoError)


def test_repository_dates(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model(), created="2024-01-31T12:00:00.000Z")
    info = client(hub).model_info("org/model")
    assert info.created_at == datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert info.last_modified is not None
    assert info.last_modified.year > 2024


def test_last_commit_of_each_file(hub: LoopbackHub, pickled: Path) -> None:
    hub.add("org/pickled", pickled)
    hf = client(hub)
    hf.create_commit("org/pickled", [file("note.md", "later")], commit_message="Later")
    files = {item.path: item for item in hf.list_repo_tree("org/pickled", expand=True) if isinstance(item, RepoFile)}
    config, note = files["config.json"], files["note.md"]
    assert config.security is not None
    assert config.security.safe
    assert config.last_commit is not None
    assert note.last_commit is not None
    assert (config.last_commit.title, note.last_commit.title) == ("Upload pickled", "Later")


def test_folder_is_deleted_with_its_files(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("org/model", write(tmp_path / "model", a__b="1", a__c__d="2", ab="3", e__f="4"))
    deleted = [CommitOperationDelete("a", is_folder=False), CommitOperationDelete("e/")]
    client(hub).create_commit("org/model", deleted, commit_message="Delete a folder as a file, and another one")
    assert client(hub).list_repo_files("org/model") == ["ab"]


def test_upload_follows_the_files_of_git(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("org/model", write(tmp_path / "model", a="1"))
    hf = client(hub)
    rules = [file(".gitattributes", "*.png filter=lfs diff=lfs merge=lfs -text"), file(".gitignore", "drafts/\n")]
    hf.create_commit("org/model", rules, commit_message="Rules")
    hf.create_commit("org/model", [file("b.png", "2"), file("drafts/c", "3")], commit_message="Two files")
    hf.create_commit(
        "org/model", [file(".gitignore", "*.md"), file("d.md", "4"), file("drafts/e", "5")], commit_message="Others"
    )
    files = {item.path: item for item in hf.list_repo_tree("org/model", recursive=True) if isinstance(item, RepoFile)}
    assert files.keys() == {".gitattributes", ".gitignore", "a", "b.png", "drafts/e"}
    assert files["b.png"].lfs is not None


def test_deleting_a_missing_file_is_rejected(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())
    hf = client(hub)
    assert status(hf.delete_file, "nowhere.txt", "org/model") == 404
    assert hf.model_info("org/model").sha == revision
