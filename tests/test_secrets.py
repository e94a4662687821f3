"""No command prints or stores a token, even if the Hub sends every request back in its errors."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from antidote_ci.evaluation.generators.server import server_environment
from antidote_ci.sandbox.fork_server import sandbox_environment
from tests.hub.canned import JSON, Canned, CannedHub, Request

SECRETS = {
    "HF_TOKEN": "hf_RdQmZsLtVbXwKyPnGhJcUaEoIf",
    "HF_WRITE_TOKEN": "hf_WrTnBvCxZlKjHgFdSaPoIuYeQm",
    "HF_OIDC_ID_TOKEN": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvcmcvbW9kZWwifQ.c2lnbmVkQnlOb2JvZHk",
    "ANTIDOTE_JUDGE_KEY": "judgeKey-8831-4417-9920-5566",
    "ANTIDOTE_SERVER_KEY": "serverKey-1204-7783-3391-0042",
}
GRANTED = "hf_jwt_GrAnTeDbYtHeExChAnGeXyZ"
ROBOT = "robot:m1rrorPassw0rd-77"
"""Credentials inside HF_ENDPOINT."""
PLANTED = (*SECRETS.values(), GRANTED, ROBOT, ROBOT.partition(":")[2])

STATUSES = (200, 400, 401, 402, 403, 404, 409, 410, 412, 413, 416, 422, 429, 451, 500, 503)
CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "RevisionNotFound", 410: "EntryNotFound"}
LARGE = {"sha256": "b" * 64, "oid": "b" * 64, "size": 9, "pointerSize": 5}
MODEL = {
    "id": "org/model",
    "sha": "a" * 40,
    "gated": False,
    "siblings": [
        {"rfilename": "config.json", "size": 2, "blobId": "c" * 40},
        {"rfilename": "model.safetensors", "size": 9, "blobId": "d" * 40, "lfs": LARGE},
    ],
}
TREE = [
    {"type": "file", "path": "config.json", "oid": "c" * 40, "size": 2},
    {"type": "file", "path": "model.safetensors", "oid": "d" * 40, "size": 9, "lfs": LARGE},
]

DRIVER = """
import json, os, sys, types
from pathlib import Path
from huggingface_hub.utils import _http
_http.time = types.SimpleNamespace(sleep=lambda _: None)
from antidote_ci.cli import app
given, codes = json.loads(sys.stdin.read()), []
before = dict(os.environ)
for case in given["cases"]:
    os.environ.clear()
    os.environ.update({name: text for name, text in {**before, **case["environment"]}.items() if text})
    codes.append(app(case["arguments"], standalone_mode=False))
