"""What a campaign has used of its budget, told from refs and notes alone, and what is left to do about it.

Tokens and dollars are the agents' and stand on an account of their own (`spend.py`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ar.git import refs
from ar.git.repo import Repo
from ar.history import reader, trials
from ar.history.records import Experiment, History, Status
from ar.project.program import Program
from ar.project.project import Project
from ar.runs import queue

LIMITS = ("runs", "hours", "gpu_hours")
TIME = ("hours", "gpu_hours")

_Span = tuple[float, float]  # from and to, unix time


@dataclass(frozen=True)
class Used:
    """What runs have used.

    Args:
        runs: at the base scale that ended, crashed ones too.
        under_way: those that a worker has and that have not ended.
        busy: the same at any scale.
        hours: in which at least one run was under way, trial runs of agents too.
        gpu_hours: in which a GPU had one, summed over GPUs.
    """

    runs: int = 0
    under_way: int = 0
    busy: int = 0
    hours: float = 0.0
    gpu_hours: float = 0.0

    def refusal(self, program: Program, names: Sequence[str] = LIMITS) -> str:
        """Why no run may begin any more by these limits; empty where one may."""
        budget = program.budget
        limits = {"runs": budget.runs, "hours": budget.hours, "gpu_hours": budget.gpu_hours}
        spent = {"runs": self.runs + self.under_way, "hours": self.hours, "gpu_hours": self.gpu_hours}
        for name in names:
            limit = limits[name]
            if limit is not None and spent[name] >= limit:
                what = f"{spent[name]:.4g} of {limit:g} {name.replace('gpu_', 'GPU ')}"
                return f"budget.{name} is spent: {what}; to go on, raise it in {program.file}"
        return ""


def used(repo: Repo, history: History) -> Used:
    """What the campaign has used until now."""
    now = time.time()
    claimed = {refs.name_of(ref) for ref in repo.refs(refs.RUNNING)}
    stages = queue.training(repo)
    spans: list[_Span] = []
    gpus: dict[str, list[_Span]] = defaultdict(list)
    for run in history.everything:
        if run.status is Status.RUNNING:
            stage = stages.get(run.name)
            span, slot, host = (stage.began if stage else now, now), stage.slot if stage else "", ""
        elif run.note and run.note.seconds and run.note.finished:
            span = (run.note.finished - run.note.seconds, run.note.finished)
            slot, host = run.note.slot, run.note.worker.partition(":")[0]
        else:
            continue
        spans.append(span)
        if slot.startswith("gpu"):
            # Slots that share a GPU are `gpu0`, `gpu0.2`, …; GPUs of two hosts may have one name.
            gpus[f"{host} {slot.partition('.')[0]}"].append(span)

    for trial in trials.read(repo):
        spans.append((trial.finished - trial.seconds, trial.finished))
        if trial.slot.startswith("gpu"):
            gpus[f"{trial.host} {trial.slot.partition('.')[0]}"].append(spans[-1])

    under_way = [run for run in history.everything if not run.status.ended]
    busy = [run for run in under_way if run.status is Status.RUNNING or run.name in claimed]
    return Used(
        runs=ended(history.experiments),
        under_way=sum(run.rung == history.rung for run in busy),
        busy=len(busy),
        hours=_covered(spans) / 3600,
        gpu_hours=sum(map(_covered, gpus.values())) / 3600,
    )


def refusals(project: Project) -> tuple[str, str]:
    """Why no run may begin any more, and why none at the base scale may; empty where one may."""
    budget = project.program.budget
    timed = budget.hours is not None or budget.gpu_hours is not None
    # The history takes a while to read, and mostly there is no need. What ends meanwhile counts twice.
    if not timed and project.repo.count_refs(refs.RUNNING, refs.EXPS) < budget.runs:
        return "", ""
    found = used(project.repo, reader.read(project))
    return found.refusal(project.program, TIME), found.refusal(project.program)


def ended(runs: Iterable[Experiment]) -> int:
    """Runs that the budget has paid for: every one that ended, crashed ones too."""
    return sum(run.status.ended and not run.is_foreign for run in runs)


def _covered(spans: Iterable[_Span]) -> float:
    """Seconds that the spans cover together."""
    covered, last = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return covered
