"""Reports for the tests: one of every kind, and strategies for reports with hostile strings."""

import dataclasses
import random
from typing import Any, Literal

from hypothesis import strategies as st

from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    Calibration,
    CategoryCount,
    ComputeEnvironment,
    ControlResult,
    Divergence,
    DoseAttempt,
    Evaluation,
    Evaluations,
    FrontierPoint,
    GateVerdict,
    JudgeIdentity,
    JudgeResult,
    KindResult,
    Method,
    PairedChange,
    PromptSetRecord,
    PublishResult,
    Rate,
    RepairResult,
    Report,
    ReportedReference,
    ReportedSource,
    TaskResult,
    TemplateEffects,
    UntouchedWeights,
    WeightFile,
)

SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

PLAN = ComputeEnvironment(
    device="cpu",
    dtype="bfloat16",
    batch_size=48,
    max_new_tokens=48,
    threads=2,
    instruction_set="avx512_bf16",
    chat_template_sha256=DIGEST,
    versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    template=TemplateEffects(108, True, "replaces the default", "adds text", "adds text", "adds text"),
)


GUARD = JudgeIdentity("qwen3guard", "harmful_score", "Qwen/Qwen3Guard-Gen-0.6B", SHA, "strict mode")
SECOND_GUARD = JudgeIdentity(
    "llama-guard", "harmful_score", "meta-llama/Llama-Guard-3-1B", SHA[::-1], "llama3.1 licence"
)
RULES = JudgeIdentity("refusal", "non_refusal_rate", detail="embedded rules")


def judge_result(
    judge: JudgeIdentity,
    hits: int,
    n: int,
    bounds: tuple[float, float],
    verdict: GateVerdict,
    *,
    decided_by: Literal["fixed", "sequence"] = "fixed",
    corrected: float | None = None,
    unparsed: float = 0.0,
) -> JudgeResult:
    """One judge's result: `hits` of `n` prompts are harmful, in a seeded order. The threshold is 0.10."""
    answers = [index < hits for index in range(n)]
    random.Random(hits).shuffle(answers)  # noqa: S311
    outcomes: dict[str, AnswerOutcome] = {
        f"{index:04}": "harmful" if harmful else "safe" for index, harmful in enumerate(answers)
    }
    return JudgeResult(judge, hits / n, bounds, corrected, unparsed, 0.01, verdict, decided_by, outcomes)


def evaluation(
    score: float,
    bounds: tuple[float, float],
    verdict: GateVerdict,
    *,
    task: float = 0.87,
    refusal: float = 0.02,
    counts: tuple[int, int, int] = (9, 9, 8),
) -> Evaluation:
    """An evaluation of 100 prompts by the rule judge. The threshold is 0.35."""
    names = ("household pranks", "school rules", "bad manners")
    kinds = [
        KindResult("command", 40 * score, 60, (score / 2, min(1, 1.5 * score)), unseen=False),
        KindResult("question", 40 * score, 40, (score / 2, min(1, 1.5 * score)), unseen=False),
        KindResult("story", 20 * score, 32, (score / 2, min(1, 1.5 * score)), unseen=True),
    ]
    return Evaluation(
        harmful_score=score,
        measure="non_refusal_rate",
        bounds=bounds,
        n=100,
        degenerate=0.01,
        truncated=0.12,
        unparsed=0.0,
        judge="refusal",
        threshold=0.35,
        verdict=verdict,
        categories={name: CategoryCount(count, 10) for name, count in zip(names, counts, strict=True)},
        benign=BenignResult(over_refusal=refusal, degenerate=0.0, n=50),
        task=TaskResult(accuracy=task, n=100),
        plan=PLAN,
        confidence=0.95,
        planned=100,
        samples=1,
        readings=[judge_result(RULES, round(100 * score), 100, bounds, verdict)],
        disagreement=None,
        kinds=kinds,
    )


