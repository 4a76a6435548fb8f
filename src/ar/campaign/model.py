"""The campaign's model: what all runs together say of the searched parameters, fitted once a history."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ar.history import reader
from ar.history.ideas import Idea
from ar.history.records import Attempt, History
from ar.project.program import EMBEDDED
from ar.project.project import Project

if TYPE_CHECKING:
    from ar.surrogate.importance import Importance, Share
    from ar.surrogate.surface import Surface


class Model:
    """Of one project; it holds the last history's surface only. The fitting code takes its time to load, and
    is loaded when it is first asked for."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.program = project.program
        self._fitted: tuple[History, Surface | None] | None = None

    @cached_property
    def is_searched(self) -> bool:
        """Whether the model has parameters to go by, and seeds that make runs comparable."""
        program = self.program
        return program.seed is not None and bool(program.searched(reader.baseline_params(self.project)))

    def chooses(self, idea: Idea) -> bool:
        """Whether the model says if a change goes on: one that an agent proposes, and that claims no more
        than to be better. What users, stacks and simplifications try is judged at once."""
        if not self.is_searched or idea.stack or idea.simplification:
            return False
        return idea.agent in (*EMBEDDED, *(spec.name for spec in self.program.agents))

    def surface(self, history: History) -> Surface | None:
        """Value over parameters; None while too little is measured, or where nothing is searched."""
        params = reader.baseline_params(self.project)
        if not self.program.searched(params) or not any(item.own and item.value for item in history.attempts):
            return None
        from ar.surrogate.points import surface_of

        known = self._fitted
        if known is None or known[0] is not history:
            last = known[1].weights if known and known[1] else None
            known = self._fitted = history, surface_of(self.program, history, params, last)
        return known[1]

    def importances(self, history: History) -> tuple[Importance, ...]:
        """How much each searched parameter matters; none where there is no surface."""
        surface = self.surface(history)
        if surface is None:
            return ()
        from ar.surrogate.importance import importances

        return importances(surface)

    def shares(self, history: History, attempt: Attempt) -> tuple[Share, ...]:
        """What a joint move that was judged good gains by each of its parts; none of other changes."""
        if not attempt.is_judged_good or attempt.stack or attempt.rung:
            return ()
        surface = self.surface(history)
        if surface is None:
            return ()
        from ar.surrogate.importance import shares

        return shares(surface, self.program, history, attempt)
