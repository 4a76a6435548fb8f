"""Lines of a message that say something by themselves."""

from __future__ import annotations

import pytest

from ar.agents import memory
from ar.history import message_lines


def test_what_lines_say_is_taken_out() -> None:
    said = message_lines.read(
        "Wider\n\nIt helps.\n**Expected:** -0.1\n- Insist: once more\nSimplification: Yes, it is\nNote: rest"
    )
    assert said.text == "Wider\n\nIt helps.\nNote: rest"
    assert (said.expected, said.insist, said.simplification) == ("-0.1", "once more", True)


@pytest.mark.parametrize(
    "part",
    ["title:" + " " * 200_000 + "x", "Expected" + " " * 200_000 + "x", "_* " * 60_000, "\n" * 200_000 + "x",
     "combine:" + "_" * 200_000, "Source: " + "a," * 100_000 + "!", "note: (cites" + " (cites" * 30_000],
)  # fmt: skip
def test_no_line_takes_for_ever(part: str) -> None:
    for read in (message_lines.read, memory.combined, memory.revisited):
        read(f"{part}\n{part}")
    assert len(list(memory.notes_of(part))) <= 1
