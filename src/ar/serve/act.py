"""What a client may do. Each method is a tool, and goes through the same calls as the command line."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, JsonValue

from ar.agents import Briefing, memory
from ar.agents.schemas import BadInput
from ar.agents.tools import refuse_third_repair
from ar.campaign import promotion, rebase
from ar.campaign.campaign import Campaign
from ar.campaign.promote import Promoter
from ar.changes import own, patches
from ar.changes.proposal import MAX_EDITS
from ar.errors import BadProposal, BadState, TriedBefore
from ar.git.refs import PROMOTING
from ar.history import notebook
from ar.history.attempts import base_of, effect, find
from ar.history.ideas import Edit, Proposal
from ar.history.messages import headed
from ar.history.notebook import MOST_CITED, MOST_TEXT, Entry, Standing
from ar.history.records import History
from ar.local import locks
from ar.runs import demands
from ar.runs import stop as stopping
from ar.serve import results
from ar.serve.desk import START, Desk, is_at_work
from ar.serve.look import Name
from ar.serve.overview import is_settled
from ar.serve.results import Noted, Promoted, Proposed, Stopped, Waited
from ar.serve.words import Words, patch
from ar.text import one_line, plain
from ar.views.lines import PlainView

_BEAT = 5.0  # seconds between two signs of life
_MOST_WORDS = 8_000  # characters of a hypothesis
_GO_ON = "wait for it with the tool wait"


@dataclass(frozen=True)
class Caller:
    """Who calls a tool.

    Args:
        name: the client's, under which the history lists what it proposes.
        report: tells it how far a call is: progress, total (or None), a sentence.
    """

    name: str
    report: Callable[[float, float | None, str], Awaitable[None]]


Why = Annotated[
    str, Field(max_length=_MOST_WORDS, description="Why it should help, and what would refute it.")
]
Params = Annotated[
    dict[str, JsonValue] | None,
    Field(max_length=MAX_EDITS, description="Parameters to set, by their dotted keys."),
]
Edits = Annotated[
    list[Edit] | None,
    Field(
        max_length=MAX_EDITS,
        description="Edits of files in scope, in order: `old` stands exactly once in the file, and becomes "
        "`new`; an empty `old` creates the file.",
    ),
]


class Act:
    """The tools that change something, and the one that waits."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def propose(
        self,
        caller: Caller,
        title: Annotated[str, Field(min_length=1, max_length=300, description="What changes, in a line.")],
        hypothesis: Why,
        params: Params = None,
        edits: Edits = None,
        diff: Annotated[
            str, Field(max_length=patches.MAX_BYTES, description="A patch, instead of edits.")
        ] = "",
        revisit: Annotated[
            str,
            Field(
                max_length=200, description="An earlier change, once more on the branch as it is, instead."
            ),
        ] = "",
        expected: Annotated[
            str, Field(max_length=300, description="Effect on the objective that you expect, in its unit.")
        ] = "",
        builds_on: Annotated[
            str, Field(max_length=200, description="Experiment that it repairs or refines.")
        ] = "",
        simplification: Annotated[
            bool, Field(description="It only makes things simpler, to be kept if nothing gets worse.")
        ] = False,
    ) -> Proposed:
        """Queue an experiment: a change against the branch as it is. Nothing of the user's checkout changes.

        The very same change is queued once: while it is under way, its name is given again; what was tried
        before is refused, with what came of it.
        """
        given = {"edits": edits, "a diff": diff, "an earlier change": revisit}
        many = [name for name, value in given.items() if value]
        if len(many) > 1 or (revisit and params):
            raise BadInput(f"{' and '.join(many)} do not go together", "make one proposal of each")
        with self._desk.campaign() as campaign:
            history = campaign.history()
            if builds_on:
                refuse_third_repair(history, builds_on)
            if revisit:
                briefing = Briefing(campaign.program, history, agent=caller.name)
                proposal = memory.revisit(campaign.project, briefing, revisit, hypothesis)
            else:
                proposal = _proposal(campaign, caller, title, hypothesis, params or {}, edits or [], diff)
            proposal = replace(
                proposal,
                expected=one_line(expected) or proposal.expected,
                parent=one_line(builds_on) or proposal.parent,
                simplification=simplification or proposal.simplification,
            )
            try:
                change, name = campaign.submit(campaign.check(proposal))
            except TriedBefore as error:
                return _known(campaign, error)
            return _proposed(campaign, campaign.history(), name, campaign.diff(change), is_new=True)

    async def wait(
        self,
        caller: Caller,
        name: Name,
        seconds: Annotated[
            float, Field(ge=0, le=3600, description="How long at most. Many clients give up after 60.")
        ] = 45,
    ) -> Waited:
        """Wait until an experiment ended or was decided, or the time is up; it may be cancelled."""
        began = time.monotonic()
        marks: tuple[object, ...] | None = None
        told = -_BEAT
        while True:
            elapsed = time.monotonic() - began
            now = await asyncio.to_thread(self._desk.marks)
            changed, marks = now != marks, now
            if changed or elapsed >= seconds:
                found = await asyncio.to_thread(self._waited, name)
                if found.is_settled or elapsed >= seconds:
                    return found
            if changed or elapsed - told >= _BEAT:
                told = elapsed
                said = (
                    f"{found.name} is {found.outcome}; {found.ended} of its runs ended, {found.left} to come"
                )
                await caller.report(elapsed, seconds, said)
            await asyncio.sleep(max(0.05, min(1.0, seconds - elapsed)))

    def _waited(self, name: str) -> Waited:
        with self._desk.campaign() as campaign:
            attempt, _ = find(campaign.history(), name)
            at_work = is_at_work(campaign.repo)
            advice = "" if is_settled(attempt) or at_work else START
            return results.waited(campaign.program, attempt, at_work, advice)

    def note(
        self,
        caller: Caller,
        text: Annotated[
            str,
            Field(max_length=MOST_TEXT, description="What was learned; empty if only the status changes."),
        ] = "",
        cites: Annotated[
            list[str] | None,
            Field(max_length=MOST_CITED, description="Names of the experiments that it rests on."),
        ] = None,
        standing: Annotated[
            Standing | None, Field(description="What is thought of it by now; at first, open.")
        ] = None,
        lesson: Annotated[
            str, Field(max_length=40, description="Name of the lesson that it is about; empty for a new one.")
        ] = "",
    ) -> Noted:
        """Write a lesson into the campaign's notebook, for all who come later, or say something of one."""
        with self._desk.campaign() as campaign:
            entry = Entry(caller.name, text, standing, tuple(cites or ()), lesson)
            history = campaign.history()
            name = notebook.write(campaign.repo, history, entry)
            found = notebook.find(notebook.read(campaign.repo).lessons(), name)
            cited = [item for item in history.attempts if item.name in found.cites]
            words = Words(campaign.program, cited)
            return Noted(found.short, words(found.text, MOST_TEXT), str(found.standing), found.cites)

    def stop(self, name: Name) -> Stopped:
        """End an experiment for good, or take it from the queue: it is recorded as cancelled."""
        with self._desk.campaign() as campaign:
            attempt, run = find(campaign.history(), name)
            stopping.stop_one(campaign.project, campaign.pipeline, run)
            attempt, run = find(campaign.history(), run.name)
            return Stopped(run.name, str(run.status), Words(campaign.program, [attempt])(run.reason))

    async def promote(self, caller: Caller, name: Name) -> Promoted:
        """Merge a winner into the branch that is checked out; first, what it lacks is measured."""
        ended = False
        began = time.monotonic()

        def level() -> int:
            return 2 if ended else 0

        work = asyncio.ensure_future(asyncio.to_thread(self._promote, name, level))
        try:
            while not (await asyncio.wait([work], timeout=_BEAT))[0]:
                await caller.report(time.monotonic() - began, None, f"promoting {name}")
        finally:
            ended = True
        return await work

    def _promote(self, name: str, level: Callable[[], int]) -> Promoted:
        with self._desk.campaign() as campaign:
            demands.refuse(campaign.repo, demands.not_allowed(campaign.project))
            _mend(campaign)
            history = campaign.history()
            attempt = base_of(history, find(history, name)[0])
            promoter = Promoter(campaign, lambda: PlainView(sys.stderr), level)
            is_behind = not history.is_head(attempt.baseline) and attempt.outcome in rebase.CARRIED
            if is_behind or attempt.is_hearsay:
                attempt = promoter.carry(attempt)
            attempt, merge = promoter.promote(attempt.name)
            words = Words(campaign.program, [attempt])
            return Promoted(
                attempt.name, words(attempt.title), merge, promotion.lands_on(campaign.repo) or ""
            )


