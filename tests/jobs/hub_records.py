"""Jobs as others have published them, and their log.

The records are those of tests/test_cli.py and tests/test_jobs_api.py of huggingface/huggingface_hub 2.4.0. `LOG` has
the form that its client reads in src/huggingface_hub/hf_api.py: events with `data` and `timestamp`, a first event
`===== Job started`, empty lines, and `: keep-alive` every 30 seconds.
"""

from typing import Any

_OWNER = {"id": "user-id", "name": "testuser", "type": "user"}
_COMMON: dict[str, Any] = {
    "createdAt": "2026-05-08T08:40:00.000Z",
    "dockerImage": "python:3.12",
    "command": ["python", "-c", "print('x')"],
    "arguments": [],
    "environment": {},
    "secrets": {},
    "flavor": "cpu-basic",
    "labels": {},
    "owner": {"id": "u", "name": "test", "type": "user"},
}
RECORDS: dict[str, dict[str, Any]] = {
    "running": _COMMON
    | {
        "id": "abc123def456",
        "createdAt": "2026-01-15T10:30:00.000Z",
        "command": ["python", "-c", "print('hello')"],
        "labels": {"env": "test"},
        "status": {"stage": "RUNNING"},
        "owner": _OWNER,
    },
    "completed": _COMMON
    | {
        "id": "abc",
        "startedAt": "2026-05-08T08:41:06.000Z",
        "finishedAt": "2026-05-08T08:43:21.000Z",
        "durations": {"schedulingSecs": 12, "runningSecs": 187, "totalSecs": 199},
        "status": {"stage": "COMPLETED"},
    },
    "canceled without times": _COMMON | {"id": "abc", "status": {"stage": "CANCELED"}},
    "scheduling": _COMMON | {"id": "abc", "durations": {"totalSecs": 9861}, "status": {"stage": "SCHEDULING"}},
    "minimal": {
        "id": "job-id",
        "owner": {"id": "1234", "name": "user", "type": "user"},
        "status": {"stage": "ERROR"},
    },
}

LOG = b"""\
data: {"data":"===== Job started at 2026-05-08 08:41:06 =====","timestamp":"2026-05-08T08:41:06.000Z"}

data: {"data":"first","timestamp":"2026-05-08T08:41:07.000Z"}

: keep-alive

data: {"data":"","timestamp":"2026-05-08T08:41:08.000Z"}

data: {"data":"  data: {last}","timestamp":"2026-05-08T08:41:09.000Z"}

"""
LINES = ["first", "", "  data: {last}"]