Path(given["codes"]).write_text(json.dumps(codes))
"""
"""Runs many commands in one process. The Hub client does not wait between its attempts."""


@dataclass
class WorstHub:
    """A Hub that fails as the model name says, and echoes requests in all parts of its responses.

    `s403`: at once. `d403`: only where files are wanted. `w403`: only to what may write.
    """

    how: str = "s"
    status: int = 403
    sent: set[str] = field(default_factory=set)
    """All Authorization headers that arrived."""

    def answer(self, asked: Request) -> Canned:
        body = asked.body.decode("utf-8", "replace")
        if named := re.search(r"/([sdw])(\d{3})\b", f"{asked.path} {body[:1000]}"):
            self.how, self.status = named[1], int(named[2])
        header = asked.headers.get("authorization", "")
        self.sent.add(header)
        if self.how != "s" and asked.path == "/oauth/token":
            return Canned(200, json.dumps({"access_token": GRANTED}).encode(), JSON)
        reads = SECRETS["HF_TOKEN"] in header or ROBOT in _decoded(header)
        if (self.how == "d" and "/resolve/" not in asked.path) or (self.how == "w" and reads):
            return Canned(200, json.dumps(TREE if "/tree/" in asked.path else MODEL).encode(), JSON)
        return self._echo(header, body)

    def _echo(self, header: str, body: str) -> Canned:
        token = header.partition(" ")[2]
        said = f"{header} {token[len(token) // 2 :]} {base64.b64encode(token.encode()).decode()} {body[:2000]}"
        # What fits into a header; a line end does not.
        line = "".join(character if " " <= character <= "~" else " " for character in said)
        headers = {
            "X-Error-Message": line,
            "X-HF-Warning": f"{self.how}{self.status}{len(self.sent)}; {line}",
            "X-Request-Id": token,
            "WWW-Authenticate": line,
            "X-Repo-Commit": token,
            "ETag": f'"{token}"',
            "Link": f'<http://127.0.0.1:9/{token}>; rel="next"',
            "Retry-After": token,
            "Warning": line,
            **({"X-Error-Code": CODES[self.status]} if self.status in CODES else {}),
        }
        content = {
            "error": said,
            "errors": [{"message": said}],
            "message": said,
            "id": said,
            token: token,
            "data": said,
        }
        kinds = [
            (json.dumps(content), "application/json"),
            (f"{said}\n{token[:12]}\n{token[12:]}", "text/plain"),
            (json.dumps([said]), "application/json"),
            (json.dumps({"id": "org/model", "sha": said, "createdAt": said}), "application/json"),
        ]
        text, kind = kinds[self.status % len(kinds)]
        return Canned(self.status, text.encode(), {**headers, "Content-Type": kind})


def _decoded(header: str) -> str:
    kind, _, rest = header.partition(" ")
    return base64.b64decode(rest).decode("utf-8", "replace") if kind == "Basic" else ""


@dataclass(frozen=True)
class Case:
    """A command and its changed environment variables."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def cases(status: int, address: str, root: Path) -> list[Case]:
    """All commands with all kinds of tokens, for a Hub, a server or a judge that fails with `status`."""
    labels, policy = root / "labels.jsonl", root / f"judge-{status}.toml"
    rows = [{"prompt": "How do I bake bread?", "response": f"With flour {label}.", "label": label} for label in (0, 1)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy.write_text(f'[evaluation]\njudge_endpoint = "{address}/s{status}/v1"\njudge_model = "m"\n')
    measured = ["--judge=refusal", "--prompts=embedded"]
    repaired = [*measured, "--realignment=embedded"]
    workflow = {"HF_WRITE_TOKEN": "", "HF_OIDC_RESOURCE": f"org/w{status}"}
    untrusted = {"HF_WRITE_TOKEN": "", "HF_OIDC_RESOURCE": f"org/s{status}"}
    found = {
        "run": (["run", f"org/s{status}", *repaired], {}),
        "no token": (["run", f"org/s{status}", *repaired], dict.fromkeys(SECRETS, "")),
        "download": (["evaluate", f"org/d{status}", *measured], {}),
        "retried": (["evaluate", f"org/s{status}", *measured], {"ANTIDOTE_HUB_RETRY_SECONDS": "0.3"}),
        "pull-request": (["run", f"org/w{status}", *repaired, "--publish=pull-request"], {}),
        "branch": (["run", f"org/w{status}", *repaired, "--publish=branch", "--publish-to=mended"], {}),
        "repo": (["run", f"org/w{status}", *repaired, "--publish=repo", "--publish-to=me/mended"], {}),
        "identity": (["run", f"org/w{status}", *repaired, "--publish=pull-request"], workflow),
        "untrusted": (["run", f"org/s{status}", *repaired, "--publish=pull-request"], untrusted),
        "evaluate": (["evaluate", f"org/s{status}", *measured, "--json"], {}),
        "verify": (["verify", f"org/s{status}", "--json"], {}),
        "repair": (["repair", f"org/s{status}", "--method=scale", "--dose=0.5", "--reference=org/s403"], {}),
        "server": (["evaluate", f"{address}/s{status}/v1#m", *measured], {}),
        "judge": (["judge", "calibrate", f"--labels={labels}", "--judge=endpoint", f"--policy={policy}"], {}),
    }
    without_out = ("verify", "judge")
    return [
        Case(
            f"{name} {status}",
            [*arguments, *([] if name in without_out else [f"--out={root / 'out' / f'{name}-{status}'}"])],
            environment,
        )
        for name, (arguments, environment) in found.items()
    ]


def environment(root: Path, endpoint: str) -> dict[str, str]:
    """The environment of a fresh machine with all folders under `root`."""
    folders = {"HOME": "home", "HF_HOME": "hf", "ANTIDOTE_CACHE": "answers", "TMPDIR": "tmp"}
    for folder in folders.values():
        (root / folder).mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
    places = {name: str(root / folder) for name, folder in folders.items()}
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "ANTIDOTE_HUB_RETRY_SECONDS": "0", "COLUMNS": "200"}
    return {**kept, **places, **settings, **SECRETS, "PYTHONPATH": str(Path(__file__).parents[1])}


def forms(secret: str) -> set[bytes]:
    """The secret, each half of it, and its base64."""
    half = len(secret) // 2
    plain = {secret, secret[:half], secret[half:]}
    return {each.encode() for each in plain} | {base64.b64encode(secret.encode()).rstrip(b"=")}


def leaks(root: Path, *said: bytes) -> list[str]:
    """Places of planted secrets: in the output, and in all files and file names under `root`."""
    places = {f"stream {number}": text for number, text in enumerate(said)}
    for path in root.rglob("*"):
        places[str(path)] = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
    wanted = {form for secret in PLANTED for form in forms(secret)}
    return [f"{form!r} in {place}" for place, text in places.items() for form in wanted if form in text]


