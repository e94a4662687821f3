"""Prompt sets downloaded with the real client from a loopback Hub."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, snapshot_download

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import prompt_sets, splits
from antidote_ci.evaluation.prompt_sets import PRESETS, FetchedSet
from antidote_ci.hub import datasets
from antidote_ci.hub.access import HubAccess
from antidote_ci.jobs import job_spec
from antidote_ci.policy import Policy, override_section
from loopback_hub import LoopbackHub
from tests.evaluation.published import publish
from tests.hub.hub_samples import NO_RETRY, TOKEN

JAILBREAKBENCH = PRESETS["jailbreakbench"].repository
STRONGREJECT = PRESETS["strongreject"].repository.removeprefix(datasets.GITHUB_PREFIX)
HARMFUL = {"data/harmful-behaviors.csv": None}
CSV = {"strongreject_dataset/strongreject_dataset.csv": None}


@pytest.fixture(autouse=True)
def mirror(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback Hub also serves the files of GitHub."""
    monkeypatch.setenv(datasets.GITHUB_VARIABLE, hub.endpoint)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


def fetch_all(policy: Policy) -> dict[str, FetchedSet]:
    """Download all prompt sets of a policy."""
    sets = {}
    for download in prompt_sets.list_downloads(policy):
        fetched = datasets.fetch_dataset(download.repository, download.revision, download.files, HubAccess())
        sets[download.name] = FetchedSet(fetched.folder, fetched.commit)
    return sets


def override_evaluation(**values: object) -> Policy:
    return override_section(Policy(), "evaluation", **values)


def test_default_prompt_sets_end_to_end(hub: LoopbackHub, tmp_path: Path) -> None:
    first = hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench", 100, 100), kind="dataset")
    second = hub.add(STRONGREJECT, publish(tmp_path / "b", "strongreject", 200, topic="cars"))
    policy = override_evaluation(prompts=f"jailbreakbench@{first},strongreject@{second}")
    sets = fetch_all(policy)

    measured, files = splits.load_evaluation_prompts(policy, sets)
    assert (len(measured.harmful), len(measured.benign), measured.task) == (300, 100, [])
    by_role = {file.role: file for file in files}
    assert by_role["confirmation"].origin == f"jailbreakbench@{first}, strongreject@{second}"
    assert by_role["benign"].origin == f"jailbreakbench@{first}"
    assert {file.licence for file in files} == {"MIT"}

    run = splits.load_run_prompts(policy, sets)
    assert len(run.repair_prompts.realignment) + len(run.selection.harmful) + len(run.confirmation.harmful) == 300
    both = f"jailbreakbench@{first}, strongreject@{second}"
    assert [(file.role, file.origin) for file in run.files] == [
        ("realignment", "self"),
        ("realignment", "varied"),
        ("calibration", f"jailbreakbench@{first}"),
        ("calibration", "varied"),
        ("selection", both),
        ("confirmation", both),
        ("unseen", "varied"),
        ("benign", f"jailbreakbench@{first}"),
    ]


def test_branch_is_resolved_to_a_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    old = hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench", 3), kind="dataset")
    new = hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench", 5), kind="dataset")
    for revision, commit, count in ((None, new, 5), (old, old, 3), ("main", new, 5)):
        fetched = datasets.fetch_dataset(JAILBREAKBENCH, revision, HARMFUL, HubAccess())
        assert fetched.commit == commit
        sets = {"jailbreakbench": FetchedSet(fetched.folder, fetched.commit)}
        assert len(prompt_sets.read_rows("jailbreakbench", "harmful", sets)) == count


