"""What whoever watches may ask for, with `--control`: the same calls as on the command line.

Each method takes the fields of a form and answers with a sentence. What takes its time becomes an errand.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping

from ar.agents import Channel
from ar.campaign.campaign import Campaign
from ar.changes import own, patches
from ar.errors import BadProposal, BadState
from ar.history.attempts import find
from ar.history.notebook import Standing
from ar.judge.rule import next_seeds
from ar.page.errands import Errands
from ar.runs import demands
from ar.runs import stop as stopping
from ar.serve.act import Act, Caller
from ar.serve.desk import Desk, is_at_work
from ar.text import counted, one_line

_MOST_SEEDS, _MOST_JOBS = 16, 64
LOG = "ui-run.log"  # what an `ar run` that was begun here prints
Fields = Mapping[str, str]


class Steering:
    """One project's campaign in somebody's hands."""

    def __init__(self, desk: Desk, errands: Errands) -> None:
        self._desk, self.errands = desk, errands
        self._act = Act(desk)

    @property
    def calls(self) -> Mapping[str, Callable[[Fields], str]]:
        """Everything that may be asked for, by its name in the address."""
        return {
            "idea": self.idea,
            "change": self.change,
            "note": self.note,
            "pause": self.pause,
            "go-on": self.go_on,
            "stop": self.stop,
            "seeds": self.seeds,
            "promote": self.promote,
        }

    def idea(self, given: Fields) -> str:
        """Have an agent make an experiment of a sentence."""
        idea = given.get("idea", "").strip()
        if not idea:
            raise BadProposal("there is no idea", "say it in a sentence")
        with self._desk.campaign() as campaign:
            if all(spec.is_embedded for spec in campaign.program.agents):
                mend = "give a parameter or a patch, or name such an agent in program.md: docs/agents.md"
                raise BadState("no agent here makes a change of a sentence", mend)

        def ask(say: Callable[[str], None]) -> str:
            with self._desk.campaign() as campaign:
                demands.refuse(campaign.repo, demands.not_allowed(campaign.project))
                change, name = campaign.queue_next(None, idea, Channel(say=say, event=say))
                return f"queued {name}: {change.proposal.title}"

        self.errands.begin(f"idea: {one_line(idea)[:120]}", ask)
        return "An agent is asked; what it proposes is queued."

    def change(self, given: Fields) -> str:
        """Queue parameters, a patch, or both."""
        texts = [line.strip() for line in given.get("params", "").splitlines() if line.strip()]
        diff, message = given.get("patch", "").replace("\r\n", "\n"), given.get("why", "")
        if not texts and not diff.strip():
            raise BadProposal("nothing is changed", "give a parameter, as lr=0.06, or a patch")
        with self._desk.campaign() as campaign:
            settings = own.parse_values(texts)
            if diff.strip():
                patch = patches.parse(campaign.repo, diff.encode())
                proposal = own.from_patch(campaign.project, patch, settings, message)
            else:
                proposal = own.from_values(campaign.project, settings, message)
            change, name = campaign.submit(campaign.check(proposal))
            return f"Queued {name}: {change.proposal.title}"

    def note(self, given: Fields) -> str:
        """Write into the notebook."""
        standing = Standing(given["standing"]) if given.get("standing") in list(Standing) else None
        cites = given.get("cites", "").replace(",", " ").split()
        noted = self._act.note(_person(), given.get("text", ""), cites, standing, given.get("lesson", ""))
        return f"Noted {noted.lesson}: {noted.text}"

    def pause(self, _given: Fields) -> str:
        """End what runs experiments on this machine; what they have goes back to the queue."""

        def end(say: Callable[[str], None]) -> str:
            ended = stopping.stop_all(self._desk.repo(), say)
            return f"ended {', '.join(ended)}; nothing is lost" if ended else "nothing runs here"

        self.errands.begin("pause", end)
        return "What runs is ended, and goes back to the queue."

    def go_on(self, given: Fields) -> str:
        """Begin an `ar run`, which goes on when this server has ended."""
        text = given.get("jobs", "1")
        jobs = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
        if not 1 <= jobs <= _MOST_JOBS:
            raise BadState(
                f"'{one_line(text)}' is no number of experiments at once", f"give 1 to {_MOST_JOBS}"
            )
        with self._desk.campaign() as campaign:
            demands.refuse(campaign.repo, demands.not_allowed(campaign.project))
            if is_at_work(campaign.repo):
                raise BadState("experiments run here already", "pause first")
            log = campaign.repo.own_folder() / LOG
            with log.open("ab") as output:
                subprocess.Popen(
                    [sys.executable, "-m", "ar", "run", "--plain", "-j", str(jobs)],
                    cwd=campaign.repo.root,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            return f"ar run -j {jobs} has begun; what it says is in {log}"

    def stop(self, given: Fields) -> str:
        """End one experiment for good."""
        name = given.get("name", "")

        def end(_say: Callable[[str], None]) -> str:
            stopped = self._act.stop(name)
            return f"{stopped.name} {stopped.status}: {stopped.reason}"

        self.errands.begin(f"stop {one_line(name)}", end)
        return "It is being ended, for good."

    def seeds(self, given: Fields) -> str:
        """Queue more runs of a change, with the seeds that are next."""
        text = given.get("count", "1")
        count = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
        if not 1 <= count <= _MOST_SEEDS:
            raise BadState(f"'{one_line(text)}' is no number of runs", f"give 1 to {_MOST_SEEDS}")
        with self._desk.campaign() as campaign:
            names = _queue_seeds(campaign, given.get("name", ""), count)
            return f"Queued {counted(len(names), 'run')}: {', '.join(names)}"

    def promote(self, given: Fields) -> str:
        """Merge a winner; first, what it lacks is measured."""
        name = given.get("name", "")

        def merge(say: Callable[[str], None]) -> str:
            async def report(_progress: float, _total: float | None, words: str) -> None:
                say(words)

            done = asyncio.run(self._act.promote(Caller(own.NAME, report), name))
            where = f" on {done.branch}" if done.branch else ""
            return f"merged {done.name} as {done.commit[:9]}{where}"

        self.errands.begin(f"promote {one_line(name)}", merge)
        return "It is being promoted; what it lacks is measured first."


def _queue_seeds(campaign: Campaign, name: str, count: int) -> list[str]:
    """Names of the runs that were queued.

    Raises:
        BadState: it is not one that the branch as it is could still take.
    """
    history = campaign.history()
    attempt, _ = find(history, name)
    if attempt.rung or not attempt.own or attempt.is_hearsay or not history.is_head(attempt.baseline):
        raise BadState(
            f"{attempt.name} is no change of the branch as it is", "try it there: ar stack, ar climb"
        )
    if campaign.program.seed is None:
        return [campaign.replicate(attempt, None) for _ in range(count)]
    taken = {run.seed for run in attempt.experiments}
    free = [
        seed
        for seed in next_seeds(campaign.ledger(history, attempt), count + len(taken))
        if seed not in taken
    ]
    return [campaign.replicate(attempt, seed) for seed in free[:count]]


def _person() -> Caller:
    async def report(_progress: float, _total: float | None, _words: str) -> None:
        """Nobody waits."""

    return Caller(own.NAME, report)
