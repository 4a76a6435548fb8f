"""The judge for other programs: `ar judge --stdio`, one JSON object a line in, one out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ar.errors import ArError
from ar.formats import load_json
from ar.judge.evidence import HUGE, OPENING, Candidate, Ledger, Run
from ar.judge.noise import Noise
from ar.judge.rule import Kind, next_action
from ar.text import counted

WORDS = {Kind.RUN_INCUMBENT: "base", Kind.RUN_CANDIDATE: "run", Kind.PROMOTE: "promote"}  # else: discard


def answers(lines: Iterable[str]) -> Iterator[str]:
    """The answer to each line of the protocol (docs/judge-reference.md), as soon as it is asked for.

    Raises:
        ArError: a line is not one of the protocol's.
    """
    memory = Memory()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            message = load_json(line)
            if not isinstance(message, dict):
                raise ValueError("expected an object")
            reply = answer(message, memory)
        except ValueError as error:
            raise ArError(
                f"line {number} is not a question of the protocol: {error}", "see docs/judge-reference.md"
            ) from None
        yield json.dumps(reply)


@dataclass
class Memory:
    """What `answer` keeps between questions of one campaign: the changes closed so far and their noise."""

    closed: list[Candidate] = field(default_factory=list)
    incumbent: Candidate = field(default_factory=Candidate)
    change: int | None = None
    open: Candidate = field(default_factory=Candidate)
    noise: Noise = field(default_factory=Noise)
    promotions: int = 0
    chosen: bool = True  # of the open change

    def close(self) -> None:
        """Count the open change among those that were judged."""
        self.closed.append(self.open)
        self.noise.add(self.open)
        self.open = Candidate()

    def follow(
        self, change: int, runs: Candidate, incumbent: Candidate, promotions: int, seeded: bool
    ) -> None:
        """Take in what happened since the last question: a change dropped, an incumbent replaced."""
        if change != self.change and self.open.runs:
            self.close()  # the caller dropped it: a run crashed
        was_chosen = self.chosen if promotions != self.promotions else self.incumbent.chosen
        incumbent = replace(incumbent, chosen=was_chosen)
        if incumbent != self.incumbent:
            if promotions != self.promotions:
                self.closed.append(self.incumbent)
            self.noise = Noise.of((incumbent, *self.closed))
        self.incumbent, self.promotions = incumbent, promotions
        if change != self.change:
            opened = sum(item.opens for item in (self.incumbent, *self.closed))
            self.chosen = not seeded or opened >= OPENING
        self.change, self.open = change, replace(runs, chosen=self.chosen)


def answer(message: Mapping[str, Any], memory: Memory) -> dict[str, Any]:
    """One line of `ar judge --stdio`: the answer to a message, with `memory` brought up to date.

    Raises:
        ValueError: the message is not one of the protocol's (docs/judge-reference.md).
    """
    if message.get("reset"):
        _whole(message, "budget")
        memory.__dict__.update(Memory().__dict__)
        return {}
    seeds = message.get("seeds")
    if seeds is not None and not isinstance(seeds, Mapping):
        raise ValueError("seeds: expected an object with cand, own and base")
    cand, own, base = (_runs(message, name, seeds) for name in ("cand", "own", "base"))
    whole = ("budget", "left", "promotions", "spent", "change")
    budget, left, promotions, _, change = (_whole(message, name) for name in whole)
    memory.follow(change, Candidate(cand), Candidate(own, base), promotions, seeds is not None)
    ledger = Ledger(
        budget=budget,
        spent=budget - left,
        incumbent=memory.incumbent,
        candidate=memory.open,
        closed=tuple(memory.closed),
        promotions=promotions,
        first_seed=None if seeds is None else 0,
    )
    action = next_action(ledger, memory.noise)
    if action.kind is Kind.DISCARD:
        memory.close()
    elif action.kind is Kind.PROMOTE:
        memory.open = Candidate()
    effect = action.verdict.effect if action.decides else None
    return {"action": WORDS.get(action.kind, "discard"), "effect": effect, "seed": action.seed}


def _whole(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return value


def _runs(message: Mapping[str, Any], name: str, seeds: Mapping[str, Any] | None) -> tuple[Run, ...]:
    values = message.get(name)
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise ValueError(f"{name}: expected a list of numbers, got {values!r}")
    order = [None] * len(values) if seeds is None else seeds.get(name)
    if not isinstance(order, list) or not all(seed is None or isinstance(seed, int) for seed in order):
        raise ValueError(f"seeds.{name}: expected a list of whole numbers, got {order!r}")
    if len(order) != len(values):
        raise ValueError(f"seeds.{name}: {counted(len(order), 'seed')} for {counted(len(values), 'value')}")
    # Whole numbers of JSON may exceed any float.
    finite = (float(value) if abs(value) <= HUGE else math.inf for value in values)
    return tuple(map(Run, order, finite))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
