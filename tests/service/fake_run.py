"""A fake run that the executor starts: `python fake_run.py FOLDER POLICY run REPOSITORY ...`.

POLICY is the sha256 of the policy. FOLDER contains plan.json and report.json. Keys of the plan: `seconds`; `codes`, one
exit code for each start of a commit, the last one for all further starts; `says`, an error message; `deaf`, to ignore
SIGTERM; `another`, to write the report unchanged instead of with this commit, policy and exit code. Events are appended
to started.jsonl.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType


def main() -> int:
    # As `environment.protect` does, which an isolated interpreter cannot import.
    with os.fdopen(int(os.environ.pop("ANTIDOTE_ENVIRONMENT_DESCRIPTOR")), "rb") as file:
        os.environ.update(json.load(file))
    home, policy, rest = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    revision, out = rest[rest.index("--revision") + 1], Path(rest[rest.index("--out") + 1])
    plan = json.loads((home / "plan.json").read_text())
    ledger = home / "started.jsonl"

    def note(what: str) -> None:
        line = {"what": what, "revision": revision, "pid": os.getpid(), "at": time.monotonic(), "arguments": rest}
        with ledger.open("a") as file:
            file.write(json.dumps({**line, "environment": dict(os.environ)} if what == "start" else line) + "\n")

    def terminated(_number: int, _frame: FrameType | None) -> None:
        note("terminated")
        if not plan.get("deaf"):
            os._exit(143)

    signal.signal(signal.SIGTERM, terminated)
    starts = ledger.read_text().count(f'"what": "start", "revision": "{revision}"') if ledger.exists() else 0
    note("start")
    sys.stderr.write("this is the log\n")
    if plan.get("says"):
        sys.stderr.write(f"error: {plan['says']}\ncause: a reason\n")
    sys.stderr.flush()
    until = time.monotonic() + plan["seconds"]
    while time.monotonic() < until:
        time.sleep(0.02)
    code = plan["codes"][min(starts, len(plan["codes"]) - 1)]
    if code in (0, 1, 4, 7):
        out.mkdir(parents=True, exist_ok=True)
        text = (home / "report.json").read_text()
        if '"source"' in text and not plan.get("another"):
            report = json.loads(text)
            report |= {"policy_sha256": policy, "exit_code": code}
            report["source"] |= {"revision": revision}
            text = json.dumps(report)
        (out / "report.json").write_text(text)
        (out / "report.html").write_text("<!doctype html><title>a report</title>")
        (out / "model").mkdir(exist_ok=True)
        (out / "model" / "weights").write_text("heavy")
    note("end")
    if code < 0:
        os.kill(os.getpid(), -code)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
