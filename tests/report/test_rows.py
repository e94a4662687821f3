"""The rows of the tables, where they are not those of a page."""

from dataclasses import replace

import pytest

from antidote_ci.records import LayerChange
from antidote_ci.report import rows
from tests.report.samples import REPAIR


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ([30, 32], "in 2 of 2 layers, from 3 % to 3.2 % of the scored weights of each"),
        ([30, 0], "in 1 of 2 layers, from 0 % to 3 % of the scored weights of each"),
        ([30, 30], "in 2 of 2 layers, 3 % of the scored weights of each"),
    ],
)
def test_where_weights_changed(changed: list[int], said: str) -> None:
    layers = [LayerChange(f"model.layers.{at}", count, 1_000) for at, count in enumerate(changed)]
    assert dict(rows.change_rows(replace(REPAIR, layers=layers)))["Where"] == said
    assert "Where" not in dict(rows.change_rows(replace(REPAIR, layers=[])))