def _proposal(
    campaign: Campaign,
    caller: Caller,
    title: str,
    hypothesis: str,
    params: dict[str, JsonValue],
    edits: list[Edit],
    diff: str,
) -> Proposal:
    project = campaign.project
    tree = ""
    if diff:
        tree = own.from_patch(project, patches.parse(project.repo, diff.encode()), {}, one_line(title)).tree
    short, why = headed(one_line(title), plain(hypothesis).strip())
    return Proposal(short, why, caller.name, params=dict(params), edits=tuple(edits), tree=tree)


def _known(campaign: Campaign, error: TriedBefore) -> Proposed:
    """The attempt that is exactly what was proposed.

    Raises:
        BadProposal: it is settled.
    """
    history = campaign.history()
    attempt, _ = find(history, error.name)
    if not is_settled(attempt):
        return _proposed(campaign, history, attempt.name, "", is_new=False)
    came = effect(attempt, campaign.program)
    what = f"{error.message}{f': {came}' if came else ''}"
    raise BadProposal(what, f"propose something else; the tool experiment opens {attempt.name}")


def _proposed(campaign: Campaign, history: History, name: str, diff: str, is_new: bool) -> Proposed:
    attempt, _ = find(history, name)
    at_work = is_at_work(campaign.repo)
    return Proposed(
        name=attempt.name,
        title=Words(campaign.program, [attempt])(attempt.title),
        is_new=is_new,
        outcome=str(attempt.outcome),
        at_work=at_work,
        diff=patch(diff),
        advice=_GO_ON if at_work else f"{_GO_ON}; but {START}",
    )


def _mend(campaign: Campaign) -> None:
    """Put right a promotion that was killed; a live one is let be."""
    if campaign.repo.has_ref(PROMOTING):
        with contextlib.suppress(BadState), locks.hold(campaign.repo, "run", busy="ar is at work here"):
            promotion.mend(campaign.pipeline)
