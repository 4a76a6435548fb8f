"""Whether changes that won alone add up where they are joined in a stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ar.history.attempts import find
from ar.history.records import Attempt, History
from ar.judge.arithmetic import half_width
from ar.judge.contrast import Comparison, best_seeds, compare, contrast, own_residual
from ar.judge.evidence import Run
from ar.judge.ledger import candidate, ledger
from ar.judge.noise import Noise, noise_of
from ar.project.program import Program
from ar.record import Record


@dataclass(frozen=True)
class Member(Record):
    """One winner in a stack; effects in the metric's own direction and unit.

    Args:
        effect, standard_error: of the change alone, against its own baseline.
        share, share_error: what the stack gains by it, from the stack with and without it; None where that
            was not measured.
    """

    name: str
    title: str
    effect: float
    standard_error: float
    share: float | None = None
    share_error: float | None = None


@dataclass(frozen=True)
class Additivity(Record):
    """Whether changes add up, in the metric's own direction and unit.

    All numbers are from confirming runs: those of a screening run were selected for being good.

    Args:
        name: of the stack's attempt.
        sum, sum_error: of the single effects.
        joint, joint_error: effect of the stack against its baseline.
        interaction, interaction_error: joint effect minus sum, its error from the runs that they share.
        interval: of the interaction, 95 %.
    """

    name: str
    members: tuple[Member, ...]
    sum: float
    sum_error: float
    joint: float
    joint_error: float
    interaction: float
    interaction_error: float
    interval: tuple[float, ...]


def additivity(program: Program, history: History, stack: Attempt) -> Additivity | None:
    """How a measured stack compares with the sum of its members.

    None where a side has no run, and for what is no stack of several.

    Raises:
        NotFound: a member is not in this repository.
    """
    if len(stack.stack) < 2:
        return None
    noise = noise_of(ledger(program, history))
    joint = [(1.0, _fair(program, stack)), (-1.0, _incumbent(program, history, stack.baseline))]
    singles = []
    for name in stack.stack:
        attempt, _ = find(history, name)
        base = _incumbent(program, history, attempt.baseline)
        singles.append((attempt, [(1.0, _fair(program, attempt)), (-1.0, base)]))
    alone = [side for _, sides in singles for side in sides]
    everything = [*joint, *((-weight, runs) for weight, runs in alone)]
    if not all(runs for _, runs in everything):
        return None
    orient = program.objective.orient
    seeds = best_seeds(everything, noise)  # one form for all, so that the sum is that of the lines above it
    members = []
    for attempt, sides in singles:
        single, share = contrast(sides, noise, seeds), _share(program, history, stack, attempt.name, noise)
        members.append(
            Member(
                name=attempt.name,
                title=attempt.title,
                effect=orient(single.effect),
                standard_error=single.error,
                share=None if share is None else orient(share.effect),
                share_error=None if share is None else share.error,
            )
        )
    total, together, gap = (contrast(sides, noise, seeds) for sides in (alone, joint, everything))
    interaction, half = orient(gap.effect), half_width(gap.error, gap.df) if gap.df else math.inf
    return Additivity(
        name=stack.name,
        members=tuple(members),
        sum=orient(total.effect),
        sum_error=total.error,
        joint=orient(together.effect),
        joint_error=together.error,
        interaction=interaction,
        interaction_error=gap.error,
        interval=(interaction - half, interaction + half),
    )


def own_runs(program: Program, attempt: Attempt) -> list[Run]:
    """Runs that count, without those made of its tree as a baseline."""
    return [run for run in candidate(program, attempt).runs if run.measured]


def share(whole: Sequence[Run], rest: Sequence[Run], noise: Noise) -> Comparison:
    """What a stack gains by one member, below 0 where it does: the stack's runs against those of the rest."""
    return compare(whole, rest, noise, own_residual(whole, rest))


def _share(program: Program, history: History, stack: Attempt, name: str, noise: Noise) -> Comparison | None:
    """What a stack gains by one member; None where the stack without it was not measured."""
    rest = tuple(member for member in stack.stack if member != name)
    for item in history.attempts:
        alone = len(rest) == 1 and item.name == rest[0]
        if item.baseline == stack.baseline and (item.stack == rest or alone) and rest:
            sides = [own_runs(program, side) for side in (stack, item)]
            return share(sides[0], sides[1], noise) if all(sides) else None
    return None


def _fair(program: Program, attempt: Attempt) -> Sequence[Run]:
    """Its runs without the screening run, which was selected for its luck; with it where it is alone."""
    runs = own_runs(program, attempt)
    return runs[1:] or runs


def _incumbent(program: Program, history: History, baseline: str) -> Sequence[Run]:
    """The runs that measure a commit of the branch."""
    for attempt in history.attempts:
        if any(run.baseline == baseline for run in attempt.base):
            return candidate(program, attempt).fair
    return ()
