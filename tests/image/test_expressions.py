"""The language of workflow files, after EvaluationResult.cs and LexicalAnalyzer.cs of actions/runner."""

import pytest

from scripts.image_check.expressions import STATUS_FUNCTIONS, evaluate, fill, holds

CONTEXTS = {
    "github": {"event": {"client_payload": None}, "ref": "refs/heads/main"},
    "inputs": {"model": "", "publish": True, "count": 3},
    "needs": {"evaluate": {"outputs": {"verdict": "fail", "source-sha": "abc"}}},
    "env": {"MODEL": "org/name"},
    "job": {"status": "success"},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("needs.evaluate.outputs.source-sha", "abc"),
        ("needs['evaluate'].outputs['Source-SHA']", "abc"),
        ("github.event.client_payload.model", None),
        ("inputs.model || github.event.client_payload.model || 'ORG/NAME'", "ORG/NAME"),
        ("inputs.model && 'a'", ""),
        ("inputs.publish && 'a' || 'b'", "a"),
        ("'it''s'", "it's"),
        ("1.5", 1.5),
        ("-1", -1),
        (".5e1", 5),
        ("true", True),
        ("null", None),
        ("!null", True),
        ("!!'a'", True),
        ("!0", True),
        ("'FAIL' == needs.evaluate.outputs.verdict", True),
        ("'fail' != needs.evaluate.outputs.verdict", False),
        ("'1' == 1", True),
        ("'' == 0", True),
        ("null == 0", True),
        ("null == null", True),
        ("true == 1", True),
        ("true == 'true'", False),
        ("'a' == 0", False),
        ("github == github", True),
        ("github == inputs", False),
        ("github == 'Object'", False),
        ("true || false && false", True),
        ("(true || false) && false", False),
        ("!false == true", True),
    ],
)
def test_expressions_have_the_value_that_the_runner_gives_them(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXTS) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a b",
        "'open",
        "github.",
        "(true",
        "secrets.X",
        "toJSON('a')",
        "true ||",
        "1 < 2",
        "github.*",
        "a[0",
        "1a",
    ],
)
def test_what_is_not_supported_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"not supported|unexpected|missing"):
        evaluate(expression, CONTEXTS)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("${{ env.MODEL }}", "org/name"),
        ("key-${{ env.MODEL }}-${{ inputs.model }}", "key-org/name-"),
        ("${{ '}}' }}!", "}}!"),
        ("${{ inputs.count }} ${{ inputs.publish }} ${{ github }}", "3 true Object"),
        ("no expression", "no expression"),
        (True, "true"),
        (0.1, "0.1"),
        (3, "3"),
        (None, ""),
    ],
)
def test_templates_become_text(template: object, text: str) -> None:
    assert fill(template, CONTEXTS) == text


@pytest.mark.parametrize("status", ["success", "failure", "cancelled"])
@pytest.mark.parametrize("function", STATUS_FUNCTIONS)
def test_status_functions(function: str, status: str) -> None:
    assert evaluate(f"{function}()", {"job": {"status": status}}) == (function in ("always", status))


@pytest.mark.parametrize(
    ("condition", "after_success", "after_failure"),
    [
        (None, True, False),
        ("", True, False),
        ("needs.evaluate.outputs.verdict == 'fail'", True, False),
        ("${{ needs.evaluate.outputs.verdict == 'fail' }}", True, False),
        ("${{ !cancelled() && needs.evaluate.outputs.verdict == 'fail' }}", True, True),
        ("always() && needs.evaluate.outputs.verdict == 'pass'", False, False),
        ("failure()", False, True),
        ("env.always", False, False),
    ],
)
def test_a_condition_without_a_status_function_requires_success(
    condition: str | None, after_success: bool, after_failure: bool
) -> None:
    for status, expected in (("success", after_success), ("failure", after_failure)):
        assert holds(condition, {**CONTEXTS, "job": {"status": status}}) is expected
