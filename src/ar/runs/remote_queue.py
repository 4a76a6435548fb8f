"""The queue on a git remote: claims, leases and results are atomic pushes there, so that no two machines have
one experiment, and whoever lost one publishes nothing of it.

What a clone has of the remote's queue lies in the clone as an experiment of its own queue would that is
claimed, with its lease beside it. The commit that waits there was written by whoever can write to the remote:
it is held to the scope before anything of it runs.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ar.changes import integrity
from ar.errors import ArError
from ar.git import refs, remote
from ar.git.objects import Commit
from ar.git.references import ZERO
from ar.git.remote import Move, Refused, Unreachable
from ar.history import exchange, leases, reader
from ar.history.leases import Held, Lease
from ar.history.messages import Message
from ar.history.records import Experiment, Note, Status
from ar.local import claims, node
from ar.local.claims import Claim
from ar.project.pipeline_file import ARGS_FILE
from ar.project.program import Program
from ar.project.program_file import load as load_program
from ar.project.program_file import load_at
from ar.project.project import Project
from ar.runs import half_claims, outbox, queue
from ar.runs.delivery import Delivery
from ar.runs.keeper import Keeper
from ar.runs.pipeline import Pipeline
from ar.runs.publication import Result, publish
from ar.stage.files import Request
from ar.stage.processes import Process

SECONDS = 60.0  # for which a lease stands unrenewed
_MOST_LOST = 3  # holders that may be lost over one experiment before it is given up
_WIDEST = 1024  # of the oldest experiments over which workers spread
_MOST_MISSED = 4  # races lost by one look, after which what waits is looked at again
_WAIT = 1.0, 30.0  # seconds between two tries to publish what is done, at first and at most


class _Free(NamedTuple):
    """An experiment that anybody may take; `held` is the lease of its last holder, who is gone."""

    name: str
    rev: str
    held: Held | None


class RemoteQueue:
    """The queue on a remote of this clone's.

    Args:
        device: what experiments run on here, in words, for others to see.
        tell: called with what is worth a line.
        ending: whether whoever runs experiments is told to end: then nothing is waited for.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        remote: str,
        device: str = "",
        tell: Callable[[str], None] | None = None,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self.pipeline = pipeline
        self.repo = pipeline.repo
        self.remote = remote
        self.device = device
        self.tell = tell or (lambda words: None)
        self.ending = ending
        self.worker = node.name(self.repo)
        self._delivery = Delivery(pipeline, remote, lambda words: self.tell(words))
        self._keepers: dict[str, Keeper] = {}
        self._spread = 1.0  # so many of the oldest, from which one is taken
        self._pulled = set[str]()  # baselines whose runs were asked for

    # -- looking ------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See what waits and runs there, and what has come of it.

        Raises:
            Unreachable: it cannot be read.
        """
        exchange.follow(self.repo, self.remote)

    def waiting(self) -> dict[str, str]:
        """Name to commit of what waited there at the last look, the oldest first."""
        found = self.repo.commits(refs.at_remote(self.remote, refs.QUEUE))
        ordered = sorted(found.items(), key=lambda item: (item[1].time, item[0]))
        named = ((refs.name_of(ref), commit) for ref, commit in ordered)
        return {name: commit.rev for name, commit in named if refs.is_name(name) and commit.parents}

    # -- claiming -----------------------------------------------------------------------------------------

    def refusals(self) -> tuple[str, str]:
        return "", ""  # whoever puts experiments there keeps to the budget

    def claim(
        self, only: str = "", base: bool = True, suits: Callable[[Message], bool] = lambda _: True
    ) -> Claim | None:
        """Take one that waits and suits, the oldest first; before all others those whose holders are gone.

        Where others are often faster, workers spread over the oldest few: each lost race makes these four
        times as many, each claim a quarter fewer. So one race in six is lost, however many are at it. Whoever
        loses too many in a row waits for up to as long as that took.

        Raises:
            Unreachable: the remote cannot be read.
            Refused: it cannot be written.
        """
        lost = set[str]()
        while True:
            begun = time.monotonic()
            self.look()
            half_claims.settle(self.repo, self.remote)
            known = [it for it in self._free(only) if it.name not in lost]
            free = [it for it in known if _fits(self.repo.commit(it.rev), base, suits)]
            if not free:
                return None
            for _ in range(min(_MOST_MISSED, len(free))):
                chosen = random.choice(free[: int(self._spread)])  # noqa: S311 - no secret
                free.remove(chosen)
                claimed = self._take(*chosen)
                if claimed is not None:
                    self._spread = max(1.0, 0.75 * self._spread)
                    self._fetch_baseline(claimed)
                    return claimed
                lost.add(chosen.name)
                self._spread = min(4 * self._spread, _WIDEST)
            if not self._rest(random.uniform(0, time.monotonic() - begun)):  # noqa: S311 - no secret
                return None

    def seize(self, held: Held) -> Claim | None:
        """Take an experiment from whoever has it: they record nothing of it any more."""
        return self._take(held.name, held.queued, held)

    def _free(self, only: str) -> Iterator[_Free]:
        for name, held in leases.held(self.repo, self.remote).items():
            if held.lease.is_broken and only in ("", name) and self.repo.commit(held.queued).parents:
                yield _Free(name, held.queued, held)
        for name, rev in self.waiting().items():
            if only in ("", name):
                yield _Free(name, rev, None)

    def _take(self, name: str, rev: str, old: Held | None) -> Claim | None:
        """Claim one experiment there and here. None where somebody else was faster."""
        repo = self.repo
        if (lock := claims.lock(repo, name)) is None:
            return None
        me, lost = Process.me(), old.lease.lost if old else 0
        lease = Lease(
            self.worker, me.host, me.pid, me.born, self.device, round(time.time(), 3), 0, _seconds(), lost
        )
        mine = Held(name, rev, lease.write(repo, rev), lease)
        # Here first: what a kill leaves is then known to be the remote's, and never queued here.
        repo.update_refs((refs.of_remote(refs.LEASES, self.remote, name), mine.rev, None))
        taken = [Move(refs.running(name), mine.rev, old.rev if old else ZERO)]
        if old is None:
            taken.append(Move(refs.queued(name), ZERO, rev))
        try:
            is_mine = self._move(*taken, end=mine.end(repo))
        except ArError:
            claims.unlock(lock)  # whether it was made is seen later: see `half_claims`
            raise
        if not is_mine:
            self._forget(name)
            claims.unlock(lock)
            return None
        claimed = Claim.begin(repo, name, repo.commit(rev), lock)
        repo.update_refs((refs.running(name), rev, None), reason="ar: claim")
        if lost >= _MOST_LOST:
            claims.ask(repo, name, Request.CANCEL, f"its worker was lost {lost} times while it ran")
        self._keepers[name] = Keeper(repo, self.remote, mine, self.tell)
        self._keepers[name].start()
        return claimed

    def _fetch_baseline(self, claimed: Claim) -> None:
        """Have the runs of the baseline here: they show what any run changes, and what is hopeless. Once for
        each: what workers ran since then comes with every look."""
        if claimed.baseline in self._pulled:
            return
        try:
            exchange.pull(self.repo, self.remote, claimed.baseline)
            self._pulled.add(claimed.baseline)
        except ArError as error:
            self.tell(f"the baseline's runs are not here: {error.message}")

    def program(self, claimed: Claim) -> Program:
        """That of the baseline: this clone's checkout may be of any time."""
        return load_at(self.repo, claimed.baseline) or load_program(self.repo.root)

    def flaw(self, claimed: Claim) -> str:
        self._delivery.fetch_inputs(claimed.baseline)
        return _flaw(Project(self.repo, self.program(claimed)), claimed)

    # -- ending -------------------------------------------------------------------------------------------

    def finish(self, claimed: Claim, rev: str, note: Note) -> bool:
        """Publish the one outcome: the experiment appears, its lease goes and the note is there, all at once.

        While the remote is out of reach this waits; what is done is kept here, for `settle`.
        """
        result = Result.of(self.repo, claimed, rev, note)
        self.repo.update_refs((refs.of_remote(refs.FINISHED, self.remote, claimed.name), result.note, None))
        self._delivery.bring_outputs(Project(self.repo, self.program(claimed)), claimed, rev, note)
        lease, shortest = self._let_lapse(claimed.name), _WAIT[0]
        away = False
        while True:
            try:
                published = publish(self.repo, self.remote, self.worker, result, lease)
                break
            except (Unreachable, Refused) as error:
                if not away:
                    self.tell(f"{error.message}; {claimed.name} is done, and published later")
                away = True
            if not self._rest(shortest):
                claimed.lock.close()  # what is there stays for `settle`
                return True
            shortest = min(2 * shortest, _WAIT[1])
        self._clear(claimed, result if published else None)
        return published

    def settle(self, claimed: Claim) -> bool | None:
        """Publish what an earlier process of this clone's had done when it ended. Whether it is published;
        None where nothing was done yet.

        Raises:
            Unreachable, Refused: not now.
        """
        place = refs.of_remote(refs.FINISHED, self.remote, claimed.name)
        if (noted := self.repo.resolve(place)) is None:
            return None
        result = Result.read(self.repo, noted)
        note = Note.from_json(self.repo.notes_at(result.note)[result.rev])
        self._delivery.bring_outputs(Project(self.repo, self.program(claimed)), claimed, result.rev, note)
        published = publish(self.repo, self.remote, self.worker, result, self._let_lapse(claimed.name))
        self._clear(claimed, result if published else None)
        return published

    def requeue(self, claimed: Claim) -> None:
        self._give_back(claimed, Move(refs.queued(claimed.name), claimed.rev, ZERO))

    def abandon(self, claimed: Claim) -> None:
        """Give back what a process of this clone's had when it was killed: it counts as a holder lost."""
        lease = self._let_lapse(claimed.name)
        if lease is not None:
            self.break_(lease)
        self._clear(claimed)

    def drop(self, claimed: Claim) -> None:
        self._give_back(claimed)

    def _give_back(self, claimed: Claim, *more: Move) -> None:
        lease, told = self._let_lapse(claimed.name), True
        if lease is not None:
            told = self._give_up(claimed.name, Move(refs.running(claimed.name), ZERO, lease.rev), *more)
        self._clear(claimed, forget=told)

    def disown(self, claimed: Claim) -> None:
        self._let_lapse(claimed.name)
        self._clear(claimed)

    def break_(self, held: Held) -> bool:
        """Let anybody take an experiment whose holder is gone. False where the lease has changed."""
        rev = held.lease.broken().write(self.repo, held.queued)
        return self._give_up(held.name, Move(refs.running(held.name), rev, held.rev))

    def _give_up(self, name: str, *moves: Move) -> bool:
        """Tell the remote, if that can be done at once: a lease runs out by itself."""
        try:
            return self._move(*moves)
        except (Unreachable, Refused) as error:
            self.tell(f"{error.message}; {name} is free again once its lease has run out")
            return False

    def _move(self, *moves: Move, end: str = "") -> bool:
        """Move refs there, and in view here."""
        done = remote.move(self.repo, self.remote, *moves, end=end)
        if done:
            shown = ((refs.at_remote(self.remote, it.ref), it.new) for it in moves)
            self.repo.update_refs(
                *((ref, new, None) for ref, new in shown if new != ZERO or self.repo.has_ref(ref))
            )
        return done

    def _rest(self, seconds: float) -> bool:
        """Wait; False as soon as nothing is to be waited for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.ending():
                return False
            time.sleep(0.1)
        return True

    def _let_lapse(self, name: str) -> Held | None:
        """Renew a lease no more. Returns it as this clone last knew it; None where it is lost."""
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            last = keeper.stop()
            return None if keeper.lost else last
        rev = self.repo.resolve(refs.of_remote(refs.LEASES, self.remote, name))
        return leases.read(self.repo, name, rev) if rev else None

    def _forget(self, name: str) -> None:
        places = [refs.of_remote(space, self.remote, name) for space in (refs.LEASES, refs.FINISHED)]
        gone: list[tuple[str, str, str | None]] = [(it, ZERO, None) for it in places if self.repo.has_ref(it)]
        if gone:
            self.repo.update_refs(*gone)

    def _clear(self, claimed: Claim, result: Result | None = None, forget: bool = True) -> None:
        """Let go of an experiment here; with a result, as one that is known. Of what the remote may not have
        been told the lease stays, for `half_claims`."""
        repo, there = self.repo, refs.at_remote(self.remote, refs.running(claimed.name))
        changes: list[tuple[str, str, str | None]] = []
        if result is not None:
            note = repo.notes_at(result.note)[result.rev]
            repo.update_note(result.rev, lambda old: {**old, **note})
            if not repo.has_ref(result.ref):
                changes.append((result.ref, result.rev, ZERO))
        gone = [refs.running(claimed.name), there]
        changes += [(ref, ZERO, None) for ref in gone if repo.has_ref(ref)]
        if changes:
            repo.update_refs(*changes, reason="ar: done")
        if forget:
            self._forget(claimed.name)
        claimed.let_go()

    # -- putting ------------------------------------------------------------------------------------------

    def put(self, project: Project, tree: str, baseline: str, message: Message, name: str) -> bool:
        """Queue one run of a tree there; here, to be handed over later, where the remote is out of reach."""
        rev = queue.planted(project, self.pipeline, tree, baseline, message, name)
        try:
            return outbox.put(self.repo, self.remote, name, rev, self.tell)
        except (Unreachable, Refused) as error:
            self.tell(f"{error.message}; {name} waits here until then")
            queue.put(project, self.pipeline, tree, baseline, message, name)
            return True

    def fetch_outputs(self, rev: str) -> None:
        self._delivery.fetch_outputs(rev)

    def withdraw(self, name: str, rev: str) -> bool:
        if self.repo.has_ref(refs.queued(name)):
            return queue.withdraw(self.pipeline, name, rev)
        return self._give_up(name, Move(refs.queued(name), ZERO, rev))


def _fits(commit: Commit, base: bool, suits: Callable[[Message], bool]) -> bool:
    message = Message.parse(commit.message)
    return (base or bool(message.rung)) and suits(message)


def _flaw(project: Project, claimed: Claim) -> str:
    """What stands in a claimed experiment that is outside the scope, in words; empty if nothing does."""
    repo, said = project.repo, Message.parse(claimed.message)
    run = Experiment(
        title=said.title,
        hypothesis="",
        agent=said.agent,
        rung=said.rung,
        name=claimed.name,
        rev=repo.write_tree(claimed.rev, {ARGS_FILE: None}),
        baseline=claimed.baseline,
        status=Status.QUEUED,
    )
    usual = integrity.reference(reader.read(project), claimed.baseline)
    return integrity.changed(project, run, usual)


def _seconds() -> float:
    """How long a lease stands, from `AR_LEASE_SECONDS` where that is a number."""
    try:
        return max(0.5, float(os.environ.get("AR_LEASE_SECONDS", "")))
    except ValueError:
        return SECONDS
