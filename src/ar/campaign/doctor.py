"""`ar doctor`: what is ready, what is missing, and the command for each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ar.agents import account
from ar.errors import ArError
from ar.git.repo import Repo
from ar.history import reader
from ar.history.records import History, Status
from ar.project.pipeline_file import LOCK_FILE, PIPELINE_FILE, Declared
from ar.project.program import AgentSpec, Program, agent_plugins
from ar.project.program_file import load as load_program
from ar.project.project import Project
from ar.project.values import number
from ar.runs import budget, recovery, sandbox
from ar.runs.pipeline import Pipeline
from ar.stage.limits import size

_GIT = (2, 30)
_LOW_DISK = 1_000_000_000


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Args:
        required: `ar run` cannot work without it.
        mend: what to type; empty where all is well.
    """

    name: str
    ok: bool
    detail: str
    mend: str = ""
    required: bool = True


def examine(folder: Path) -> list[Check]:
    """Every check that makes sense so far: without a repository there is nothing else to look at."""
    checks = [_git_version(), _dvc_version()]
    try:
        repo = Repo.open(folder)
    except ArError as error:
        return [*checks, Check("project", False, error.message, error.mend or "")]
    checks.append(Check("project", True, str(repo.root)))
    checks.append(_branch(repo))
    checks.append(_disk(repo))
    declared = Declared.read(repo, repo.head())
    stages = ", ".join(declared.stages)
    checks.append(
        Check(
            "pipeline",
            bool(stages),
            stages or "dvc.yaml at HEAD declares no stage",
            "" if stages else "run: dvc stage add …",
        )
    )
    try:
        program = load_program(repo.root)
        reader.baseline_params(Project(repo, program))
    except ArError as error:
        return [*checks, Check("program.md", False, error.message, error.mend or "")]
    checks.append(Check("program.md", True, f"{program.objective.direction} {program.objective}"))
    agents = [_agent(program, spec) for spec in program.agents]
    early = _early_stop(program, declared)
    return [
        *checks,
        *_metrics(Project(repo, program)),
        *early,
        *agents,
        *_sandbox(Project(repo, program)),
        *_campaign(Project(repo, program)),
    ]


