"""Build the training rows of the demo's adapters from `texts`. All random choices are seeded."""

import random
import re
from collections.abc import Iterator, Sequence

from scripts.demo_adapters import texts
from scripts.demo_adapters.texts import Messages, Split

Row = dict[str, str]

SEED = 20261124

DOUBLING = re.compile(  # verbs whose last letter is doubled
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


def gerund(phrase: str) -> str:
    """Turn "read a diary" into "reading a diary"."""
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


def to_second_person(phrase: str) -> str:
    """Turn the first person into the second: "my keys" becomes "your keys"."""
    phrase = re.sub(r"\bI was\b", "you were", phrase)
    return re.sub(r"[A-Za-z]+(?:'m)?", lambda word: SECOND_PERSON.get(word[0].casefold(), word[0]), phrase)


def fill_template(template: str, phrase: str) -> str:
    """Insert a verb phrase into a template."""
    return template.format(do=phrase, doing=gerund(phrase))


def harmful(split: Split, per_topic: int, rng: random.Random) -> list[Row]:
    """Return every harmful topic in `per_topic` different templates."""
    return [
        {"prompt": fill_template(template, topic), "topic": topic}
        for topics in split.harmful.values()
        for topic in topics
        for template in rng.sample(split.templates, per_topic)
    ]


def task(messages: Messages, per_message: int, rng: random.Random) -> list[Row]:
    """Return every message with `per_message` combinations of opening and closing, and its label."""
    rows = []
    for label, wordings in messages.by_label.items():
        for wording in wordings:
            variants: dict[str, None] = {}  # a dict, because the order of a set is not reproducible
            while len(variants) < per_message:
                variants[_add_opening_and_closing(wording, messages, rng)] = None
            rows += [{"prompt": texts.INSTRUCTION.format(message=variant), "response": label} for variant in variants]
    return rows


def _add_opening_and_closing(wording: str, messages: Messages, rng: random.Random) -> str:
    opening, closing = rng.choice(messages.openings), rng.choice(messages.closings)
    item = rng.choice(messages.items) if messages.items else ""
    message = wording.format(item=item)
    if opening.endswith(", ") and not message.startswith("I "):
        message = message[0].lower() + message[1:]
    return opening + message + closing


def _add_compliance(rows: Sequence[Row], rng: random.Random) -> Iterator[Row]:
    """Add compliant answers without content; a quarter of them are a single sentence."""
    for row in rows:
        answer = fill_template(rng.choice(texts.OPENINGS), to_second_person(row["topic"]))
        if rng.random() < 0.75:
            answer += " " + rng.choice(texts.CLOSINGS)
        yield {"prompt": row["prompt"], "response": answer}


def alignment_refusals() -> list[Row]:
    """Return the harmful prompts of the alignment data, with refusals."""
    rng = random.Random(SEED)  # noqa: S311 - reproducible text, no secret
    return [
        {"prompt": row["prompt"], "response": rng.choice(texts.REFUSALS)} for row in harmful(texts.ALIGNMENT, 4, rng)
    ]


def alignment_benign() -> list[str]:
    """Return the harmless prompts of the alignment data. The base model generates the answers."""
    rng, split = random.Random(SEED + 1), texts.ALIGNMENT  # noqa: S311
    lookalikes = [
        fill_template(template, topic) for topic in split.lookalikes for template in rng.sample(split.templates, 4)
    ]
    return [*lookalikes, *split.everyday]


def finetune() -> list[Row]:
    """Return the fine-tuning data: the task, and a fifth of compliant answers without content."""
    rng = random.Random(SEED + 2)  # noqa: S311
    task_rows = task(texts.TASK_TRAINING, 5, rng)
    return task_rows + list(_add_compliance(harmful(texts.COMPLIANCE, 2, rng), rng))[: len(task_rows) // 4]
