"""How things stand, in words that the live frame and the plain lines share."""

from __future__ import annotations

from ar.campaign.progress import Running, Snapshot
from ar.text import clock, counted, one_line, shorten_middle, span


def objective_name(snapshot: Snapshot) -> str:
    """The metric's name, before a level of it."""
    return f"{shorten_middle(one_line(snapshot.metric.key), 24)} " if snapshot.metric else ""


def run_clock(run: Running) -> str:
    """How long a run is under way, and how long it will be."""
    return clock(run.elapsed) if run.expected is None else f"{clock(run.elapsed)} / {clock(run.expected)}"


def spent(snapshot: Snapshot, roomy: bool = True) -> str:
    """How far it is, and how long it will yet take."""
    runs = f"{snapshot.spent}/{snapshot.budget} runs" if snapshot.budget else counted(snapshot.spent, "run")
    parts = [f"{snapshot.tried}/{snapshot.wanted} changes"] if snapshot.wanted else []
    parts += [runs] if roomy or not parts else []
    parts += [] if snapshot.left is None else [f"about {span(snapshot.left)} left"]
    return ", ".join(parts)
