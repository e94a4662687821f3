"""The tests of the Hub pass on loopback Hubs that are stricter where the real one is not documented."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_hub.strictness import VARIABLE, VARIANTS, read_strictness

ROOT = Path(__file__).parents[2]
WORKFLOWS = ("tests/hub/test_access.py", "tests/hub/test_publish.py", "tests/pipeline/test_run_publishing.py")
PUBLISHING = (
    *("tests/hub/test_publish.py", "tests/hub/test_races.py", "tests/pipeline/test_publishing.py"),
    *("tests/pipeline/test_run_publishing.py", "tests/service/test_repository_state.py"),
)
EVENTS = (
    "tests/service/test_registration.py",
    "tests/service/test_handle_event.py",
    "tests/loopback_hub/test_webhooks.py",
)
JOBS = ("tests/jobs", "tests/service/test_registration.py")
TESTS = {
    "oidc-expiry": WORKFLOWS,
    "whoami-401": WORKFLOWS,
    "whoami-403": WORKFLOWS,
    "whoami-404": WORKFLOWS,
    "workflows-not-listed": WORKFLOWS,
    "opening-comment-cleaned": PUBLISHING,
    "delivered-once": EVENTS,
    "role-read": ("tests/hub/test_publish.py", *JOBS),
    "role-contributor": ("tests/hub/test_publish.py", *JOBS),
    "log-tail": JOBS,
    "xet": ("tests/hub/test_pull.py", *PUBLISHING),
}
"""Variant -> the tests that it can affect."""
ASKS_WHOAMI = ("test_expired_identity_cannot_be_exchanged_again",)
EXCEPT = {
    "oidc-expiry": (  # they count the exchanges
        *ASKS_WHOAMI,
        *("test_workflow_publishes_with_its_identity", "test_revoked_token_is_exchanged_again"),
    ),
    "whoami-401": ASKS_WHOAMI,
    "whoami-403": ASKS_WHOAMI,
    "whoami-404": ASKS_WHOAMI,
    "opening-comment-cleaned": ("test_pull_request_has_description_commit_and_comment",),
    "delivered-once": ("test_failed_delivery_is_retried_with_the_same_id", "test_webhook_starts_a_job"),
    "log-tail": ("test_report_of_the_job_is_written", "test_interrupted_log_is_printed_once"),  # they print all lines
    "xet": (  # over plain HTTP
        *("test_interrupted_transfer_is_resumed", "test_short_file_is_downloaded_again"),
        "test_download_longer_than_described_ends",
        "test_token_is_not_sent_to_the_storage_host",
        "test_wrong_bytes_are_downloaded_again",  # the client keeps the Xet hash of a commit's file
    ),
}
"""Variant -> parts of the names of tests that are about the default behaviour."""


def test_every_variant_has_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TESTS.keys() == VARIANTS.keys() >= EXCEPT.keys()
    for name, parts in EXCEPT.items():
        paths = [ROOT / path for path in TESTS[name]]
        files = [file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])]
        names = re.findall(r"^def (test_\w+)", "\n".join(file.read_text(encoding="utf-8") for file in files), re.M)
        for part in parts:
            assert any(part in test for test in names), f"{part} is in no test of {name}"
    assert len(set(VARIANTS.values())) == len(VARIANTS)
    for name, strictness in VARIANTS.items():
        monkeypatch.setenv(VARIABLE, name)
        assert read_strictness() == strictness


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_hub_of_this_variant(variant: str) -> None:
    selected = " and ".join(f"not {name}" for name in EXCEPT.get(variant, ()))
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-k", selected, *TESTS[variant]]
    completed = subprocess.run(
        command, cwd=ROOT, env=os.environ | {VARIABLE: variant}, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout[-5000:]