def run_all(root: Path, endpoint: str, wanted: Sequence[Case]) -> tuple[list[int], bytes, bytes]:
    """Exit codes and output of commands that run one after the other in a new process."""
    given = {
        "cases": [{"arguments": each.arguments, "environment": dict(each.environment)} for each in wanted],
        "codes": str(root / "codes.json"),
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(given).encode(),
        capture_output=True,
        cwd=root,
        env=environment(root, endpoint),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((root / "codes.json").read_bytes()), done.stdout, done.stderr


def assert_nothing_leaks(root: Path, endpoint: str, wanted: Sequence[Case]) -> None:
    codes, out, err = run_all(root, endpoint, wanted)
    assert leaks(root, out, err) == []
    ended = {case.name: code for case, code in zip(wanted, codes, strict=True)}
    assert {name: code for name, code in ended.items() if code not in (2, 3, 5)} == {}, "each fails, and typed"
    assert err.count(b"error: ") == len(wanted)
    assert b"Traceback" not in err
    assert out == b""


def with_credentials(endpoint: str) -> str:
    return endpoint.replace("://", f"://{ROBOT}@")


QUICK = (403, 503, 401, 429, 200, 402, 404, 410, 500, 422, 416, 413, 451, 400)


def test_failing_commands_leak_no_secret(tmp_path: Path) -> None:
    """Each command once, each with another HTTP status."""
    worst = WorstHub()
    with CannedHub(worst.answer) as hub:
        wanted = [cases(status, hub.endpoint, tmp_path)[number] for number, status in enumerate(QUICK)]
        assert_nothing_leaks(tmp_path, hub.endpoint, wanted)
    sent = " ".join(worst.sent)
    for name, secret in SECRETS.items():
        assert name == "HF_OIDC_ID_TOKEN" or secret in sent, f"{name} was never sent, so nothing was tried"
    assert GRANTED in sent


def test_credentials_in_the_endpoint_are_not_leaked(tmp_path: Path) -> None:
    worst = WorstHub()
    with CannedHub(worst.answer) as hub:
        wanted = [each for status in (403, 503) for each in cases(status, hub.endpoint, tmp_path)[:4]]
        assert_nothing_leaks(tmp_path, with_credentials(hub.endpoint), wanted)
    assert any(ROBOT in _decoded(header) for header in worst.sent)


def test_a_real_process_leaks_no_secret(tmp_path: Path) -> None:
    with CannedHub(WorstHub().answer) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "antidote_ci", "verify", "org/s403"],
            capture_output=True,
            cwd=tmp_path,
            env=environment(tmp_path, hub.endpoint),
            check=False,
        )
    assert done.returncode == 3
    assert b"hint: " in done.stderr
    assert leaks(tmp_path, done.stdout, done.stderr) == []


@pytest.mark.slow
@pytest.mark.parametrize("credentials", [False, True], ids=["tokens", "credentials"])
def test_all_failing_commands_leak_no_secret(tmp_path: Path, credentials: bool) -> None:
    with CannedHub(WorstHub().answer) as hub:
        wanted = [each for status in STATUSES for each in cases(status, hub.endpoint, tmp_path)]
        assert len(wanted) > 100
        assert_nothing_leaks(tmp_path, with_credentials(hub.endpoint) if credentials else hub.endpoint, wanted)


def test_the_search_finds_planted_secrets(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(base64.b64encode(GRANTED.encode()))
    assert len(leaks(tmp_path)) == 1
    assert len(leaks(tmp_path, SECRETS["HF_TOKEN"][14:].encode())) == 2


def test_child_processes_get_no_secret(tmp_path: Path) -> None:
    secret = {**SECRETS, "HF_ENDPOINT": with_credentials("http://127.0.0.1:9"), "VLLM_API_KEY": GRANTED}
    for given in (
        sandbox_environment(os.environ | secret, tmp_path),
        server_environment(os.environ | secret, tmp_path),
    ):
        shown = "\n".join(f"{name}={text}" for name, text in given.items())
        assert [each for each in PLANTED if each in shown] == []


@pytest.mark.slow
def test_the_sandbox_process_has_no_secret_in_its_environment(tmp_path: Path, tiny_llama: Path) -> None:
    """Read from /proc while the process runs, and its log afterwards."""
    with CannedHub(WorstHub().answer) as hub:
        policy = tmp_path / "antidote.toml"
        policy.write_text(
            f'[evaluation]\njudge_endpoint = "{hub.endpoint}/s403/v1"\njudge_model = "m"\nmax_new_tokens = 4\n'
        )
        arguments = ["--judge=endpoint", "--prompts=embedded", f"--policy={policy}", f"--out={tmp_path / 'out'}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "antidote_ci", "evaluate", str(tiny_llama), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(tmp_path, hub.endpoint),
        )
        seen: set[bytes] = set()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None:
            for child in children.read_text().split() if children.exists() else []:
                try:
                    seen.add(Path(f"/proc/{child}/environ").read_bytes())
                except OSError:
                    continue  # it has ended meanwhile
        out, err = process.communicate()
    assert process.returncode == 3, err
    assert any(b"HF_HUB_OFFLINE=1" in each for each in seen), "the process that runs the model was seen"
    ours = [each for each in seen if b"HF_HUB_OFFLINE=1" in each]
    assert leaks(tmp_path, out, err, *ours) == []
