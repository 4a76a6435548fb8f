"""What each outcome looks like: in tables, in sentences and in charts. A test holds it complete."""

from __future__ import annotations

from dataclasses import dataclass

from ar.history.records import Outcome

# Okabe and Ito's palette: its colours are told apart by colour-blind readers too.
BLUE, SKY, ORANGE, RED, GREEN, PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7"
GREY, DARK = "#A3A3A3", "#4D4D4D"


@dataclass(frozen=True)
class Dot:
    """How a chart draws an attempt: the legend's words, colour and shape. Outcomes may share one.

    Args:
        counts: whether a measured value says anything; where not, the dot lies at the worse edge.
    """

    words: str
    colour: str
    shape: str
    counts: bool = True


@dataclass(frozen=True)
class Mark:
    """How an outcome is shown.

    Args:
        sign, style: of its row in tables and in the live view; the style is Rich's.
        dot: in charts.
        counted: the summary line's word; empty for what nobody tried.
        told: the report's heading for attempts that did not hold; empty for those that did.
    """

    sign: str
    style: str
    dot: Dot
    counted: str = ""
    told: str = ""


PROMOTED = Dot("promoted", BLUE, "circle")
BASELINE = Dot("baseline", DARK, "square")
BETTER = Dot("judged better, not merged", SKY, "square")
IN_A_STACK = Dot("won as part of a stack", SKY, "circle")
REVERTED = Dot("promoted, then reverted", PURPLE, "diamond")
UNDECIDED = Dot("not decided", ORANGE, "diamond")
DISCARDED = Dot("discarded", GREY, "circle")
SUPERSEDED = Dot("superseded", GREY, "diamond")
CRASHED = Dot("crashed", RED, "cross", counts=False)
DIVERGED = Dot("diverged", ORANGE, "cross", counts=False)
TAMPERED = Dot("tampered", RED, "triangle-right", counts=False)
PULLED = Dot("from a remote", PURPLE, "square")
IMPORTED = Dot("imported", SKY, "diamond")
FOREIGN = Dot("run by dvc exp", PURPLE, "circle")

# In the order of the legends and of the summary line.
MARKS = {
    Outcome.PROMOTED: Mark("✓", "bold green", PROMOTED, "promoted"),
    Outcome.BASELINE: Mark("◆", "cyan", BASELINE),
    Outcome.WINNER: Mark("✓", "green", BETTER, "winning", "Judged better, not merged"),
    Outcome.HOLDS: Mark("✓", "green", BETTER, "holding"),
    Outcome.STACKED: Mark("✓", "dim green", IN_A_STACK, "stacked"),
    Outcome.LAPSED: Mark("·", "yellow", BETTER, "lapsed", "Judged better, but does not stack"),
    Outcome.SUPERSEDED: Mark("·", "dim", SUPERSEDED, "superseded", "Not decided when the branch moved on"),
    Outcome.REVERTED: Mark("·", "dim", REVERTED, "reverted", "Promoted, then reverted"),
    Outcome.DISCARDED: Mark("·", "dim", DISCARDED, "discarded", "No better beyond noise"),
    Outcome.CRASHED: Mark("✗", "red", CRASHED, "crashed", "Crashed"),
    Outcome.DIVERGED: Mark("✗", "yellow", DIVERGED, "diverged", "Diverged: its metric was no finite number"),
    Outcome.TIMED_OUT: Mark("✗", "red", CRASHED, "crashed", "Timed out"),
    Outcome.TAMPERED: Mark("✗", "bold red", TAMPERED, "tampered", "Tampered"),
    Outcome.CANCELLED: Mark("-", "dim", DISCARDED, "cancelled", "Cancelled"),
    Outcome.PULLED: Mark("·", "dim", PULLED),
    Outcome.IMPORTED: Mark("·", "dim", IMPORTED),
    Outcome.FOREIGN: Mark("·", "dim", FOREIGN),
    Outcome.OPEN: Mark("?", "yellow", UNDECIDED, "open", "Still open"),
    Outcome.RUNNING: Mark("▸", "yellow", UNDECIDED, "open", "Still open"),
    Outcome.QUEUED: Mark("○", "dim", UNDECIDED, "open", "Still open"),
}

DOTS = list(dict.fromkeys(mark.dot for mark in MARKS.values()))
