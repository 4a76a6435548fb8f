"""What an agent is told of its role in a swarm, at the very end: all before it is shared with the others."""

from __future__ import annotations

from ar.project.program import AgentRole

_TASKS = {
    AgentRole.SCOUT: (
        "bring what nobody has tried here: a mechanism that no line of the history names, from the code, the"
        " literature, or where no run has been. Leave variations of what was tried to others. Most new"
        " ideas fail; say what the failure of yours would teach."
    ),
    AgentRole.REFINER: (
        "make something of what nearly worked. Begin with the near misses and the best effects: open them,"
        " find what kept them from winning, and take one up again (`revisit`) or propose the one adjustment"
        " that may settle it. Leave wholly new ideas to others."
    ),
    AgentRole.SKEPTIC: (
        "doubt what is taken for granted. Propose to make the branch simpler at equal quality, and declare"
        " that as a simplification; to take out a promoted change that may have been luck, or that later ones"
        " made needless; or the experiment that would refute a lesson of the notebook. Note what it shows."
    ),
    AgentRole.SYNTHESIST: (
        "put together what others found. Join changes that touch different things and may add up (`combine`),"
        " bring several results back to one mechanism and test that, and settle lessons of the notebook that"
        " overlap or contradict each other. Leave wholly new ideas to others."
    ),
}


def told(role: AgentRole | None) -> str:
    """The paragraph for a role; empty for none."""
    return f"Your role is {role}: {_TASKS[role]}" if role else ""
