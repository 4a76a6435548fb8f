"""The table has every attack, each once, and none that got through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import table

TESTS = Path(__file__).parents[1]


def test_each_attack_has_one_line_and_is_held() -> None:
    assert len(table.ROWS) == len(table.VERDICTS)
    assert set(table.VERDICTS.values()) == {"contained", "refused"}


@pytest.mark.parametrize("name", [name for name in table.VERDICTS if "::" in name])
def test_an_attack_that_stands_elsewhere_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    function, _, case = test.partition("[")
    text = (TESTS / file).read_text()
    assert re.search(rf"^def {function}\(", text, re.MULTILINE)
    assert case.removesuffix("]") in text
