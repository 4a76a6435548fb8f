"""Who proposes the next experiment: one protocol, several agents."""

from __future__ import annotations

from ar.agents.base import Agent, Briefing, Channel, Dropped
from ar.agents.registry import is_instant, make
from ar.history.ideas import Edit, Proposal

__all__ = ["Agent", "Briefing", "Channel", "Dropped", "Edit", "Proposal", "is_instant", "make"]
