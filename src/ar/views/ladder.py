"""The table of `ar show --ladder`: an idea a row, a rung a column, and what is expected at the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ar.errors import ArError
from ar.history.records import History
from ar.project.params import ParamKey
from ar.project.program import Program
from ar.project.rules import Rule
from ar.text import interval, one_line, quantity, signed, span
from ar.views.facts import fact_lines

if TYPE_CHECKING:
    from ar.surrogate.climbs import Climbs


def climbs_to_target(program: Program, history: History) -> Climbs:
    """What is known of the ladder up to `promote.rung`, or up to its last.

    Raises:
        ArError: program.md has no ladder.
    """
    if not program.target:
        raise ArError(f"{program.file} has no ladder: of rungs", "see docs/ladder.md")
    from ar.surrogate.climbs import climbs_of  # it takes its time to load

    return climbs_of(program, history, program.target)


def ladder_view(
    climbs: Climbs, program: Program, rules: Mapping[ParamKey, Rule], limit: int | None = None
) -> RenderableType:
    """The best at the target first; in italics what was not measured there but is expected.

    Args:
        rules: that searched parameters seem to follow.
    """
    if not climbs.ideas:
        return Text("No idea was measured yet.")
    orient, target = program.objective.orient, climbs.rungs[-1]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("change", overflow="ellipsis", no_wrap=True)
    for rung in climbs.rungs:
        table.add_column(rung, justify="right", no_wrap=True)
    table.add_column(f"expected at {target}", justify="right", style="italic", no_wrap=True)
    table.add_column("better", justify="right", no_wrap=True)
    order = sorted(range(len(climbs.ideas)), key=lambda place: climbs.forecasts[place].effect)
    for place in order[:limit]:
        found = climbs.forecasts[place]
        effects = [
            Text("" if v is None or v.effect is None else signed(orient(v.effect), v.standard_error))
            for v in climbs.verdicts[place]
        ]
        chance = "broke" if found.broken > 0.5 else f"{found.chance:.0%}"
        expected = Text(signed(orient(found.effect), found.error))
        table.add_row(Text(one_line(climbs.ideas[place].title)), *effects, expected, chance)
    left = len(order) - len(order[:limit])
    older = [Text(f"… {left} more", style="dim")] if left else []
    return Group(table, *older, Text(), steps_view(climbs, rules))


def steps_view(climbs: Climbs, rules: Mapping[ParamKey, Rule]) -> Text:
    """What the ideas of the campaign say of each step of the ladder, and of rules to carry values up by."""
    chain = climbs.fit.chain
    steps = zip(climbs.rungs, climbs.rungs[1:], chain.rho, chain.rho_error, chain.tau, strict=False)
    facts = [
        (f"{low} to {high}", f"{quantity(rho, error)} of an effect is left, ±{tau:.2g} of new")
        for low, high, rho, error, tau in steps
    ]
    facts.append(("breaks", f"{chain.breaks:.0%} of the ideas a step are as good as new ones"))
    facts += [("rule", f'the best {one_line(str(key))} moves as "{rule}"') for key, rule in rules.items()]
    return fact_lines(facts)


def ladder_json(
    climbs: Climbs, program: Program, rules: Mapping[ParamKey, Rule], limit: int | None = None
) -> dict[str, Any]:
    """The same for programs: effects in the metric's own direction and unit."""
    chain = climbs.fit.chain
    order = sorted(range(len(climbs.ideas)), key=lambda place: climbs.forecasts[place].effect)
    return {
        "target": climbs.rungs[-1],
        "seconds": dict(zip(climbs.rungs, climbs.seconds, strict=True)),
        "steps": [
            {"from": low, "to": high, "rho": float(rho), "rho_error": float(error), "tau": float(tau)}
            for low, high, rho, error, tau in zip(
                climbs.rungs, climbs.rungs[1:], chain.rho, chain.rho_error, chain.tau, strict=False
            )
        ],
        "breaks": chain.breaks,
        "rules": {str(key): str(rule) for key, rule in rules.items()},
        "ideas": [idea_json(climbs, program, climbs.ideas[place].candidate) for place in order[:limit]],
    }


def idea_json(climbs: Climbs, program: Program, candidate: str) -> dict[str, Any]:
    """One idea: what was measured of it, what is expected, and what another run would add at each rung."""
    place, orient = climbs.places[candidate], program.objective.orient
    found, item = climbs.forecasts[place], climbs.ideas[place]
    return {
        "name": item.name,
        "title": item.title,
        "effects": {
            rung: {"effect": orient(v.effect), "standard_error": v.standard_error, "runs": v.runs}
            for rung, v in zip(climbs.rungs, climbs.verdicts[place], strict=True)
            if v is not None and v.effect is not None
        },
        "expected": {
            "effect": orient(found.effect),
            "standard_error": found.error,
            "interval": sorted(map(orient, found.interval)),
            "chance": found.chance,
            "broken": found.broken,
        },
        "worth": dict(zip(climbs.rungs, climbs.worth[place], strict=True)),
    }


def worth_view(climbs: Climbs, program: Program, candidate: str) -> Text:
    """What is expected of an idea at the target, and what a further run at each rung would add to that; empty
    where nothing is known of it."""
    place = climbs.places.get(candidate)
    if place is None:
        return Text()
    orient, metric, target = program.objective.orient, program.objective.key, climbs.rungs[-1]
    found = climbs.forecasts[place]
    ends = tuple(sorted(map(orient, found.interval)))
    within = f"{signed(orient(found.effect), found.error)}, 95 % interval {interval(ends, found.error)}"
    facts = [("expected", f"{within}; better with {found.chance:.0%}")]
    hour = [3600 * rate for rate in climbs.rates[place]]
    facts += [
        (f"a run at {rung}", f"takes {span(seconds)} and is worth {rate:.2g} {metric} an hour")
        for rung, seconds, rate in zip(climbs.rungs, climbs.seconds, hour, strict=True)
    ]
    return Text(f"\nat {target}, by all rungs\n", style="bold").append_text(fact_lines(facts))
