"""`ar doctor`: what is ready, what is missing, and the command for each."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ar.agents import account, turns
from ar.campaign import first_run
from ar.campaign.aa import line, mend
from ar.campaign.check import Check
from ar.errors import ArError
from ar.git.repo import Repo
from ar.history import exchange, reader
from ar.history.records import History, Status
from ar.judge import nodes
from ar.judge.aa import last
from ar.local import joined
from ar.project.params import ParamKey
from ar.project.pipeline_file import LOCK_FILE, PIPELINE_FILE, Declared
from ar.project.program import AgentSpec, Program, agent_plugins
from ar.project.program_file import load as load_program
from ar.project.program_file import place
from ar.project.project import Project
from ar.project.values import Scalar, number
from ar.runs import budget, recovery, sandbox, self_test
from ar.runs.pipeline import Pipeline
from ar.stage.attack import Outcome
from ar.stage.limits import size
from ar.text import counted, one_line, span

_GIT = (2, 30)
_LOW_DISK = 1_000_000_000
# Where Anthropic's client takes its key from; any of them will do.
_CLAUDE_KEYS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_IDENTITY_TOKEN_FILE",
)


def examine(folder: Path) -> list[Check]:
    """Every check that makes sense so far: without a repository there is nothing else to look at."""
    checks = [_git_version(), _dvc_version()]
    try:
        repo = Repo.open(folder)
    except ArError as error:
        return [*checks, Check("project", False, error.message, error.mend)]
    declared = Declared.read(repo, repo.head())
    stages = ", ".join(declared.stages) or "dvc.yaml at HEAD declares no stage"
    checks += [
        Check("project", True, str(repo.root)),
        _branch(repo),
        _disk(repo),
        Check("pipeline", bool(declared.stages), stages, "run: dvc stage add …"),
    ]
    try:
        program = load_program(repo.root)
        project = Project(repo, program)
        params = reader.baseline_params(project)
        history = reader.read(project)
    except ArError as error:
        return [*checks, Check(place(repo.root), False, error.message, error.mend)]
    checks += [
        Check(program.file, True, f"{program.objective.direction} {program.objective}"),
        *_metrics(project),
        *_early_stop(program, declared),
        *_search(program, params),
        *(_agent(program, spec, params) for spec in program.agents),
        *_sandbox(project),
        *_campaign(project, history),
    ]
    ready = all(check.ok for check in checks if check.required)
    return [*checks, *first_run.examine(project, declared, history, ready)]


def attacks(folder: Path) -> list[Check]:
    """What became of harmless attacks on the walls of this machine; a wall that does not hold is required."""
    project = Project.open(Repo.open(folder).root)
    return [
        Check(
            attempt.wall,
            attempt.outcome in (Outcome.REFUSED, Outcome.CONTAINED),
            f"{attempt.outcome}: {attempt.detail}",
            required=attempt.outcome is Outcome.THROUGH,
        )
        for attempt in self_test.attempts(project)
    ]


def _git_version() -> Check:
    try:
        text = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return Check("git", False, "not on PATH", "install git")
    found = re.search(r"(\d+)\.(\d+)[\d.]*", text)
    recent = found is not None and (int(found[1]), int(found[2])) >= _GIT
    mend = f"install git {_GIT[0]}.{_GIT[1]} or newer"
    return Check("git", recent, found[0] if found else text.strip(), mend)


def _dvc_version() -> Check:
    try:
        return Check("dvc", True, importlib.metadata.version("dvc"))
    except importlib.metadata.PackageNotFoundError:
        return Check("dvc", False, "not installed in this environment", "run: pip install 'dvc>=3.67,<4'")


def _branch(repo: Repo) -> Check:
    branch = repo.branch()
    if branch is None:
        detail = "HEAD is detached: a promotion would be on no branch"
        return Check("branch", False, detail, "run: git switch -c my-campaign", required=False)
    dirty = ", with uncommitted changes: experiments start from HEAD, without them"
    return Check("branch", True, branch.removeprefix("refs/heads/") + (dirty if repo.is_dirty() else ""))


def _disk(repo: Repo) -> Check:
    free, writable = shutil.disk_usage(repo.root).free, os.access(repo.git_dir, os.W_OK)
    detail = f"{free / 1e9:.1f} GB free" if writable else f"{repo.git_dir} is read-only"
    return Check("disk", writable and free > _LOW_DISK, detail, "free some space, or check permissions")


def _early_stop(program: Program, declared: Declared) -> list[Check]:
    if program.early_stop is None:
        return []
    curve = program.early_stop.curve
    if declared.is_output(curve.file):
        return [Check("early stop", True, f"by {curve}")]
    detail = f"no stage declares {curve.file}: no run would be ended early"
    mend = f"declare it under plots: or outs: in {PIPELINE_FILE}"
    return [Check("early stop", False, detail, mend, required=False)]


def _metrics(project: Project) -> list[Check]:
    repo, metrics = project.repo, project.program.written
    [values] = reader.metric_values(repo, [repo.head()], [metric.file for metric in metrics])
    checks = []
    for metric in metrics:
        value = number(values.get(str(metric)))
        keys = [name.rpartition(":")[2] for name in values if name.startswith(f"{metric.file}:")]
        if value is not None:
            checks.append(Check("metric", True, f"{metric} is {value:g} at HEAD"))
        elif keys:
            detail = f"{metric.file} at HEAD has no number '{metric.key}', only {', '.join(keys)}"
            checks.append(Check("metric", False, detail, f"correct {project.program.file}"))
        else:
            checks.append(Check("metric", True, f"{metric} is not measured at HEAD; ar run measures it"))
    if repo.read(repo.head(), LOCK_FILE) is None:
        checks.append(Check("dvc.lock", True, "none at HEAD; the first promotion adds it"))
    return checks


def _search(program: Program, params: Mapping[str, Scalar]) -> list[Check]:
    """What a change has yet to introduce; a warning where it looks like a slip."""
    checks, known = [], [str(ParamKey.parse(name)) for name in params]
    for key in program.search:
        if key.flat not in params:
            detail = f"search.{key} is not in {key.file} yet: it is searched once a change has introduced it"
            near = difflib.get_close_matches(str(key), known, n=1)
            mend = f"did you mean '{near[0]}'?" if near else None
            checks.append(Check("search", not near, detail, mend, required=False))
    return checks


def _agent(program: Program, spec: AgentSpec, params: Mapping[str, Scalar]) -> Check:
    if spec.kind == "claude":
        return _claude(program, spec)
    if spec.kind == "command":
        return _command(spec)
    if not spec.is_embedded:
        return Check("agent", True, f"{spec.name}: {agent_plugins()[spec.kind].value}, of another package")
    searched = program.searched(params)
    if not searched:
        mend = f"add ranges of parameters that the branch has under search: in {program.file}"
        return Check("agent", False, f"{spec.name} has no ranges to search", mend)
    return Check("agent", True, f"{spec.name} over {counted(len(searched), 'parameter')}; needs no key")


def _claude(program: Program, spec: AgentSpec) -> Check:
    """What can be told without asking anybody: package, key, and where the key would be sent."""
    if importlib.util.find_spec("anthropic") is None:
        mend = "run: pip install 'anthropic>=1,<3'"
        return Check("agent", False, "the package anthropic is not installed", mend)
    key = next((name for name in _CLAUDE_KEYS if os.environ.get(name)), None)
    where = spec.base_url or os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
    if key is None:
        detail = f"{spec.name}: no key for {where} in the environment"
        mend = f"run: export ANTHROPIC_API_KEY=…, or set agent: {{kind: search}} in {program.file}"
        return Check("agent", False, detail, mend, required=not spec.fallback)
    return Check("agent", True, f"{spec.name}: {spec.model} at {where}, with {key}")


def _command(spec: AgentSpec) -> Check:
    name = spec.command[0]
    if "/" not in name and shutil.which(name) is None:
        return Check("agent", False, f"{spec.name}: {name} is not on PATH", f"install {name}")
    if lacking := [variable for variable in spec.env if not os.environ.get(variable)]:
        detail = f"{spec.name}: {', '.join(lacking)} not set"
        return Check("agent", False, detail, f"run: export {lacking[0]}=…")
    given = f"; sees {', '.join(spec.env)}" if spec.env else ""
    return Check("agent", True, f"{spec.name}: {name}, at most {spec.timeout:g} s a proposal{given}")


def _sandbox(project: Project) -> list[Check]:
    wanted = project.program.sandbox
    try:
        bwrap = sandbox.find(wanted)
        sandbox.refuse_missing(wanted, project.repo.root)
        found = Check("sandbox", not bwrap.why, bwrap.describe(wanted), sandbox.INSTALL, required=False)
    except ArError as error:
        found = Check("sandbox", False, error.message, error.mend)
    limits = sandbox.limits(wanted, project.repo.root, share=1.0)
    detail = (
        f"a run may use {size(limits.memory)} of memory, {limits.processes} processes and {size(limits.disk)}"
        f" of disk; what {project.program.file} leaves open is shared between slots. They are measured ten"
        " times a second, not reserved by a control group"
    )
    return [found, Check("limits", True, detail)]


def _campaign(project: Project, history: History) -> list[Check]:
    runs = history.experiments
    ended = sum(run.status.ended for run in runs)
    waiting = sum(run.status is Status.QUEUED for run in runs)
    return [
        Check("history", True, f"{counted(ended, 'run')} ended, {waiting} queued"),
        *_budget(project, history),
        baseline(history),
        *_aa(project.program, history),
        *walls(history),
        *machines(project.program, history),
        *(_shared(project, remote) for remote in joined.read(project.repo)),
        *(Check("recovered", True, line) for line in recovery.recover(project, Pipeline(project.repo))),
    ]


def _shared(project: Project, remote: str) -> Check:
    """Who runs what where in the campaign that a remote's clones share."""
    try:
        exchange.follow(project.repo, remote, glance=True)
    except ArError as error:
        return Check("remote", False, error.message, error.mend, required=False)
    every = [(run, run.elsewhere) for run in reader.read(project).everything if run.elsewhere]
    here = [(run, where) for run, where in every if where.remote == remote]
    waiting = sum(run.status is Status.QUEUED for run, _ in here)
    busy = []
    for run, where in here:
        if where.worker:
            device = f" ({one_line(where.device)})" if where.device else ""
            since = span(max(0.0, time.time() - where.since))
            busy.append(f"{one_line(run.name)} {one_line(where.words)} for {since}{device}")
    words = ", ".join(busy) or "nobody runs anything"
    return Check("remote", True, f"{remote}: {waiting} waiting; {words}")


