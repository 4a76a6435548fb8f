"""One project's campaign: the single steps between history, agent, judge and queue.

Each step reads what it needs from refs and notes and leaves its result there. `loop.py` strings them
together; commands such as `ar next` take one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from ar.agents import Agent, Briefing, Channel, make, turns
from ar.campaign import promote
from ar.changes import integrity, own, patches
from ar.changes.patches import Patch
from ar.changes.proposal import Change, prepare
from ar.errors import ArError, BadParams, BadProposal, CannotPromote, NotFound, OutOfBudget
from ar.git import refs
from ar.history import reader
from ar.history.attempts import find, objective
from ar.history.ideas import Proposal
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import (
    Attempt,
    Case,
    Decision,
    Experiment,
    History,
    Label,
    NoiseReport,
    Outcome,
    Run,
    Status,
    Total,
    Verdict,
)
from ar.judge import rule
from ar.judge.rule import Candidate, Kind, Ledger
from ar.local import claims
from ar.project.program import AgentSpec, Metric
from ar.project.project import Project
from ar.project.values import number
from ar.runs import budget, queue
from ar.runs.pipeline import Pipeline
from ar.runs.worker import Worker
from ar.text import signed

MAX_REFUSALS = 3
MAX_RACES = 10  # how often others may queue the very same change between our proposing and queueing it


class Campaign:
    """The steps, on one project."""

    def __init__(self, project: Project, pipeline: Pipeline | None = None) -> None:
        self.project = project
        self.repo, self.program = project.repo, project.program
        self.pipeline = pipeline or Pipeline(project.repo)
        self.memory = reader.Memory()

    def history(self) -> History:
        return reader.read(self.project, self.memory)

    # -- proposing ----------------------------------------------------------------------------------------

    def propose(self, agent: str | None = None, idea: str = "", channel: Channel | None = None) -> Change:
        """Ask an agent until a proposal passes every check; nothing is queued.

        Args:
            agent: its name or kind; None for the one whose turn it is.
            idea: what the user wants tried, in a sentence.
            channel: how an agent that takes its time says what it does.

        Raises:
            BadProposal: the agent was refused too often in a row.
        """
        return self.ask(self._turn(agent), channel, idea)

    def ask(self, spec: AgentSpec, channel: Channel | None = None, idea: str = "") -> Change:
        """`propose` by one agent. May run beside the other steps, in a thread of its own."""
        return self._ask(spec, make(spec, self.repo, channel), idea)

    def queue_next(
        self, agent: str | None = None, idea: str = "", channel: Channel | None = None
    ) -> tuple[Change, str]:
        """Propose and queue: the change and its experiment's name. Arguments are those of `propose`.

        Raises:
            BadProposal: the agent was refused too often in a row, or others were faster every time.
        """
        spec = self._turn(agent)
        asked = make(spec, self.repo, channel)
        with self.repo.lock("propose") if asked.instant else contextlib.nullcontext():
            races = 0
            while True:
                change = self._ask(spec, asked, idea)
                try:
                    return self.submit(change)
                except BadProposal:
                    races += 1
                    if races == MAX_RACES:
                        raise

    def _turn(self, agent: str | None) -> AgentSpec:
        specs = self.program.agents
        if agent is not None:
            return turns.named(specs, agent)
        return specs[0] if len(specs) == 1 else turns.order(specs, self.history())[0]

    def _ask(self, spec: AgentSpec, agent: Agent, idea: str) -> Change:
        refused: list[str] = []
        while True:
            history = self.history()
            params = reader.baseline_params(self.project)
            briefing = Briefing(self.program, history, params, tuple(refused), spec.lane, idea)
            try:
                proposal = replace(agent.propose(briefing), agent=spec.name, stack=(), reverts="")
                return prepare(self.project, proposal, history)
            except (BadProposal, BadParams) as error:
                refused.append(str(error))
                if len(refused) > MAX_REFUSALS:
                    raise BadProposal(
                        f"the agent was refused {len(refused)} times in a row, at last: {error.message}",
                        error.mend,
                    ) from None

    def check(self, proposal: Proposal) -> Change:
        """The change that a proposal is, if it passes every check.

        Raises:
            BadProposal: it does not.
        """
        return prepare(self.project, proposal, self.history())

    def submit(self, change: Change, seed: int | None = None) -> tuple[Change, str]:
        """Queue a change's first run. Returns the change as it was queued, and the experiment's name.

        Raises:
            BadProposal: somebody queued the same change since it was checked, or the branch moved and the
                change does not apply any more.
        """
        with self.repo.lock("submit"):
            history = self.history()
            proposal = change.proposal
            moved = change.baseline != history.head
            # What was paid for is tried on the new head; anybody else is quickly asked again.
            if moved and not proposal.tree and not proposal.edits and proposal.spend is None:
                raise BadProposal("the branch moved while the proposal was made", "propose again")
            if moved and proposal.tree:
                diff = patches.between(self.repo, change.baseline, proposal.tree)
                tree = patches.apply(self.repo, history.head, diff, lambda _: False)
                proposal = replace(proposal, tree=tree)
            change = prepare(self.project, proposal, history)
            action = rule.next_action(self.ledger(history, None))
            first = action.seed if action.kind is Kind.PROPOSE else self._first_seed(history)
            message = Message.of(change.proposal, change.candidate, first if seed is None else seed)
            name = refs.new_name(change.proposal.title)
            queue.put(self.project, self.pipeline, change.tree, change.baseline, message, name)
            return change, name

    def queue_series(
        self, series: Sequence[tuple[str, Callable[[], Patch]]], dry_run: bool
    ) -> Iterator[tuple[str, str | ArError]]:
        """Queue each patch as a change of its own. Yields its label with the experiment's name (on a dry run
        the change's title) or with why it was refused."""
        seen: dict[str, str] = {}
        for label, read in series:
            try:
                change = self.check(own.from_patch(self.project, read(), {}, ""))
                if change.candidate in seen:
                    raise BadProposal(f"{seen[change.candidate]} is exactly this")
                seen[change.candidate] = label
                yield label, change.proposal.title if dry_run else self.submit(change)[1]
            except (BadProposal, BadParams) as error:
                yield label, error

    def replicate(self, attempt: Attempt, seed: int | None) -> str:
        """Queue another run of a candidate, with another seed."""
        first = attempt.first
        message = Message.again(first, attempt.candidate, seed)
        name = refs.new_name(f"{first.rung} {first.title}", seed)
        # The first run's tree differs from what is to run in its outputs only, and those the run writes anew.
        queue.put(self.project, self.pipeline, first.rev, attempt.baseline, message, name)
        return name

    def measure_incumbent(self, history: History, seed: int | None, audit: bool = False) -> str:
        """Queue one run of the head's own tree, as part of the closing audit or to judge changes by."""
        kind = "audit" if audit else "baseline"
        body = "Measures the branch as it is, so that changes can be told from noise."
        if audit:
            body = "Re-measures the branch at the campaign's end, so that its total gain can be told."
        message = Message(
            title=kind if seed is None else f"{kind}, seed {seed}",
            hypothesis=body,
            agent=BASELINE_AGENT,
            candidate=history.incumbent,
            seed=seed,
            audit=audit,
        )
        name = refs.new_name(kind, seed)
        queue.put(self.project, self.pipeline, history.head, history.head, message, name)
        return name

    def diff(self, change: Change) -> str:
        """What a proposal changes, as a patch."""
        return self.repo.diff(change.baseline, change.tree)

    def running_log(self, name: str) -> str:
        """What a running experiment has printed so far; empty if it does not run here."""
        path = claims.folder(self.repo, name) / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def run_at_head_seed(self, ready: promote.Plan, force: bool) -> tuple[History, promote.Plan]:
        """Run a winner at the branch's own seed, here and now, so that its tree can become the branch's.

        Raises:
            CannotPromote: that run failed.
            OutOfBudget: no run is left.
        """
        reason = budget.refusals(self.project)[1]
        if reason:
            raise OutOfBudget(reason)
        name = self.replicate(ready.attempt, ready.seed)
        worker = Worker(self.repo)
        while worker.run_next():
            pass
        history = self.history()
        attempt, run = find(history, name)
        ready = promote.plan(self.project, history, attempt, force)
        if ready.experiment is None:
            raise CannotPromote(f"{name} {run.status} at the branch's own seed", f"see: ar log {name}")
        return history, ready

    # -- judging ------------------------------------------------------------------------------------------

    def ledger(self, history: History, attempt: Attempt | None) -> Ledger:
        """The campaign as the judge sees it, with one attempt open. Runs under way are as good as spent."""
        head = history.now
        closed = tuple(
            self.candidate(item)
            for item in history.attempts
            if item is not head
            and item is not attempt
            and (item.is_decided or item.is_baseline or item.outcome is Outcome.PROMOTED)
            and item.outcome is not Outcome.TAMPERED
        )
        first = history.first
        return Ledger(
            budget=self.program.budget.runs,
            spent=budget.ended(history.experiments)
            + sum(not run.status.ended for run in history.experiments),
            incumbent=self.candidate(head) if head else Candidate(),
            candidate=self.candidate(attempt) if attempt else None,
            closed=closed,
            promotions=len(history.promoted),
            first_guards=rule.guard_means(self._runs(first.experiments)) if first else (),
            first_seed=self._first_seed(history),
        )

    def _first_seed(self, history: History) -> int | None:
        """The campaign's first seed: that of its first baseline run, the head's before there is one."""
        seeds = [run.seed for run in history.experiments if run.measures_baseline and run.seed is not None]
        return seeds[0] if seeds else promote.head_seed(self.project)

    def candidate(self, attempt: Attempt) -> Candidate:
        """An attempt as the judge sees it."""
        own = attempt.own
        base = attempt.base
        simpler = any(run.simplification for run in own)
        return Candidate(self._runs(own), self._runs(base), simplification=simpler)

    def _runs(self, experiments: Sequence[Experiment]) -> tuple[Run, ...]:
        """The runs that ended; of one seed measured twice, in two clones, the first."""
        ended = [item for item in experiments if item.status.ended]
        first = {_seed_or_name(item): item for item in reversed(ended)}
        return tuple(self._run(item) for item in ended if first[_seed_or_name(item)] is item)

    def _run(self, experiment: Experiment) -> Run:
        value = objective(experiment, self.program)
        guards = [number(experiment.metrics.get(str(guard))) for guard in self.program.guards]
        known = [guard for guard in guards if guard is not None]
        if value is None or len(known) < len(guards):
            return Run(experiment.seed, 0.0, crashed=True)
        oriented = tuple(g.orient(v) for g, v in zip(self.program.guards, known, strict=True))
        when = experiment.note.finished if experiment.note else None
        return Run(experiment.seed, self.program.objective.orient(value), oriented, when=when)

    def record(self, attempt: Attempt, verdict: Verdict) -> None:
        """Write the verdict into the note of the attempt's first run."""
        first = attempt.first
        self.repo.update_note(
            first.rev, lambda note: {"status": str(first.status), **note, "verdict": verdict.to_json()}
        )

    def step(self, history: History, attempt: Attempt) -> rule.Action:
        """The judge's next step for one open candidate, none of whose runs is under way."""
        if flaw := integrity.flaw(self.project, history, attempt):
            verdict = Verdict(
                Decision.DISCARD, f"Refused: {flaw}.", runs=len(attempt.experiments), label=Label.TAMPERED
            )
            return rule.Action(Kind.DISCARD, verdict)
        action = rule.next_action(self.ledger(history, attempt))
        verdict = action.verdict
        for place, guard in enumerate(self.program.guards, 1):
            verdict = replace(verdict, reason=verdict.reason.replace(f"Guard {place} ", f"{guard.key} "))
        failed = [run for run in attempt.experiments if self._failed(run)]
        if action.kind is Kind.DISCARD and failed:
            why = failed[0].note.reason if failed[0].note else ""
            if failed[0].status is Status.SUCCEEDED:
                why = "its metrics are not in this clone; to get them: dvc fetch"
            ended = "was cancelled" if failed[0].status is Status.CANCELLED else failed[0].status
            verdict = replace(verdict, reason=f"A run {ended}{f': {why}' if why else ''}.")
        elif action.kind is Kind.PROMOTE and (words := self._overfitted(history, attempt)):
            verdict = replace(verdict, decision=Decision.DISCARD, reason=words, label=Label.OVERFITTED)
            return replace(action, kind=Kind.DISCARD, verdict=verdict)
        return replace(action, verdict=verdict)

    def case(self, history: History, attempt: Attempt) -> Case:
        """What the verdict on an attempt rests on. One that is not judged yet is judged as things stand.

        Raises:
            NotFound: it is the baseline, or none of its runs has ended.
        """
        own = attempt.own
        if not own:
            raise NotFound(f"{attempt.name} is the baseline: there is nothing to judge", "see: ar show")
        if not any(run.status.ended for run in own):
            raise NotFound(f"{attempt.name} has no run that ended yet", "wait for it: ar run")
        verdict = attempt.verdict
        if verdict is None or not attempt.is_decided:
            verdict = self.step(history, attempt).verdict
        base = [
            run
            for item in history.attempts
            for run in item.experiments
            if run.measures_baseline and run.baseline == attempt.baseline
        ]
        effect: float | None = None
        interval: tuple[float, ...] = ()
        if verdict.effect is not None:
            effect = self.program.objective.orient(verdict.effect)
            if verdict.standard_error is not None and verdict.df:
                half = rule.half_width(verdict.standard_error, verdict.df)
                interval = (effect - half, effect + half)
        return Case(
            name=attempt.name,
            title=attempt.title,
            outcome=attempt.outcome,
            verdict=verdict,
            effect=effect,
            interval=interval,
            seeds=tuple(run.seed for run in own if run.seed is not None),
            base_seeds=tuple(run.seed for run in base if run.seed is not None),
            guards=_means(self.program.guards, base, own),
            holdout=_means((self.program.holdout,) if self.program.holdout else (), base, own),
            wanted=self._wanted(verdict),
        )

    def noise(self, history: History) -> NoiseReport:
        """What was learned of the noise so far."""
        ledger = self.ledger(history, None)
        noise = rule.noise_of(ledger)
        runs = len(ledger.incumbent.fair)
        if not noise.plain.df or not runs:
            return NoiseReport(runs)
        return NoiseReport(
            runs=runs,
            sigma=noise.sigma,
            paired_sigma=noise.typical or (noise.residual_sigma if noise.correlation > 0 else None),
            smallest={str(n): rule.resolution(noise, n, runs) for n in (2, 4, 8)},
        )

    def total(self, history: History) -> Total | None:
        """The campaign's gain, from the first baseline to the closing audit of the head; None before that."""
        first = history.first
        now = history.now
        if first is None or now is None:
            return None
        before = [run for run in first.experiments if run.measures_baseline and not run.audit]
        after = [run for run in now.experiments if run.audit]
        old, new = ([run for run in self._runs(side) if rule.measured(run)] for side in (before, after))
        gain, error = rule.total_gain(old, new)
        if not math.isfinite(error):
            return None
        orient = self.program.objective.orient
        change, half = orient(-gain), rule.half_width(error, len(old) + len(new) - 2)
        return Total(
            change=change,
            standard_error=error,
            interval=(change - half, change + half),
            before=orient(fmean(run.value for run in old)),
            after=orient(fmean(run.value for run in new)),
            runs_before=len(old),
            runs_after=len(new),
        )

    def _wanted(self, verdict: Verdict) -> str:
        if verdict.decision is Decision.PROMOTE or verdict.needed is None:
            return ""
        if verdict.z is not None and verdict.bar is not None and verdict.z >= verdict.bar:
            return ""  # it was refused for something else than its size
        needed = signed(self.program.objective.orient(verdict.needed))
        return f"a mean effect of {needed} over its {verdict.runs} run{'s' if verdict.runs > 1 else ''}"

    def _failed(self, run: Experiment) -> bool:
        return run.status.ended and objective(run, self.program) is None

    def _overfitted(self, history: History, attempt: Attempt) -> str:
        """Why the holdout forbids a promotion; empty if it does not. Its values stay in here."""
        if self.program.holdout is None:
            return ""
        unseen = Campaign(
            Project(self.repo, replace(self.program, objective=self.program.holdout)), self.pipeline
        )
        return rule.overfitted(unseen.ledger(history, attempt))


def _seed_or_name(run: Experiment) -> int | str:
    return run.name if run.seed is None else run.seed


def _means(
    metrics: Sequence[Metric], base: Sequence[Experiment], own: Sequence[Experiment]
) -> dict[str, list[float]]:
    """Metric to its mean on either side, where both have it."""
    found = {}
    for metric in metrics:
        sides = [
            [value for run in runs if (value := number(run.metrics.get(str(metric)))) is not None]
            for runs in (base, own)
        ]
        if all(sides):
            found[str(metric)] = [fmean(side) for side in sides]
    return found


def is_open(attempt: Attempt, history: History) -> bool:
    """Whether a candidate against the present head still waits for its verdict."""
    ours = not attempt.is_foreign
    return (
        ours
        and not attempt.is_decided
        and attempt.baseline == history.head
        and attempt.outcome is not Outcome.PROMOTED
    )


def waits_for_merge(attempt: Attempt, history: History) -> bool:
    """Whether it won against the present head, which has not taken it yet."""
    return attempt.outcome is Outcome.WINNER and attempt.baseline == history.head
