"""The runner of huggingface_hub's own tests, with a few tests in their style."""

from pathlib import Path

import pytest

from scripts.hub_contract import PRODUCTION, Choice, ContractResult, choose, read_choices, render_page
from scripts.hub_contract.__main__ import PAGE, merge_runs, run_tests

CHOICES = {
    "test_a.py::TestCommits": Choice(True, "commits"),
    "test_a.py::TestCommits::test_tag": Choice(False, "tags"),
}

TESTS = """
import pytest
from huggingface_hub import HfApi, get_session
from .conftest import RepoFactory
from .testing_constants import ENDPOINT_STAGING, OTHER_TOKEN, USER

class TestHfApiAuthCheck:
    def test_passes(self, api: HfApi, repo_factory: RepoFactory):
        assert api.endpoint == ENDPOINT_STAGING
        repository = repo_factory("dataset", private=True)
        assert repository.startswith(f"{ENDPOINT_STAGING}/datasets/{USER}/dataset-")
        assert not api.repo_exists(repository.repo_id, repo_type="dataset", token=OTHER_TOKEN)
        assert HfApi(endpoint="https://hub-ci.huggingface.co", token=OTHER_TOKEN).whoami()["fullname"] == "other"

    def test_fails(self, api: HfApi):
        api.model_info("org/nowhere")

    def test_reaches_another_host(self):
        get_session().get("https://elsewhere.example")

    @pytest.mark.production
    def test_production(self):
        raise AssertionError

class TestCollectionAPI:
    def test_collection(self):
        raise AssertionError
"""

CONSTANTS = """
ENDPOINT_STAGING = "https://hub-ci.huggingface.co"
USER, FULL_NAME, TOKEN = "user", "A User", "hf_user"
OTHER_USER, OTHER_TOKEN = "other", "hf_other"
"""


def test_choice_with_the_longest_beginning() -> None:
    assert choose(CHOICES, "test_a.py::TestCommits::test_commit", False).reason == "commits"
    assert choose(CHOICES, "test_a.py::TestCommits::test_tag_twice", False).reason == "tags"
    assert choose(CHOICES, "test_a.py::TestCommits::test_commit", True) == Choice(False, "asks the production Hub")
    with pytest.raises(KeyError, match="nobody has decided"):
        choose(CHOICES, "test_b.py::test_x", False)


def test_page_counts_tests_and_names_failures() -> None:
    commits = Choice(True, "commits")
    results = merge_runs(
        {
            "git-lfs": [
                ContractResult("test_a.py::test_one", commits, {"git-lfs": None}),
                ContractResult("test_a.py::test_two", commits, {"git-lfs": "no `x`\n  here"}),
                ContractResult("test_a.py::test_three", Choice(False, "tags")),
                ContractResult("test_a.py::test_four", Choice(False, "likes")),
            ],
            "Xet": [
                ContractResult("test_a.py::test_two", commits, {"Xet": None}),
                ContractResult("test_b.py::test_five", Choice(True, "branches"), {"Xet": None}),
            ],
        }
    )
    page = render_page("9.9", results)
    assert "huggingface_hub==9.9" in page
    assert "5 tests: 3 are used, 2 of them pass, 1 fail." in page
    assert [line for line in page.splitlines() if line.startswith(("| ", "- `"))] == [
        "| subject | git-lfs | Xet |",
        "| --- | --- | --- |",
        "| branches | not run | 1 of 1 pass |",
        "| commits | 1 of 2 pass | 1 of 1 pass |",
        "- `test_a.py::test_two`, git-lfs: `no 'x' here`",
        "| reason | tests |",
        "| --- | --- |",
        "| likes | 1 |",
        "| tags | 1 |",
    ]


def test_page_has_the_subjects_of_today() -> None:
    used, unused = PAGE.read_text(encoding="utf-8").split("## Used")[1].split("## Not used")
    choices = read_choices(PAGE.parents[1] / "scripts" / "hub_contract" / "choices.toml").values()
    for rows, is_used, added in ((used, True, set()), (unused, False, {PRODUCTION})):
        subjects = {line.split(" | ")[0].removeprefix("| ") for line in rows.strip().splitlines()[2:]}
        assert subjects == {choice.reason for choice in choices if choice.is_used == is_used} | added


@pytest.mark.slow
def test_used_tests_run_against_the_loopback_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # These tests need no other plugin, and importing all of them takes longer than the tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_hf_api.py").write_text(TESTS)
    (folder / "testing_constants.py").write_text(CONSTANTS)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["production"]\n')
    results = {result.name.rpartition("::")[2]: result for result in run_tests(tmp_path, ["test_hf_api.py"], "git-lfs")}
    assert {name: result.choice.reason for name, result in results.items()} == {
        "test_passes": "auth check",
        "test_fails": "auth check",
        "test_reaches_another_host": "auth check",
        "test_production": "asks the production Hub",
        "test_collection": "collections",
    }
    assert results["test_passes"].failures == {"git-lfs": None}
    assert (results["test_production"].failures, results["test_collection"].failures) == ({}, {})
    assert "RepositoryNotFoundError" in str(results["test_fails"].failures["git-lfs"])
    assert "only the loopback Hub may be reached" in str(results["test_reaches_another_host"].failures["git-lfs"])
    assert sorted(path.name for path in folder.iterdir()) == ["test_hf_api.py", "testing_constants.py"]