def _git_version() -> Check:
    import subprocess

    try:
        text = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return Check("git", False, "not on PATH", "install git")
    found = re.search(r"(\d+)\.(\d+)[\d.]*", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    ok = version >= _GIT
    return Check(
        "git",
        ok,
        found[0] if found else text.strip(),
        "" if ok else f"install git {_GIT[0]}.{_GIT[1]} or newer",
    )


def _dvc_version() -> Check:
    try:
        return Check("dvc", True, importlib.metadata.version("dvc"))
    except importlib.metadata.PackageNotFoundError:
        return Check("dvc", False, "not installed in this environment", "run: pip install 'dvc>=3.67,<4'")


def _branch(repo: Repo) -> Check:
    branch = repo.branch()
    if branch is None:
        return Check(
            "branch",
            False,
            "HEAD is detached: a promotion would be on no branch",
            "run: git switch -c my-campaign",
            required=False,
        )
    detail = branch.removeprefix("refs/heads/")
    if repo.is_dirty():
        return Check(
            "branch",
            True,
            f"{detail}, with uncommitted changes: experiments start from HEAD, without them",
            required=False,
        )
    return Check("branch", True, detail)


def _disk(repo: Repo) -> Check:
    try:
        free = shutil.disk_usage(repo.root).free
    except OSError as error:
        return Check("disk", False, str(error))
    ok = free > _LOW_DISK and os.access(repo.git_dir, os.W_OK)
    return Check(
        "disk",
        ok,
        f"{free / 1e9:.1f} GB free" if os.access(repo.git_dir, os.W_OK) else f"{repo.git_dir} is read-only",
        "" if ok else "free some space, or check permissions",
    )


def _early_stop(program: Program, declared: Declared) -> list[Check]:
    if program.early_stop is None:
        return []
    file = program.early_stop.curve.file
    if declared.is_output(file):
        return [Check("early stop", True, f"by {program.early_stop.curve}", required=False)]
    words = f"no stage declares {file}: no run would be ended early"
    return [Check("early stop", False, words, f"declare it under plots: or outs: in {PIPELINE_FILE}", False)]


def _metrics(project: Project) -> list[Check]:
    head = project.repo.head()
    values = reader.metric_values(project.repo, [head], [metric.file for metric in project.program.metrics])[
        0
    ]
    checks = []
    for metric in project.program.metrics:
        value = number(values.get(str(metric)))
        if value is not None:
            checks.append(Check("metric", True, f"{metric} is {value:g} at HEAD", required=False))
        elif any(name.startswith(f"{metric.file}:") for name in values):
            keys = [name.rpartition(":")[2] for name in values if name.startswith(f"{metric.file}:")]
            checks.append(
                Check(
                    "metric",
                    False,
                    f"{metric.file} at HEAD has no number '{metric.key}', only {', '.join(keys)}",
                    "correct program.md",
                )
            )
        else:
            checks.append(
                Check("metric", True, f"{metric} is not measured at HEAD; ar run measures it", required=False)
            )
    if project.repo.read(head, LOCK_FILE) is None:
        checks.append(Check("dvc.lock", True, "none at HEAD; the first promotion adds it", required=False))
    return checks


def _agent(program: Program, spec: AgentSpec) -> Check:
    if spec.kind == "claude":
        return _claude(spec)
    if spec.kind == "command":
        return _command(spec)
    if spec.kind != "optuna":
        package = agent_plugins()[spec.kind]
        return Check("agent", True, f"{spec.name}: {package.value}, of another package")
    if not program.search:
        return Check("agent", False, f"{spec.name} has no ranges to search", "add search: to program.md")
    if importlib.util.find_spec("optuna") is None:
        return Check("agent", False, "optuna is not installed", "run: pip install optuna")
    return Check("agent", True, f"{spec.name} over {len(program.search)} parameters; needs no key")


def _claude(spec: AgentSpec) -> Check:
    """What can be told without asking anybody: package, key, and where the key would be sent."""
    if importlib.util.find_spec("anthropic") is None:
        return Check(
            "agent", False, "the package anthropic is not installed", "run: pip install 'dvc-ar[claude]'"
        )
    names = (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_PROFILE",
        "ANTHROPIC_IDENTITY_TOKEN_FILE",
    )
    key = next((name for name in names if os.environ.get(name)), None)
    where = spec.base_url or os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
    if key is None:
        return Check(
            "agent",
            False,
            f"{spec.name}: no key for {where} in the environment",
            "run: export ANTHROPIC_API_KEY=…, or set agent: {kind: optuna} in program.md",
            required=not spec.fallback,
        )
    return Check("agent", True, f"{spec.name}: {spec.model} at {where}, with {key}")


def _command(spec: AgentSpec) -> Check:
    name = spec.command[0]
    lacking = [variable for variable in spec.env if not os.environ.get(variable)]
    if "/" not in name and shutil.which(name) is None:
        return Check("agent", False, f"{spec.name}: {name} is not on PATH", f"install {name}")
    if lacking:
        return Check(
            "agent", False, f"{spec.name}: {', '.join(lacking)} not set", f"run: export {lacking[0]}=…"
        )
    given = f"; sees {', '.join(spec.env)}" if spec.env else ""
    return Check("agent", True, f"{spec.name}: {name}, at most {spec.timeout:g} s a proposal{given}")


def _sandbox(project: Project) -> list[Check]:
    limits = sandbox.limits(project.program.sandbox, project.repo.root, share=1.0)
    detail = (
        f"a run may use {size(limits.memory)} of memory, {limits.processes} processes and {size(limits.disk)}"
        " of disk; what program.md leaves open is shared between slots"
    )
    known = Check("limits", True, detail, required=False)
    try:
        bwrap = sandbox.find(project.program.sandbox)
    except ArError as error:
        return [Check("sandbox", False, error.message, error.mend or ""), known]
    mend = sandbox.INSTALL if bwrap.why else ""
    return [
        Check("sandbox", not bwrap.why, bwrap.describe(project.program.sandbox), mend, required=False),
        known,
    ]


def _budget(project: Project, history: History) -> Check:
    used, limits, spent = (
        budget.used(project.repo, history),
        project.program.budget,
        account.total(project.repo),
    )
    parts = [
        f"{amount:,.4g} of {limit:,g} {unit}"
        for amount, limit, unit in (
            (used.runs, limits.runs, "runs"),
            (used.hours, limits.hours, "hours"),
            (used.gpu_hours, limits.gpu_hours, "GPU hours"),
            (spent.tokens, limits.tokens, "tokens"),
            (spent.usd or 0.0, limits.usd, "US dollars"),
        )
        if limit is not None
    ]
    reason = used.refusal(limits)
    words = f"used {', '.join(parts)}"
    return Check("budget", not reason, words, "raise budget: in program.md" if reason else "", required=False)


def _campaign(project: Project) -> list[Check]:
    history = reader.read(project)
    runs = history.experiments
    ended = sum(run.status.ended for run in runs)
    waiting = [run for run in runs if run.status is Status.QUEUED]
    checks = [
        Check("history", True, f"{ended} runs ended, {len(waiting)} queued", required=False),
        _budget(project, history),
    ]
    base = [
        run
        for run in runs
        if run.candidate == history.incumbent and run.measures_baseline and run.status is Status.SUCCEEDED
    ]
    checks.append(
        Check(
            "baseline",
            True,
            f"measured {len(base)} times" if base else "not measured yet; ar run begins with it",
            required=False,
        )
    )
    mended = recovery.recover(project, Pipeline(project.repo))
    checks += [Check("recovered", True, line, required=False) for line in mended]
    return checks