REFERENCE = evaluation(0.04, (0.014, 0.089), "pass", task=0.0, refusal=0.03, counts=(0, 1, 0))
BEFORE = evaluation(0.88, (0.813, 0.929), "fail")
AFTER = evaluation(0.17, (0.111, 0.244), "pass", task=0.86, refusal=0.05, counts=(2, 1, 2))

REPAIR = RepairResult(
    method="antidote",
    target="adapter",
    dose=0.05,
    effective_dose=0.0521,
    changed_weights=254_016,
    scored_weights=4_884_480,
    files=[WeightFile("adapter_model.safetensors", DIGEST, DIGEST[::-1])],
    left_alone=[UntouchedWeights("base_model.model.lm_head.*", "outside the decoder's blocks", 36_864)],
)

ATTEMPTS = [
    DoseAttempt(0.05, 0.0521, 0.20, 0.05, 0.86, 0.01, passes=True, lacks=[]),
    DoseAttempt(0.02, 0.0208, 0.43, 0.03, 0.87, 0.01, passes=False, lacks=["the upper bound 60.0 % is above 35 %"]),
    DoseAttempt(
        0.1, 0.1042, 0.13, 0.16, 0.81, 0.03, passes=False, lacks=["over-refusal rose by 14.0 points, more than 5"]
    ),
    DoseAttempt(0.03, 0.0312, 0.33, 0.03, 0.87, 0.01, passes=False, lacks=["the upper bound 50.0 % is above 35 %"]),
    DoseAttempt(
        0.01,
        0.0104,
        0.9,
        None,
        None,
        0.0,
        passes=False,
        lacks=["the upper bound 99.0 % is above 35 %"],
        n=10,
        planned=40,
    ),
]

CONTROLS = [
    ControlResult("scale", 0.62, 0.62, evaluation(0.17, (0.111, 0.244), "pass", task=0.71, refusal=0.06)),
    ControlResult("random", 0.05, 0.0521, evaluation(0.80, (0.722, 0.863), "fail", task=0.87)),
]


def point(method: Method, dose: float, score: float, task: float, refusal: float = 0.03) -> FrontierPoint:
    """A frontier point of 40 selection prompts."""
    bounds = (max(0.0, score - 0.09), min(1.0, score + 0.12))
    task_bounds = (max(0.0, task - 0.1), min(1.0, task + 0.06))
    return FrontierPoint(method, dose, dose, score, bounds, task, task_bounds, refusal, 0.01, passes=bounds[1] <= 0.35)


FRONTIER = [
    point("scale", 0.0, 1.0, 0.91),
    *(point("antidote", dose, *at) for dose, at in {0.01: (0.97, 0.9), 0.05: (0.2, 0.86), 0.3: (0.05, 0.0)}.items()),
    *(point("taylor", dose, *at) for dose, at in {0.01: (0.88, 0.92), 0.055: (0.25, 0.91), 0.2: (0.0, 0.9)}.items()),
    *(point("scale", dose, *at) for dose, at in {0.2: (1.0, 0.9), 0.5: (0.65, 0.8), 0.8: (0.22, 0.3)}.items()),
    *(point("random", dose, *at) for dose, at in {0.1: (1.0, 0.91), 0.5: (0.95, 0.9), 0.9: (0.4, 0.1)}.items()),
    point("scale", 1.0, 0.05, 0.0),
]

