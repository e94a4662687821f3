"""The command `run` with a loopback Hub: published repairs, repeated runs and conflicts."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

from antidote_ci import records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.hub import pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.pipeline import output
from loopback_hub import LoopbackHub
from tests.command_line import (
    FinishedCommand,
    finish_command,
    read_report,
    run_command,
    start_command,
    wait_for_step,
)
from tests.pipeline.test_run import LIMITS, options
from tests.tiny import BASE_NAME
from tests.trained_pair import write_mixed_task

MODEL = "stranger/tiny-finetune"
TOKEN = "hf_loopbackToken"


@pytest.fixture
def hub(trained_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        running.add(BASE_NAME, trained_pair / "reference")
        running.add(MODEL, trained_pair / "merged")
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def environment(hub: LoopbackHub, tmp_path: Path, home: str = "huggingface") -> dict[str, str]:
    folders = {"HF_HOME": str(tmp_path / home), "ANTIDOTE_CACHE": str(tmp_path / "answers")}
    return hub.environment | folders | {"HF_WRITE_TOKEN": TOKEN}


def verify(*arguments: str, **environment: str) -> FinishedCommand:
    return run_command("verify", *arguments, **environment)


def weights_fetched(hub: LoopbackHub, since: int) -> list[str]:
    return [each for each in hub.requests[since:] if each.startswith("GET") and each.endswith(".safetensors")]


def test_a_pull_request_is_opened_verified_and_found_by_the_next_run(
    hub: LoopbackHub, trained_pair: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*options(trained_pair, out), "--publish=pull-request", "--accept-repair"]
    done = run_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    found = read_report(out)
    head, main = pull.resolve_revision(MODEL, "refs/pr/1", HubAccess()), pull.resolve_revision(MODEL, None, HubAccess())
    assert found.source.revision == main.revision
    assert found.reference is not None
    assert (found.reference.id, found.reference.found_by) == (BASE_NAME, "model card")
    assert found.publish.revision == head.revision
    published = {file.path: file.digest for file in head.files if file.path.endswith(".safetensors")}
    assert published == {"model.safetensors": sha256_file(out / "model" / "model.safetensors")}
    assert TOKEN not in done.stderr
    for path in out.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()

    # Verification needs the name of the repository only.
    elsewhere = environment(hub, tmp_path, "elsewhere") | {"HF_WRITE_TOKEN": ""}
    done = verify(MODEL, "--revision", "refs/pr/1", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert str(main.revision) in done.stderr

    # The same run with an empty cache finds the result and downloads no weights.
    since = len(hub.requests)
    again = [*options(trained_pair, tmp_path / "again"), "--publish=pull-request", "--accept-repair"]
    done = run_command("run", MODEL, *again, **environment(hub, tmp_path, "nothing"))
    assert done.returncode == 0, done.stderr
    assert f"run {found.run_id} has published this result already" in done.stderr
    assert weights_fetched(hub, since) == []
    assert read_report(tmp_path / "again").run_id == found.run_id

    HfApi(endpoint=hub.endpoint, token=TOKEN).merge_pull_request(MODEL, 1)
    done = verify(MODEL, **elsewhere)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_branch_is_named_after_the_tested_commit(hub: LoopbackHub, trained_pair: Path, tmp_path: Path) -> None:
    tested = hub.store.repository(MODEL).refs["main"]
    arguments = [*options(trained_pair, tmp_path / "out"), "--publish=branch"]
    done = run_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    assert done.returncode == 7, done.stderr
    branch, published = f"antidote-{tested[:12]}", read_report(tmp_path / "out").publish
    client = HfApi(endpoint=hub.endpoint, token=False)
    refs = client.list_repo_refs(MODEL)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": tested, branch: published.revision}
    assert (published.mode, published.url) == ("branch", f"{hub.endpoint}/{MODEL}/tree/{branch}")
    assert [commit.commit_id for commit in client.list_repo_commits(MODEL, revision=branch)][:2] == [
        published.revision,
        tested,
    ]
    done = verify(MODEL, "--revision", branch, **environment(hub, tmp_path) | {"HF_WRITE_TOKEN": ""})
    assert done.returncode == 0, done.stderr


def edit_card(client: HfApi) -> CommitInfo:
    card = f"---\nbase_model: {BASE_NAME}\n---\n\n# Newer words\n".encode()
    return client.create_commit(MODEL, [CommitOperationAdd("README.md", card)], commit_message="Mine")


def test_a_commit_during_the_run_is_a_conflict(hub: LoopbackHub, trained_pair: Path, tmp_path: Path) -> None:
    arguments = [*options(trained_pair, tmp_path / "out"), "--publish=pull-request"]
    process = start_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    wait_for_step(process, "score the weights")
    client = HfApi(endpoint=hub.endpoint, token=TOKEN)
    pushed = edit_card(client)
    done = finish_command(process)
    assert done.returncode == 5, done.stderr
    assert f"run again on {pushed.oid}" in done.stderr
    assert read_report(tmp_path / "out").publish.url is None
    assert (tmp_path / "out" / "model" / "antidote" / "manifest.json").is_file(), "the work is not lost"
    assert client.model_info(MODEL).sha == pushed.oid
    assert list(client.get_repo_discussions(MODEL)) == []


@pytest.mark.slow
def test_an_expired_token_is_renewed(hub: LoopbackHub, trained_pair: Path, tmp_path: Path) -> None:
    """The run publishes with the identity of a workflow, whose token expires before the end of the run."""
    arguments = [*options(trained_pair, tmp_path / "out"), "--publish=pull-request"]
    edit_card(HfApi(endpoint=hub.endpoint, token=TOKEN))
    workflow = environment(hub, tmp_path) | {"HF_WRITE_TOKEN": ""} | hub.trust_workflow(MODEL, "octo/repair")
    process = start_command("run", MODEL, *arguments, **workflow)
    wait_for_step(process, "score the weights")
    hub.end_exchanged_tokens()
    done = finish_command(process)
    assert done.returncode == 7, done.stderr
    public = HfApi(endpoint=hub.endpoint, token=False)
    (opened,) = public.get_repo_discussions(MODEL, discussion_status="open")
    assert read_report(tmp_path / "out").publish.url == f"{hub.endpoint}/{MODEL}/discussions/{opened.num}"
    assert opened.author == "[OIDC]"
    assert hub.requests.count("POST /oauth/token") == 2
    head = pull.resolve_revision(MODEL, f"refs/pr/{opened.num}", HubAccess())
    card = pull.download_snapshot(head, HubAccess(), lambda _: None) / "README.md"
    assert "# Newer words" in card.read_text()


@pytest.mark.slow
def test_a_separate_repository_is_published(hub: LoopbackHub, trained_pair: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [*options(trained_pair, out), "--publish=repo", "--publish-to=demo/tiny-repaired"]
    done = run_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    assert done.returncode == 7, done.stderr
    published = read_report(out).publish
    assert (published.mode, published.repository) == ("repo", "demo/tiny-repaired")
    done = verify("demo/tiny-repaired", **environment(hub, tmp_path, "elsewhere") | {"HF_WRITE_TOKEN": ""})
    assert done.returncode == 0, done.stderr
    folder = Path(HfApi(endpoint=hub.endpoint).snapshot_download("demo/tiny-repaired", cache_dir=tmp_path / "copy"))
    check = ["sha256sum", "-c", "SHA256SUMS"]
    sums = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False)
    assert sums.returncode == 0, sums.stderr
    card = records.from_json(records.Report, (folder / "antidote" / "report.json").read_bytes())
    assert card.verdict == "repaired"
    assert f"base_model: {MODEL}" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_weights_that_fail_by_a_bound_alone_are_kept_and_never_published(
    hub: LoopbackHub, trained_pair: Path, tmp_path: Path
) -> None:
    out, limits = tmp_path / "out", LIMITS.replace("utility_drop = 0.3", "utility_drop = 0.2")
    task = write_mixed_task(trained_pair, tmp_path / "task.jsonl")
    arguments = [*options(trained_pair, out, limits, task=str(task)), "--publish=pull-request", "--keep-failed"]
    done = run_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    assert done.returncode == 1, done.stderr
    found, folder = read_report(out), out / "model-not-passing"
    number = (
        r"measured \d+\.\d points on \d+ prompts; "
        r"if the shares stay so, about \d+ task prompts in total would decide"
    )
    assert found.reason.startswith("the repair does not pass, by a bound alone: task errors may have risen")
    assert re.search(number, found.reason)
    # The search has seen it coming.
    warning = re.search(rf"dose \S+ is expected to miss a limit by its bound: task errors .*{number}", done.stderr)
    assert warning
    assert warning.start() < done.stderr.index("evaluate the repair ...")

    assert (found.verdict, found.publish.url, found.keeps_failed_weights) == ("fail", None, True)
    assert list(HfApi(endpoint=hub.endpoint, token=TOKEN).get_repo_discussions(MODEL)) == []
    assert not (out / "model").exists()
    assert found.repair is not None
    assert all(file.sha256_out == sha256_file(folder / file.path) for file in found.repair.files)
    for name in ("README.md", "antidote/report.html"):
        assert "did NOT pass" in (folder / name).read_text()
    assert "antidote-ci verify ." in (folder / "README.md").read_text()
    done = verify(str(out), **environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "its verdict is fail: these weights did NOT pass" in done.stderr
    with pytest.raises(ValueError, match="only repaired weights that pass"):
        output.publish_output(mock.sentinel.publication, found, mock.sentinel.model, out)


def test_an_existing_destination_is_refused_before_the_download(
    hub: LoopbackHub, trained_pair: Path, tmp_path: Path
) -> None:
    hub.add("demo/other", trained_pair / "reference")
    since = len(hub.requests)
    arguments = [*options(trained_pair, tmp_path / "out"), "--publish=repo", "--publish-to=demo/other"]
    done = run_command("run", MODEL, *arguments, **environment(hub, tmp_path))
    assert done.returncode == 5, done.stderr
    assert "name a new repository with --publish-to" in done.stderr
    assert weights_fetched(hub, since) == []