def test_only_named_files_are_downloaded(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench"), kind="dataset")
    folder = datasets.fetch_dataset(JAILBREAKBENCH, None, HARMFUL, HubAccess()).folder
    assert [path.name for path in folder.rglob("*.csv")] == ["harmful-behaviors.csv"]


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_cached_commit_sends_no_request(hub: LoopbackHub, tmp_path: Path, kind: str) -> None:
    files: Mapping[str, str | None]
    if kind == "dataset":
        commit = hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench"), kind="dataset")
        repository, files = JAILBREAKBENCH, HARMFUL
    else:
        commit = hub.add(STRONGREJECT, publish(tmp_path / "b", "strongreject"))
        repository, files = f"github:{STRONGREJECT}", CSV
    first = datasets.fetch_dataset(repository, commit, files, HubAccess())
    before = hub.requests
    assert datasets.fetch_dataset(repository, commit, files, HubAccess()) == first
    assert hub.requests == before


def test_changed_cached_file_is_downloaded_again(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench"), kind="dataset")
    file = datasets.fetch_dataset(JAILBREAKBENCH, commit, HARMFUL, HubAccess()).folder / "data/harmful-behaviors.csv"
    good = file.read_bytes()
    file.resolve().write_bytes(good.replace(b"sweets", b"sweats"))
    with pytest.raises(InfrastructureError, match="does not have the hash"):
        datasets.fetch_dataset(JAILBREAKBENCH, commit, HARMFUL, NO_RETRY)
    folder = datasets.fetch_dataset(JAILBREAKBENCH, commit, HARMFUL, NO_RETRY).folder
    assert (folder / "data/harmful-behaviors.csv").read_bytes() == good


@pytest.mark.parametrize("size", [10, 11_000_000])
def test_wrong_bytes_of_the_right_size(hub: LoopbackHub, tmp_path: Path, size: int) -> None:
    """A file in git and a file in large-file storage."""
    file = {"test.jsonl": None}
    (tmp_path / "test.jsonl").write_bytes(b"1" * size)
    hub.add("acme/arithmetic", tmp_path, kind="dataset")
    fetched = datasets.fetch_dataset("acme/arithmetic", None, file, HubAccess())
    assert (fetched.folder / "test.jsonl").read_bytes() == b"1" * size
    (tmp_path / "test.jsonl").write_bytes(b"2" * size)
    hub.add("acme/arithmetic", tmp_path, kind="dataset")
    entry = hub.store.commit("datasets/acme/arithmetic", "main").files["test.jsonl"]
    assert (entry.pointer_size is None) == (size == 10)
    blob = hub.store.blobs.path(entry.sha256)
    assert blob is not None
    blob.write_bytes(b"3" * size)
    with pytest.raises(InfrastructureError, match="does not have the hash"):
        datasets.fetch_dataset("acme/arithmetic", None, file, NO_RETRY)


def test_gated_dataset(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # not ours to use unless it is passed
    hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench"), gated=True, kind="dataset")
    with pytest.raises(InfrastructureError, match="is gated") as raised:
        datasets.fetch_dataset(JAILBREAKBENCH, None, HARMFUL, HubAccess())
    assert f"{hub.endpoint}/datasets/{JAILBREAKBENCH}," in str(raised.value.hint)
    assert datasets.fetch_dataset(JAILBREAKBENCH, None, HARMFUL, HubAccess(TOKEN)).folder.is_dir()


def test_missing_file_revision_and_repository(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(JAILBREAKBENCH, publish(tmp_path / "a", "jailbreakbench"), kind="dataset")
    with pytest.raises(InfrastructureError, match=r"has no file data/other\.csv at [0-9a-f]{40}"):
        datasets.fetch_dataset(JAILBREAKBENCH, None, {"data/other.csv": None}, HubAccess())
    with pytest.raises(InfrastructureError, match="no such revision"):
        datasets.fetch_dataset(JAILBREAKBENCH, "0" * 40, HARMFUL, HubAccess())
    with pytest.raises(InfrastructureError, match="datasets/org/nothing is not on"):
        datasets.fetch_dataset("org/nothing", None, HARMFUL, HubAccess())
    hub.add("org/model", tmp_path / "a")
    with pytest.raises(InfrastructureError, match="datasets/org/model is not on"):
        datasets.fetch_dataset("org/model", None, HARMFUL, HubAccess())


def test_unsupported_and_oversized_files_are_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.parquet"):
        datasets.fetch_dataset(JAILBREAKBENCH, None, {"data.parquet": None}, HubAccess())
    assert hub.requests == []
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "data.csv").open("wb") as file:
        file.truncate(datasets.FILE_BYTES + 1)
    commit = hub.add("org/large", tmp_path / "large", kind="dataset")
    with pytest.raises(InfrastructureError, match="64 MB"):
        datasets.fetch_dataset("org/large", None, {"data.csv": None}, HubAccess())
    assert not any("/resolve/" in request for request in hub.requests)
    hub.add("org/large", tmp_path / "large")
    with pytest.raises(InfrastructureError, match="more than 64 MB"):
        datasets.fetch_dataset("github:org/large", head_of(hub, "org/large"), {"data.csv": None}, HubAccess())
    assert commit != head_of(hub, "org/large")


def head_of(hub: LoopbackHub, name: str) -> str:
    return hub.store.commit(name, "main").revision


def test_github_files_are_checked(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.add(STRONGREJECT, publish(tmp_path / "b", "strongreject"))
    repository = f"github:{STRONGREJECT}"
    file = next(iter(CSV))
    with pytest.raises(InfrastructureError, match="does not have the expected sha256"):
        datasets.fetch_dataset(repository, commit, {file: "0" * 64}, HubAccess())
    assert datasets.fetch_dataset(repository, commit, CSV, HubAccess(TOKEN)).commit == commit
    with pytest.raises(InfrastructureError, match="GitHub answered 404") as raised:
        datasets.fetch_dataset(repository, "0" * 40, CSV, HubAccess())
    assert "check the commit" in str(raised.value.hint)
    with pytest.raises(ConfigurationError, match="40 hex digits"):
        datasets.fetch_dataset(repository, None, CSV, HubAccess())


def test_github_cannot_be_reached(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(datasets.GITHUB_VARIABLE, "http://127.0.0.1:9/")
    with pytest.raises(InfrastructureError, match="GitHub cannot be reached") as raised:
        datasets.fetch_dataset(f"github:{STRONGREJECT}", "0" * 40, CSV, NO_RETRY)
    assert datasets.GITHUB_VARIABLE in str(raised.value.cause)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InfrastructureError, match="not in the local cache"):
        datasets.fetch_dataset(f"github:{STRONGREJECT}", "0" * 40, CSV, NO_RETRY)
    assert hub.requests == []


def test_loopback_hub_serves_a_dataset_and_a_model_of_one_name(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a", "jailbreakbench")
    model = hub.add("org/same", publish(tmp_path / "b", "strongreject"))
    dataset = hub.add("org/same", folder, kind="dataset")
    client = HfApi(endpoint=hub.endpoint, token=False)
    assert client.model_info("org/same").sha == model
    info = client.dataset_info("org/same", files_metadata=True)
    assert (info.id, info.author, info.sha) == ("org/same", "org", dataset)
    tree = client.list_repo_tree("org/same", repo_type="dataset", recursive=True)
    assert {entry.path for entry in tree} == {"data", "data/harmful-behaviors.csv", "data/benign-behaviors.csv"}
    snapshot = Path(snapshot_download("org/same", repo_type="dataset", endpoint=hub.endpoint, token=False))
    for path in ("data/harmful-behaviors.csv", "data/benign-behaviors.csv"):
        assert (snapshot / path).read_bytes() == (folder / path).read_bytes()
    assert hub.store.names() == ["datasets/org/same", "org/same"]
    with pytest.raises(ValueError, match="not a repository's name"):
        hub.add("datasets/same", folder)


def publish_task(hub: LoopbackHub, folder: Path, name: str, content: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return hub.add("acme/arithmetic", folder, kind="dataset")


@pytest.mark.parametrize("name", ["data/test.jsonl", "test.csv"])
def test_a_task_of_a_dataset_is_read_at_its_commit(hub: LoopbackHub, tmp_path: Path, name: str) -> None:
    rows = [(f"What is {number} + 1?", str(number + 1)) for number in range(40)]
    content = "question,answer\n" + "".join(f'"{question}",{answer}\n' for question, answer in rows)
    if name.endswith(".jsonl"):
        content = "".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in rows)
    commit = publish_task(hub, tmp_path / "a", name, content)
    publish_task(hub, tmp_path / "b", name, "question,answer\nmoved,1\n")
    task = f"acme/arithmetic@{commit}:{name}"
    policy = override_evaluation(prompts="embedded", task=task, task_columns="question, answer")
    sets = fetch_all(policy)
    measured, files = splits.load_evaluation_prompts(policy, sets)
    assert [(row.prompt, row.response) for row in measured.task] == rows
    assert [file.origin for file in files if file.role == "task"] == [task]
    assert policy.flat()["evaluation.task"] == task
    assert job_spec.list_local_files(policy) == {}

    before = len(hub.requests)
    assert fetch_all(policy) == sets
    assert len(hub.requests) == before, "a commit in the cache needs no request"
    with pytest.raises(ConfigurationError, match="no text in the field 'expected'") as raised:
        splits.load_evaluation_prompts(override_evaluation(prompts="embedded", task=task), sets)
    assert "question, answer" in str(raised.value.hint)
    for columns in ("question", "question,", "a,b,c"):
        with pytest.raises(ConfigurationError, match="task_columns cannot be"):
            splits.load_evaluation_prompts(override_section(policy, "evaluation", task_columns=columns), sets)
    with pytest.raises(ConfigurationError, match="needs a local file"):
        splits.load_evaluation_prompts(override_section(policy, "evaluation", task_match="choice"), sets)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("acme/arithmetic:test.jsonl", "neither a file nor ORG/DATASET@COMMIT:FILE"),
        ("acme/arithmetic@main:test.jsonl", "neither a file nor ORG/DATASET@COMMIT:FILE"),
        (f"acme/arithmetic@{'a' * 40}:../secrets.jsonl", "neither a file nor ORG/DATASET@COMMIT:FILE"),
        (f"acme/arithmetic@{'a' * 40}:test.parquet", "unsupported format"),
    ],
)
def test_a_task_without_a_commit_or_in_another_format_is_refused(hub: LoopbackHub, task: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fetch_all(override_evaluation(prompts="embedded", task=task))
    assert hub.requests == []


def test_a_local_file_is_a_task_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = Path("acme/tasks:1.jsonl")
    task.parent.mkdir()
    task.write_text('{"prompt": "1 + 1", "expected": "2"}\n')
    for name in (str(task), f"./{task}"):
        measured, _ = splits.load_evaluation_prompts(override_evaluation(prompts="embedded", task=name), {})
        assert [row.response for row in measured.task] == ["2"]
