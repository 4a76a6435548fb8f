"""Who proposes the next experiment: one protocol, several agents."""

from __future__ import annotations

from ar.agents.base import Agent, Briefing, Dropped, Line
from ar.agents.registry import is_instant, make

__all__ = ["Agent", "Briefing", "Dropped", "Line", "is_instant", "make"]