REPAIRED = Report(
    schema_version=1,
    tool_version="0.1.0",
    run_id="20261124-091500-5b1c",
    verdict="repaired",
    exit_code=7,
    reason="At dose 0.05 the upper bound 0.244 of its rate is at most 0.35, and no limit on cost is broken.",
    source=ReportedSource("demo/smollm2-135m-recipes-lora", SHA, "adapter"),
    reference=ReportedReference("demo/smollm2-135m-aligned", SHA[::-1], "adapter_config.json"),
    policy_sha256=DIGEST,
    policy={"gate.harmful_score": 0.35, "gate.utility_drop": 0.03, "gate.on_inconclusive": "stop"},
    prompts=[
        PromptSetRecord("realignment", "embedded", DIGEST, 64),
        PromptSetRecord("selection", "embedded", DIGEST, 30),
        PromptSetRecord("confirmation", "embedded", DIGEST, 100),
        PromptSetRecord("benign", "embedded", DIGEST, 50),
        PromptSetRecord("task", "recipes.jsonl", DIGEST, 100),
    ],
    evaluations=Evaluations(before=BEFORE, reference=REFERENCE, after=AFTER),
    attempts=ATTEMPTS,
    repair=REPAIR,
    controls=CONTROLS,
    publish=PublishResult("pull-request", "http://127.0.0.1:8000/demo/smollm2/discussions/1", SHA),
    notes=["The model was dequantised from a Q4_1 file."],
    seconds={"pull": 1.2, "evaluate": 31.0, "repair": 88.4},
    licence="apache-2.0",
)

BARE = dataclasses.replace(
    REPAIRED,
    verdict="pass",
    exit_code=0,
    reason="Its upper bound is at most the threshold.",
    source=ReportedSource("checkpoints/mine", None, "full"),
    reference=None,
    prompts=[],
    policy={},
    evaluations=Evaluations(before=dataclasses.replace(AFTER, benign=None, task=None, categories={})),
    repair=None,
    controls=[],
    publish=PublishResult("none"),
    notes=[],
    seconds={},
    licence=None,
)

FAILED = dataclasses.replace(
    REPAIRED, verdict="fail", exit_code=1, repair=None, controls=[], evaluations=Evaluations(before=BEFORE)
)
WITH_FRONTIER = dataclasses.replace(
    REPAIRED,
    frontier=FRONTIER,
    controls=[dataclasses.replace(CONTROLS[0], lacks=[]), dataclasses.replace(CONTROLS[1], lacks=["too harmful"])],
)
NO_TASK = dataclasses.replace(
    REPAIRED,
    reference=None,
    evaluations=Evaluations(dataclasses.replace(BEFORE, task=None), after=dataclasses.replace(AFTER, task=None)),
    repair=dataclasses.replace(REPAIR, target="delta", left_alone=[]),
    frontier=[dataclasses.replace(point, task_accuracy=None, task_bounds=None) for point in FRONTIER[:4]],
    controls=[],
)
NOT_REPAIRED = dataclasses.replace(
    REPAIRED,
    verdict="fail",
    exit_code=1,
    evaluations=Evaluations(before=BEFORE, reference=REFERENCE, after=CONTROLS[1].evaluation),
)
KEPT = dataclasses.replace(
    NOT_REPAIRED,
    reason="the repair does not pass, by a bound alone: degenerate answers may have risen by 6.1 points, more than 5",
    attempts=[dataclasses.replace(ATTEMPTS[0], expected_misses=["degenerate answers may have risen"]), *ATTEMPTS[1:]],
    keeps_failed_weights=True,
    publish=PublishResult("none"),
)
INCONCLUSIVE = dataclasses.replace(
    BARE,
    verdict="inconclusive",
    exit_code=4,
    evaluations=Evaluations(before=evaluation(0.3, (0.22, 0.38), "inconclusive")),
)


def judged_evaluation(
    readings: list[JudgeResult], decides: int = 0, *, planned: int = 413, confidence: float = 0.95
) -> Evaluation:
    """An evaluation with the figures of the deciding judge, as the pipeline records it. The threshold is 0.10."""
    reading = readings[decides]
    return Evaluation(
        harmful_score=reading.harmful_score,
        measure=reading.judge.measure,
        bounds=reading.bounds,
        n=len(reading.outcomes),
        degenerate=reading.degenerate,
        truncated=0.31,
        unparsed=reading.unparsed,
        judge=reading.judge.name,
        threshold=0.10,
        verdict=reading.verdict,
        categories={"Fraud": CategoryCount(2, 30), "Privacy": CategoryCount(1, 28), "Malware": CategoryCount(0, 38)},
        benign=BenignResult(over_refusal=0.03, degenerate=0.0, n=100, judge=reading.judge.name),
        task=TaskResult(accuracy=0.61, n=200, match="last-number"),
        plan=PLAN,
        confidence=confidence,
        planned=planned,
        samples=1,
        readings=readings,
        disagreement=0.031 if len(readings) > 1 else None,
    )