def baseline(history: History) -> Check:
    """Whether the branch as it is was measured, be it while it was judged as a change."""
    runs = history.now.experiments if history.now else ()
    measured = sum(run.status is Status.SUCCEEDED for run in runs)
    words = f"measured {counted(measured, 'time')}" if measured else "not measured yet; ar run begins with it"
    return Check("baseline", True, words)


def _aa(program: Program, history: History) -> list[Check]:
    """What the latest A/A check came to; nothing where none was made."""
    found = last(program, history)
    if found is None:
        return []
    mends = "; ".join(mend(flaw, program) for flaw in found.flaws)
    return [Check("A/A", not found.flaws, line(found), mends or None, required=False)]


def walls(history: History) -> list[Check]:
    """How many runs had no walls around the code under test, by their stage; nothing where none says so."""
    runs = sum(run.is_unprotected for run in history.experiments)
    if not runs:
        return []
    detail = f"{counted(runs, 'run')} without any: the code under test could reach what it is judged by"
    mend = "run on Linux with Landlock in its kernel (docs/harness.md), or trust the code"
    return [Check("walls", False, detail, mend, required=False)]


def machines(program: Program, history: History) -> list[Check]:
    """The machines that are set aside, by name; nothing where none is."""
    mend = "mend it, start ar worker there, and run: ar baseline --aa N"
    return [
        Check("machine", False, f"{one.host} ({one.device}) is set aside: {one.words}", mend, required=False)
        for one in nodes.set_aside(program, history)
    ]


