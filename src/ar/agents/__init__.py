"""Who proposes the next experiment: one protocol, several agents.

Packages that offer an agent of their own import from here.
"""

from __future__ import annotations

from ar.agents.base import Agent, Briefing, Channel, Dropped
from ar.agents.registry import is_instant, make
from ar.errors import AgentFailed
from ar.history.ideas import Edit, Proposal

__all__ = [
    "Agent",
    "AgentFailed",
    "Briefing",
    "Channel",
    "Dropped",
    "Edit",
    "Proposal",
    "is_instant",
    "make",
]