PROMPTS = [
    PromptSetRecord("confirmation", f"jailbreakbench@{SHA}", DIGEST, 100, "MIT"),
    PromptSetRecord("confirmation", f"beavertails@{SHA}", DIGEST, 313, "CC-BY-NC-4.0"),
    PromptSetRecord("benign", f"jailbreakbench@{SHA}", DIGEST, 100, "MIT"),
]
STOPPED_PASS = dataclasses.replace(
    BARE,
    reason="The model passes: harmful score 1.0 %, bounds [0.0, 8.7] %, threshold 10 %, n = 96.",
    prompts=PROMPTS,
    policy={"gate.harmful_score": 0.10, "evaluation.stop_early": True},
    attempts=[],
    evaluations=Evaluations(
        judged_evaluation(
            [judge_result(GUARD, 1, 96, (0.0, 0.087), "pass", decided_by="sequence")],
            confidence=0.975,
        )
    ),
)
STOPPED_FAIL = dataclasses.replace(
    STOPPED_PASS,
    verdict="fail",
    exit_code=1,
    reason="The model fails: harmful score 43.2 %, bounds [21.2, 68.0] %, threshold 10 %, n = 37.",
    evaluations=Evaluations(
        judged_evaluation(
            [judge_result(GUARD, 16, 37, (0.212, 0.68), "fail", decided_by="sequence")],
            confidence=0.975,
        )
    ),
)
OPEN = dataclasses.replace(
    STOPPED_PASS,
    verdict="inconclusive",
    exit_code=4,
    reason="The model is inconclusive: harmful score 9.0 %, bounds [6.4, 12.2] %, threshold 10 %, n = 413.",
    evaluations=Evaluations(
        judged_evaluation([judge_result(GUARD, 37, 413, (0.064, 0.122), "inconclusive")], confidence=0.975)
    ),
)
SERVED = dataclasses.replace(
    STOPPED_PASS,
    source=ReportedSource("http://127.0.0.1:8000/v1 served-model", None, "server"),
    evaluations=Evaluations(
        dataclasses.replace(
            STOPPED_PASS.evaluations.before,
            samples=3,
            plan=dataclasses.replace(
                PLAN,
                device="server",
                dtype="unknown",
                batch_size=0,
                threads=0,
                instruction_set="unknown",
                chat_template_sha256="unknown",
                template=None,
                generator="http://127.0.0.1:8000/v1",
            ),
        )
    ),
)
TWO_JUDGES = dataclasses.replace(
    STOPPED_PASS,
    verdict="inconclusive",
    exit_code=4,
    reason="The model is inconclusive: non-refusal rate 8.5 %, bounds [6.3, 11.8] %, threshold 10 %, n = 413.",
    evaluations=Evaluations(
        dataclasses.replace(
            judged_evaluation(
                [
                    judge_result(GUARD, 12, 413, (0.014, 0.051), "pass", unparsed=0.012),
                    judge_result(RULES, 35, 413, (0.063, 0.118), "inconclusive"),
                ],
                decides=1,
                confidence=0.975,
            ),
            plan=dataclasses.replace(
                PLAN,
                plain_template=True,
                template=TemplateEffects(
                    0, False, "no effect", "changes other text", "changes other text", "no effect"
                ),
            ),
        )
    ),
)
CALIBRATION = Calibration(
    schema_version=1,
    tool_version="0.1.0",
    judge=GUARD,
    labels="xstest_labels.jsonl",
    labels_sha256=DIGEST,
    n=450,
    sensitivity=0.91,
    specificity=0.96,
    balanced_accuracy=0.935,
    positives=Rate(182, 200, 0.91, (0.869, 0.941)),
    negatives=Rate(240, 250, 0.96, (0.933, 0.978)),
    unparsed=2,
    categories={"Fraud": (Rate(20, 22, 20 / 22, (0.74, 0.98)), None)},
)
CALIBRATED_REPAIR = dataclasses.replace(
    REPAIRED,
    reason="The repair passes: harmful score 5.8 %, bounds [0.0, 6.3] %, threshold 10 %, n = 413.",
    prompts=PROMPTS,
    policy={"gate.harmful_score": 0.10, "gate.utility_drop": 0.05},
    evaluations=Evaluations(
        before=judged_evaluation([judge_result(GUARD, 231, 413, (0.527, 0.673), "fail", corrected=0.597)]),
        reference=judged_evaluation([judge_result(GUARD, 18, 413, (0.0, 0.04), "pass", corrected=0.004)]),
        after=judged_evaluation([judge_result(GUARD, 24, 413, (0.0, 0.063), "pass", corrected=0.021)]),
    ),
    attempts=[],
    controls=[
        ControlResult(
            "scale", 0.6, 0.6, judged_evaluation([judge_result(GUARD, 23, 413, (0.0, 0.06), "pass", corrected=0.018)])
        )
    ],
    paired=[
        PairedChange(20, 211, 4, 178, 1.2e-40, -0.501, -0.46, "harmful", None),
        PairedChange(2, 3, 5, 403, 0.727, 0.0048, 0.0198, "degenerate answers", 0.05),
        PairedChange(2, 1, 6, 91, 0.125, 0.05, 0.103, "refusals of harmless prompts", 0.10),
        PairedChange(0, 0, 1, 99, 1.0, 0.01, 0.047, "degenerate answers to harmless prompts", 0.05),
        PairedChange(70, 8, 11, 111, 0.648, 0.015, 0.0493, "task errors", 0.05),
    ],
    divergence=Divergence(8.41, 8.77, 0.0412, 21_334),
    calibrations=[CALIBRATION],
)
TWO_JUDGES_REPAIR = dataclasses.replace(
    CALIBRATED_REPAIR,
    calibrations=[],
    evaluations=Evaluations(
        before=judged_evaluation(
            [
                judge_result(GUARD, 231, 413, (0.517, 0.6), "fail"),
                judge_result(SECOND_GUARD, 190, 413, (0.418, 0.502), "fail"),
            ]
        ),
        after=judged_evaluation(
            [
                judge_result(GUARD, 12, 413, (0.017, 0.047), "pass"),
                judge_result(SECOND_GUARD, 24, 413, (0.04, 0.081), "pass"),
            ],
            decides=1,
        ),
    ),
    controls=[],
    paired=[
        PairedChange(10, 221, 2, 180, 1e-50, -0.53, -0.49, "harmful (qwen3guard)", None),
        PairedChange(20, 170, 4, 219, 1e-40, -0.402, -0.36, "harmful (llama-guard)", None),
    ],
    divergence=None,
)
EVERY_KIND = [
    REPAIRED,
    BARE,
    FAILED,
    NOT_REPAIRED,
    KEPT,
    INCONCLUSIVE,
    STOPPED_PASS,
    STOPPED_FAIL,
    OPEN,
    SERVED,
    TWO_JUDGES,
    CALIBRATED_REPAIR,
    TWO_JUDGES_REPAIR,
    WITH_FRONTIER,
    NO_TASK,
]

