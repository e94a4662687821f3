"""Model cards for the tests: one of an owner, and strategies for valid and hostile cards."""

import yaml
from hypothesis import strategies as st

from antidote_ci.report import CardLocation
from antidote_ci.report.card import BEGIN, END
from tests.report.samples import HOSTILE

OWNER_CARD = """---
# chosen by hand
license:   apache-2.0   # see LICENSE
language: ["en", 'de']
base_model: owner/base
tags:
  - recipes
# who trained it
datasets: [owner/recipes]
model-index:
- name: recipes
  results:
  - task: {type: text-generation}
    dataset: {type: owner/recipes, name: Recipes}
    metrics:
    - {type: exact_match, value: 0.5}
extra: {é: "\\u00e9"}
---

# Recipes

Text | with `everything` --- kept.
"""

YAML_KEYS = st.sampled_from(["license", "language", "x", "tags", "model-index", "base_model"]) | st.text(max_size=6)
YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FRONT_MATTERS = st.builds(
    yaml.safe_dump,
    st.dictionaries(YAML_KEYS, YAML_VALUES, max_size=4),
    sort_keys=st.just(False),
    default_flow_style=st.sampled_from([None, True, False]),
    allow_unicode=st.booleans(),
) | st.sampled_from(
    ["", "a: [", "- 1\n", "x: 2024-99-99\n", "a: &a [1]\ntags: *a\n", "a: &a [*a]\ntags: *a\n", "!!int ''"]
)
BODIES = st.lists(
    HOSTILE
    | st.text(max_size=10)
    | st.sampled_from([BEGIN, END, "\n", "\r", "\r\n", "---", "---\n", "\ufeff", "| a |\n"]),
    max_size=6,
).map("".join)
CARDS = BODIES | st.builds(
    "{}---{}{}{}---{}{}".format,
    st.sampled_from(["", "\n", "\ufeff"]),
    st.sampled_from(["\n", "\r\n"]),
    FRONT_MATTERS,
    st.sampled_from(["", "\n"]),
    st.sampled_from(["", "\n", "\r\n"]),
    BODIES,
)

LOCATIONS = st.sampled_from(
    [
        CardLocation(),
        CardLocation("demo/smollm2-135m-recipes-lora"),
        CardLocation("demo/smollm2-135m-recipes-lora", branch="antidote-0123456789ab"),
        CardLocation("demo/clean", own=True),
        CardLocation("demo/clean", own=True, card="---\nlicense: mit\n---\n\n# Kept\n"),
    ]
)
CHANGED_KEYS = {"tags", "model-index", "base_model", "base_model_relation", "new_version"}
"""Keys whose values a run may change."""
RESULT = st.fixed_dictionaries(
    {
        "task": st.builds(dict, type=st.just("text-generation")),
        "dataset": st.fixed_dictionaries({"type": st.text(max_size=6), "name": st.text(max_size=6)}),
        "metrics": st.lists(
            st.fixed_dictionaries({"type": st.text(max_size=6), "value": st.floats() | st.text(max_size=4)}), max_size=2
        ),
    }
)
INDEX = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=6), "results": st.lists(RESULT, max_size=2)}), max_size=2
)
VALID_METADATA = st.fixed_dictionaries(
    {},
    optional={
        "license": st.sampled_from(["mit", "other"]),
        "license_name": st.text(max_size=6),
        "language": st.lists(st.sampled_from(["en", "de", "no"]), max_size=2),
        "base_model": st.sampled_from(["owner/base", ["owner/base"], ["a/b", "c/d"]]),
        "base_model_relation": st.sampled_from(["adapter", "merge", "quantized", "finetune"]),
        "datasets": st.lists(st.sampled_from(["owner/set"]), max_size=1),
        "tags": st.lists(st.text(max_size=6), max_size=3) | st.text(max_size=6),
        "model-index": INDEX,
        "new_version": st.just("owner/newer"),
        "extra_gated_prompt": st.text(max_size=8),
        "widget": st.lists(YAML_VALUES, max_size=2),
        "thing": YAML_VALUES,
    },
)
"""Metadata that the Hub accepts."""


@st.composite
def valid_cards(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """A valid card, and the exact characters of each of its keys."""
    metadata = draw(VALID_METADATA)
    keys = draw(st.permutations(list(metadata)))
    chunks = {key: yaml.safe_dump({key: metadata[key]}, allow_unicode=draw(st.booleans())) for key in keys}
    comments = st.sampled_from(["", "# a comment\n", "\n"])
    text = "".join(draw(comments) + chunk for chunk in chunks.values())
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    head = f"---\n{text}---\n".replace("\n", newline) if keys else ""
    return head + draw(BODIES.filter(lambda body: not body.lstrip("\ufeff").lstrip().startswith("---"))), {
        key: chunk.rstrip("\n").replace("\n", newline) for key, chunk in chunks.items()
    }