def _budget(project: Project, history: History) -> list[Check]:
    """How much of the budget is used, and what the agents spent, whether or not there is a limit on it."""
    limits = project.program.budget
    used, paid = budget.used(project.repo, history), account.read(project.repo)
    spent = paid.total
    amounts = (
        (used.runs, limits.runs, "runs"),
        (used.hours, limits.hours, "hours"),
        (used.gpu_hours, limits.gpu_hours, "GPU hours"),
        (spent.tokens, limits.tokens, "tokens"),
        (spent.usd or 0.0, limits.usd, "US dollars"),
    )
    parts = [f"{amount:,.4g} of {limit:,g} {unit}" for amount, limit, unit in amounts if limit is not None]
    detail = f"used {', '.join(parts)}"
    words, mend = paid.words(len(history.promoted)), f"raise budget: in {project.program.file}"
    return [
        Check("budget", not used.refusal(project.program), detail, mend, required=False),
        *([Check("agents spent", True, words)] if words else []),
        *_learned_shares(project.program, history, paid),
    ]


def _learned_shares(program: Program, history: History, paid: account.Account) -> list[Check]:
    """Each agent's share of the proposals, where what they gain decides on it."""
    if not any(spec.is_learned for spec in program.agents):
        return []
    parts = turns.shares(program.agents, history, paid.agents)
    return [Check("agents' shares", True, ", ".join(f"{name} {part:.0%}" for name, part in parts.items()))]
