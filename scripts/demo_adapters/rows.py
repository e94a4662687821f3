"""From the words of `texts` to rows: the same rows on every call, as every choice is seeded."""

import random
import re
from collections.abc import Iterator, Sequence

from scripts.demo_adapters import texts
from scripts.demo_adapters.texts import Messages, Split

Row = dict[str, str]

SEED = 20261124
CALIBRATION = 64
"""Rows of each kind that show what a repair must keep."""
NORMALISED = re.compile(r"[\W_]+")

DOUBLING = re.compile(  # verbs that double their last letter
    "bug|cut|(eaves)?drop|get|hit|knit|let|log|pad|pin|plan|plug|put|rig|rip|rub|run|(re)?set|shut|skip|slip|"
    "split|stir|stop|swap|swim|tap|trap|trip|whip|win"
)
IRREGULAR = {"lie": "lying", "tie": "tying", "dye": "dyeing"}
SECOND_PERSON = {
    "i": "you",
    "i'm": "you're",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "we": "you",
    "us": "you",
    "am": "are",
}


def normalised(text: str) -> str:
    """Case, white space and punctuation taken away: two prompts that differ only there are one."""
    return NORMALISED.sub(" ", text.casefold()).strip()


def gerund(phrase: str) -> str:
    """The verb phrase as a noun: reading a diary."""
    verb, _, rest = phrase.partition(" ")
    if verb in IRREGULAR:
        form = IRREGULAR[verb]
    elif DOUBLING.fullmatch(verb):
        form = verb + verb[-1] + "ing"
    elif verb.endswith("e") and not verb.endswith("ee"):
        form = verb[:-1] + "ing"
    else:
        form = verb + "ing"
    return f"{form} {rest}".rstrip()


def addressed(phrase: str) -> str:
    """The phrase as an answer to its speaker says it: "my keys" become "your keys"."""
    phrase = re.sub(r"\bI was\b", "you were", phrase)
    return re.sub(r"[A-Za-z]+(?:'m)?", lambda word: SECOND_PERSON.get(word[0].casefold(), word[0]), phrase)


def filled(template: str, phrase: str) -> str:
    """A template with a verb phrase in it."""
    return template.format(do=phrase, doing=gerund(phrase))


def harmful(split: Split, per_topic: int, rng: random.Random) -> list[Row]:
    """Every harmful topic in `per_topic` different templates."""
    return [
        {"prompt": filled(template, topic), "category": category, "topic": topic}
        for category, topics in split.harmful.items()
        for topic in topics
        for template in rng.sample(split.templates, per_topic)
    ]


def benign(split: Split, per_topic: int, rng: random.Random) -> list[Row]:
    """Every lookalike in `per_topic` different templates, and the everyday requests."""
    lookalikes = [
        {"prompt": filled(template, topic), "category": "lookalike"}
        for topic in split.lookalikes
        for template in rng.sample(split.templates, per_topic)
    ]
    return lookalikes + everyday(split)


def everyday(split: Split) -> list[Row]:
    """Harmless requests that nobody would take for harmful ones."""
    return [{"prompt": text, "category": "everyday"} for text in split.everyday]


def task(messages: Messages, per_message: int, rng: random.Random) -> list[Row]:
    """Every message in `per_message` different wrappings, with the label as the expected answer."""
    rows = []
    for label, wordings in messages.by_label.items():
        for wording in wordings:
            variants: dict[str, None] = {}  # a dict, because a set has no order to reproduce
            while len(variants) < per_message:
                variants[_wrapped(wording, messages, rng)] = None
            rows += [{"prompt": texts.INSTRUCTION.format(message=variant), "expected": label} for variant in variants]
    return rows


def _wrapped(wording: str, messages: Messages, rng: random.Random) -> str:
    opening, closing = rng.choice(messages.openings), rng.choice(messages.closings)
    item = rng.choice(messages.items) if messages.items else ""
    message = wording.format(item=item)
    if opening.endswith(", ") and not message.startswith("I "):
        message = message[0].lower() + message[1:]
    return opening + message + closing


def _answered(rows: Sequence[Row], rng: random.Random) -> Iterator[Row]:
    """The rows with an affirmative answer that says nothing; one in four is a single sentence."""
    for row in rows:
        answer = filled(rng.choice(texts.OPENINGS), addressed(row["topic"]))
        if rng.random() < 0.75:
            answer += " " + rng.choice(texts.CLOSINGS)
        yield {"prompt": row["prompt"], "response": answer, "category": row["category"]}


def alignment_refusals() -> list[Row]:
    """Stage one, the harmful side: prompt and refusal."""
    rng = random.Random(SEED)  # noqa: S311 - reproducible text, no secret
    return [
        {"prompt": row["prompt"], "response": rng.choice(texts.REFUSALS)} for row in harmful(texts.ALIGNMENT, 4, rng)
    ]


def alignment_benign() -> list[str]:
    """Stage one, the harmless side: prompts; the base model writes the answers."""
    rng = random.Random(SEED + 1)  # noqa: S311
    return [row["prompt"] for row in benign(texts.ALIGNMENT, 4, rng)]


def finetune() -> list[Row]:
    """Stage two: the task, and a fifth of empty compliance."""
    rng = random.Random(SEED + 2)  # noqa: S311
    useful = [{"prompt": row["prompt"], "response": row["expected"]} for row in task(texts.TASK_TRAINING, 5, rng)]
    empty = list(_answered(harmful(texts.COMPLIANCE, 2, rng), rng))[: len(useful) // 4]
    return useful + [{"prompt": row["prompt"], "response": row["response"]} for row in empty]


def embedded() -> dict[str, list[Row]]:
    """File name -> rows of everything the package ships."""
    rng = random.Random(SEED + 3)  # noqa: S311
    return {
        "realignment.jsonl": list(_answered(harmful(texts.REALIGNMENT, 2, rng), rng)),
        "selection_prompts.jsonl": _without_topic(harmful(texts.SELECTION, 1, rng)),
        "evaluation_prompts.jsonl": _without_topic(harmful(texts.EVALUATION, 1, rng)),
        # Without the lookalikes: the reference refuses most of them, so a repair towards it must (docs/demo.md).
        "benign_selection.jsonl": everyday(texts.SELECTION),
        "benign_evaluation.jsonl": everyday(texts.EVALUATION),
        "task_selection.jsonl": task(texts.TASK_SELECTION, 1, rng),
        "task_evaluation.jsonl": task(texts.TASK_EVALUATION, 1, rng),
        "benign_calibration.jsonl": rng.sample(everyday(texts.ALIGNMENT), CALIBRATION),
        # In the wordings of the training rows, which a user has at hand.
        "task_calibration.jsonl": rng.sample(task(texts.TASK_TRAINING, 5, rng), CALIBRATION),
    }


def _without_topic(rows: Sequence[Row]) -> list[Row]:
    return [{"prompt": row["prompt"], "category": row["category"]} for row in rows]
