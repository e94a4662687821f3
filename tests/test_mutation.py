"""The table of `make mutation`."""

from scripts.mutation import table

RESULTS = """
    antidote_ci.pipeline.dose_search.x_smallest_passing__mutmut_5: timeout
    antidote_ci.pipeline.dose_search.x_smallest_passing__mutmut_6: killed
    antidote_ci.repair.masks.x__taken__mutmut_1: survived
    antidote_ci.repair.masks.x__taken__mutmut_2: not checked
    antidote_ci.repair.masks.x__taken__mutmut_3: killed
    antidote_ci.checkpoint.journal.xǁJournalǁclose__mutmut_1: segfault
another line
"""


def test_table_counts_killed_mutants_by_module() -> None:
    assert table(RESULTS.splitlines()) == (
        "| module | mutants | killed | share |\n"
        "|---|--:|--:|--:|\n"
        "| `antidote_ci.checkpoint.journal` | 1 | 1 | 100 % |\n"
        "| `antidote_ci.pipeline.dose_search` | 2 | 2 | 100 % |\n"
        "| `antidote_ci.repair.masks` | 3 | 1 | 33 % |\n"
        "| all | 6 | 4 | 67 % |\n"
    )
