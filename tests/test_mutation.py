"""The table that `make mutation` prints."""

from scripts.mutation import table

LISTED = """
    antidote_ci.pipeline.dose_search.x_smallest_passing__mutmut_5: timeout
    antidote_ci.pipeline.dose_search.x_smallest_passing__mutmut_6: killed
    antidote_ci.repair.masks.x__taken__mutmut_1: survived
    antidote_ci.repair.masks.x__taken__mutmut_2: not checked
    antidote_ci.repair.masks.x__taken__mutmut_3: killed
    antidote_ci.checkpoint.journal.xǁJournalǁclose__mutmut_1: segfault
what else it says
"""


def test_a_line_a_module_and_what_no_test_saw_is_not_counted_as_seen() -> None:
    assert table(LISTED.splitlines()) == (
        "| module | changes | seen | share |\n"
        "|---|--:|--:|--:|\n"
        "| `antidote_ci.checkpoint.journal` | 1 | 1 | 100 % |\n"
        "| `antidote_ci.pipeline.dose_search` | 2 | 2 | 100 % |\n"
        "| `antidote_ci.repair.masks` | 3 | 1 | 33 % |\n"
        "| all | 6 | 4 | 67 % |\n"
    )
