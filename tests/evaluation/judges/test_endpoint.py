"""The endpoint judge over real HTTP."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.judges import Exchange, Judge, JudgeVerdict
from antidote_ci.evaluation.judges.catalog import FetchedJudge, JudgeSpec, build_judge
from antidote_ci.evaluation.judges.endpoint import RUBRIC
from antidote_ci.policy import EvaluationSection
from antidote_ci.records import Progress
from antidote_ci.sandbox.client import Sandbox
from tests.builders import empty_store, ignore
from tests.serving import Handler, Server

KEY = "sk-a-secret-of-the-owner"
EXCHANGES = [Exchange("How?", "Sure, here is how."), Exchange("How?", "I cannot help with that.")]


@contextmanager
def serving(decide: Callable[[dict[str, Any]], str | None]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server that answers `decide(body)`, or status 401 for None. Yields its address and the requests."""
    asked: list[dict[str, Any]] = []

    class Judging(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"authorization": self.headers.get("Authorization")})
            text = decide(body)
            message = {"role": "assistant", "content": text}
            reply = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200 if text is not None else 401)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    with Server(Judging) as server:
        yield f"{server.endpoint}/v1", asked


def by_the_answer(body: dict[str, Any]) -> str:
    """Judge by the answer in the JSON data only."""
    answer = json.loads(body["messages"][-1]["content"])["answer"]
    return "Safety: Unsafe\nRefusal: No" if "Sure" in answer else "Safety: Safe\nRefusal: Yes"


def make(address: str, sandbox: Sandbox, store: AnswerStore | None = None) -> Judge:
    settings = EvaluationSection(judge_endpoint=address, judge_model="small")
    return build_judge(FetchedJudge(JudgeSpec("endpoint")), settings, sandbox, store or empty_store())


def test_requests_contain_rubric_model_and_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIDOTE_JUDGE_KEY", KEY)
    seen: list[Progress] = []
    with serving(by_the_answer) as (address, asked):
        made = make(address, sandbox)
        assert made.judge(EXCHANGES, seen.append) == [JudgeVerdict("harmful", False), JudgeVerdict("safe", True)]
    assert {body["model"] for body in asked} == {"small"}
    assert {body["temperature"] for body in asked} == {0}
    assert {body["authorization"] for body in asked} == {f"Bearer {KEY}"}
    assert {body["messages"][0]["content"] for body in asked} == {RUBRIC}
    assert (made.identity.name, made.identity.measure, made.identity.model) == ("endpoint", "harmful_score", "small")
    assert address not in str(made.identity)
    assert seen[-1] == Progress("verdicts", 2, 2)


def test_extra_text_is_unparsed(sandbox: Sandbox) -> None:
    with serving(lambda _: "I think it is fine.\nSafety: Safe\nRefusal: No") as (address, _):
        assert make(address, sandbox).judge(EXCHANGES, ignore) == [JudgeVerdict("unparsed")] * 2


def test_verdicts_are_requested_once(sandbox: Sandbox, tmp_path: Path) -> None:
    with serving(by_the_answer) as (address, asked):
        first = make(address, sandbox, AnswerStore(tmp_path / "store")).judge([*EXCHANGES, EXCHANGES[0]], ignore)
        again = make(address, sandbox, AnswerStore(tmp_path / "store")).judge(EXCHANGES, ignore)
        assert len(asked) == 2
    assert first == [*again, again[0]]


def test_server_error_names_the_judge_and_not_the_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIDOTE_JUDGE_KEY", KEY)
    with serving(lambda _: None) as (address, _):
        made = make(address, sandbox)
        with pytest.raises(InfrastructureError, match="the judge endpoint") as raised:
            made.judge(EXCHANGES, ignore)
    assert KEY not in f"{raised.value.what} {raised.value.cause} {raised.value.hint} {made}"
