"""Mutated headers and indexes: everything that the library refuses is refused. `make fuzz` runs more."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace

from antidote_ci.checkpoint.headers import Header, TensorInfo
from benchmarks.fuzz import campaign, headers


def test_five_thousand_mutated_files_are_handled_like_the_library() -> None:
    tally = campaign.run(0, range(5_000))
    assert not tally.findings, tally.findings[0]
    assert tally.slowest is not None
    assert tally.slowest.seconds < 1
    # Each kind must be accepted and refused often enough to test anything.
    for kind in set(campaign.KINDS):
        assert tally.counts[kind, "accepted"] > 50
        assert tally.counts[kind, "refused by us only"] > 5
        assert tally.counts[kind, "refused"] > 250


def test_campaign_detects_a_reader_without_checks() -> None:
    def careless(data: bytes) -> Header:
        (length,) = struct.unpack_from("<Q", data)
        entries = json.loads(data[8 : 8 + length])
        metadata = entries.pop("__metadata__", {})
        tensors = {
            name: TensorInfo(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in entries.items()
        }
        return Header(tensors, metadata, 8 + length)

    cases = campaign.run(0, range(500), careless).findings
    assert {case.verdict for case in cases} == {"accepted by us only", "uncaught"}
    assert {case.kind for case in cases} == {"header"}


def test_campaign_detects_a_reader_with_wrong_offsets() -> None:
    def shifted(data: bytes) -> Header | None:
        header = headers.ours(data)
        return header and replace(header, data_start=header.data_start - 1)

    cases = campaign.run(0, range(500), shifted).findings
    assert {case.verdict for case in cases} == {"read differently"}


def test_resource_bombs_stay_within_time_and_memory_limits() -> None:
    # Coverage would follow a subprocess, and take most of the time.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", "benchmarks.fuzz.bombs"]
    result = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.splitlines()) > 20