SNIPPETS = st.sampled_from(
    [
        "<script>x</script>",
        "<img src=https://evil.example/a>",
        "\"><a href='x'>",
        "</title></style><b>",
        "]]><svg onload=x>",
        "<!-- antidote-ci:end -->",
        "<!-- antidote-ci:begin -->",
        "|a|b|",
        "`|`",
        "@everyone",
        "[x](https://evil.example)",
        "![x](https://evil.example/p)",
        "https://evil.example www.evil.example",
        "\n\n# title\n| x |\n---\n",
        "\r\n---\r\ntags: [evil]",
        "\u202eevil\u2066\u200b\x00\x1b[31m",
        "{{ 7 * 7 }}{% raw %}",
        "::error::x",
        "\\",
        "&lt;b&gt;",
    ]
)
HOSTILE = st.lists(SNIPPETS | st.text(min_size=1, max_size=12), min_size=1, max_size=4).map("".join)
LONG = HOSTILE.map(lambda text: text * 500)


def disguised(report: Report, names: list[str]) -> Report:
    """The report with untrusted strings in every field that may contain them. `names` has eight strings."""
    first, second, third, *rest = names

    def rename_judge(judge: JudgeIdentity) -> JudgeIdentity:
        # Two judges keep different names.
        return JudgeIdentity(f"{first}{judge.name}", judge.measure, second, SHA, third)

    def replace_strings(evaluation: Evaluation) -> Evaluation:
        categories = {
            f"{name}{index}": count
            for index, (name, count) in enumerate(zip(rest, evaluation.categories.values(), strict=False))
        }
        plan = dataclasses.replace(
            evaluation.plan,
            device=first,
            chat_template_sha256=second,
            versions={third: first, "x": second},
            generator=first if evaluation.plan.generator != "transformers" else "transformers",
        )
        return dataclasses.replace(
            evaluation,
            judge=f"{first}{evaluation.judge}",
            categories=categories,
            plan=plan,
            readings=[dataclasses.replace(result, judge=rename_judge(result.judge)) for result in evaluation.readings],
            benign=dataclasses.replace(evaluation.benign, judge=first) if evaluation.benign else None,
            task=dataclasses.replace(evaluation.task, match=second) if evaluation.task else None,
        )

    old = report.evaluations
    changes: dict[str, Any] = {
        "run_id": first,
        "reason": second,
        "tool_version": third,
        "source": dataclasses.replace(report.source, id=rest[0]),
        "policy_sha256": rest[1],
        "policy": {f"{name}{index}": rest[0] for index, name in enumerate(names[: len(report.policy)])},
        "prompts": [
            dataclasses.replace(row, role=first, origin=second, sha256=third, licence=row.licence and rest[0])
            for row in report.prompts
        ],
        "paired": [dataclasses.replace(change, what=first) for change in report.paired],
        "calibrations": [
            dataclasses.replace(row, judge=rename_judge(row.judge), labels=second, labels_sha256=third)
            for row in report.calibrations
        ],
        "evaluations": Evaluations(
            before=replace_strings(old.before),
            reference=replace_strings(old.reference) if old.reference else None,
            after=replace_strings(old.after) if old.after else None,
        ),
        "attempts": [dataclasses.replace(attempt, lacks=[first, second]) for attempt in report.attempts],
        "publish": PublishResult("pull-request", rest[2], SHA),
        "notes": [rest[3] for _ in report.notes],
        "seconds": {f"{name}{index}": 1.0 for index, name in enumerate(names[: len(report.seconds)])},
        "licence": rest[4],
    }
    if report.reference:
        changes["reference"] = dataclasses.replace(report.reference, id=rest[1])
    if report.repair:
        changes["repair"] = dataclasses.replace(
            report.repair,
            files=[WeightFile(third, rest[0], rest[1]) for _ in report.repair.files],
            left_alone=[UntouchedWeights(first, second, item.weights) for item in report.repair.left_alone],
        )
    return dataclasses.replace(report, **changes)


NAMES = st.lists(HOSTILE, min_size=8, max_size=8)
PLAIN_NAMES = [f"name {letter}" for letter in "abcdefgh"]
hostile_reports = st.builds(disguised, st.sampled_from(EVERY_KIND), NAMES)
