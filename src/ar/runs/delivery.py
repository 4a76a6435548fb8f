"""Brings what DVC keeps of a shared campaign from DVC's remote to this machine, and to it: what stages read,
and what a change made that the branch may take.

Nothing is brought that this machine's owner has not allowed, and a remote that cannot be reached ends no run
that can do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ar.errors import BadState
from ar.git import remote
from ar.history import reader
from ar.history.attempts import objective
from ar.history.messages import BASELINE_AGENT, Message
from ar.history.records import Note, Status
from ar.local import allowed
from ar.local.claims import Claim
from ar.project import tracked
from ar.project.cache import Cache
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.storage import Storage
from ar.project.values import number
from ar.redaction import redact
from ar.runs import demands, pipeline
from ar.runs.pipeline import Pipeline

_WORSE = 2.0  # standard deviations of one run by which a run of what is promoted later may be worse


class Delivery:
    """Between one clone's cache and DVC's default remote.

    Args:
        remote: the git remote that the campaign is shared on.
        tell: called with what is worth a line.
    """

    def __init__(self, pipeline: Pipeline, remote: str, tell: Callable[[str], None]) -> None:
        self.pipeline = pipeline
        self.repo = pipeline.repo
        self.remote = remote
        self.tell = tell
        self._asked = set[str]()  # hashes that were not there
        self._told = ""

    def fetch_inputs(self, rev: str) -> None:
        """Have here what the stages of a commit read.

        Raises:
            BadState: something that they cannot do without is not to be had.
        """
        if lacking := tracked.missing(self.repo, rev):
            files = " ".join(lacking)
            hashes = [md5 for each in lacking.values() for md5 in each]
            if why := self._move(hashes, f"the data of {files}"):
                what = f"data that stages read is not on this machine: {files}; {why}"
                raise BadState(what, f"run: dvc pull {files}")
        between = [md5 for md5 in tracked.missing_between(self.repo, rev) if md5 not in self._asked]
        if between and Storage.of(self.repo.root) is not None:
            self._asked.update(between)
            if why := self._move(between, "what earlier stages made"):
                self._warn(f"stages run again, as what they made is not on this machine; {why}")

    def fetch_outputs(self, rev: str) -> None:
        """Have here what the stages of a commit made, as far as that can be had."""
        cache, kept = Cache.of(self.repo.root), tracked.kept(Declared.read(self.repo, rev))
        lacking = {path: md5 for path, md5 in kept if not cache.has(md5)}
        if lacking and (why := self._move(lacking.values(), ", ".join(lacking))):
            self._warn(f"{', '.join(lacking)} is not on this machine; {why}; to bring it: dvc pull")

    def bring_outputs(self, project: Project, claimed: Claim, rev: str, note: Note) -> None:
        """Bring what a run made to DVC's remote, if the branch may come to take it."""
        cache, kept = Cache.of(self.repo.root), tracked.kept(Declared.read(self.repo, rev))
        made = {path: md5 for path, md5 in kept if cache.has(md5)}
        if not made or not _may_be_taken(project, claimed, rev, note):
            return
        if why := self._move(made.values(), f"{', '.join(made)} of {claimed.name}", there=True):
            self._warn(f"outputs stay on this machine; {why}")
            self.tell(f"to bring those of {claimed.name}: dvc exp push {self.remote} {claimed.name}")

    def _warn(self, words: str) -> None:
        """Tell it, unless it was the last that was told."""
        if words != self._told:
            self.tell(words)
        self._told = words

    def _move(self, hashes: Iterable[str], what: str, there: bool = False) -> str:
        """Returns why it was not done; empty where it was."""
        storage, wanted = Storage.of(self.repo.root), set(hashes)
        if storage is None:
            return "DVC has no default remote here (dvc remote add -d)"
        if not allowed.read(self.repo).issuperset(demands.of_storage(storage)):
            return f"nobody has allowed DVC's remote {storage.name} on this machine (ar allow)"
        storage.guard()
        self.tell(f"{'bringing' if there else 'fetching'} {what} {'to' if there else 'from'} {storage.name}")
        try:
            pipeline.move(self.pipeline, wanted, there)
        except BadState as error:
            return f"DVC's remote {storage.name}: {redact(remote.shown(error.message))}"
        if not all(map(Cache.of(self.repo.root).has, wanted)):
            return f"DVC's remote {storage.name} has not all of it"
        return ""


def _may_be_taken(project: Project, claimed: Claim, rev: str, note: Note) -> bool:
    """Whether a run may be one that the branch takes: it ended well, and is not plainly worse than the
    incumbent was with the same seed."""
    message, metric = Message.parse(claimed.message), project.program.objective
    if note.status is not Status.SUCCEEDED or message.agent == BASELINE_AGENT or message.rung:
        return False
    [values] = reader.metric_values(project.repo, [rev], [metric.file])
    value, history = number(values.get(str(metric))), reader.read(project)
    base = history.of(history.identities.get(claimed.baseline, ""))
    same = [run for run in (base.base if base else ()) if run.seed == message.seed]
    known = [found for run in same if (found := objective(run, project.program)) is not None]
    if value is None or not known or history.sigma is None:
        return True
    return metric.orient(value) <= max(map(metric.orient, known)) + _WORSE * history.sigma
