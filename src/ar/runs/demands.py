"""What a repository wants of this machine that its owner has to allow first: see `ar allow`.

A stage in the sandbox, as it is by default, can do no harm, and an embedded agent runs nothing: they need no
leave. Anything that `program.md` starts besides, or that makes a wall wider, does. Each demand is a line of
text with all of it, so that whatever changes of it is another demand, and is asked for anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ar.errors import NotAllowed
from ar.formats import BadData, load_yaml
from ar.git.repo import Repo
from ar.local import allowed
from ar.project import imports
from ar.project.cache import committed_folder, remote_url
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.program import AgentSpec, Allowance, Program
from ar.project.program_file import place
from ar.project.project import Project
from ar.project.storage import Storage, shown
from ar.runs import sandbox
from ar.stage.limits import size


def of_project(project: Project) -> tuple[str, ...]:
    """All that a project demands as it stands."""
    agents = [line for spec in project.program.agents for line in of_agent(spec)]
    return tuple(dict.fromkeys([*agents, *of_stages(project.repo, project.program, project.repo.head())]))


def of_agent(spec: AgentSpec) -> Iterator[str]:
    """What an agent demands: a command, a key that is sent somewhere, another package's code."""
    if spec.is_embedded:
        return
    if spec.kind == "claude":
        where = spec.base_url or "the address that the environment names, or Anthropic's"
        yield f"ask the model {_quoted(spec.model)} for proposals, with your key, at {where}"
    elif spec.kind == "command":
        yield f"run the command {_quoted(*spec.command)} for proposals"
    else:
        options = f" with {json.dumps(spec.options, sort_keys=True, default=str)}" if spec.options else ""
        yield f"run the agent {_quoted(spec.kind)} of an installed package{options}"
    for name in spec.env:
        yield f"give that agent your environment's variable {_quoted(name)}: {_quoted(spec.name)}"


def of_stages(repo: Repo, program: Program, rev: str) -> Iterator[str]:
    """What the stages of a commit demand: to be shown more than they are by default, or to run without walls.

    Raises:
        BadState: the sandbox is not what `program.md` asks for.
    """
    settings = program.sandbox
    yield from _shown(settings, "stages")
    for name, own in settings.stages.items():
        yield from _shown(own, f"the stage {_quoted(name)}")
    declared = Declared.read(repo, rev)
    beside = (os.path.normpath(repo.top / path) for path in declared.beside(repo.prefix))
    for path in (*declared.absolute, *beside):
        yield f"let stages read {_quoted(path)}, on which one depends"
    for url in declared.fetched:
        yield f"let DVC fetch {_quoted(url, *remote_url(repo, rev, url))}, on which a stage depends"
    for path in declared.values:
        if path.startswith(("/", "../")):
            yield f"let DVC take values for commands from {_quoted(path)}"
    brought = imports.read(repo, rev)
    for each in brought:
        yield from (f"let DVC bring in what {_quoted(each.file)} names: {it}" for it in each.sources)
    limits = ((settings.memory, "of memory"), (settings.disk, "of disk"))
    yield from (f"let a run use {size(most)} {what}" for most, what in limits if most)
    if settings.processes:
        yield f"let a run have {settings.processes} processes"
    if folder := committed_folder(repo, rev):
        yield f"keep what stages make in {_quoted(folder)}"
    if not sandbox.find(settings).program:
        yield "run stages without a sandbox: as you, with your files and your network"
        old = ((each.file, line) for each in brought for line in each.commands)
        for file, line in (*_commands(repo, rev), *old):
            yield f"run this of {_quoted(file)} without a sandbox: {_quoted(line)}"


def of_storage(storage: Storage) -> Iterator[str]:
    """What it demands to have data brought from DVC's remote, and to it: of those settings that the
    repository brings, as far as no secret is in them."""
    for name, settings in storage.committed.items():
        told = json.dumps(shown(settings), sort_keys=True)
        yield f"let DVC fetch data from, and bring outputs to, its remote {_quoted(name)}: {told}"


def _commands(repo: Repo, rev: str) -> Iterator[tuple[str, str]]:
    """Every command line with its file, as it is written there: values of templates change all the time."""
    for file in repo.named(rev, PIPELINE_FILE, hidden=True):
        data: Any = None
        with contextlib.suppress(BadData):
            data = load_yaml(repo.read(rev, file) or b"")
        stages = data.get("stages") if isinstance(data, dict) else None
        for entry in stages.values() if isinstance(stages, dict) else ():
            body = entry.get("do", entry) if isinstance(entry, dict) else {}
            found = body.get("cmd") if isinstance(body, dict) else None
            for line in found if isinstance(found, list) else [found]:
                yield file, str(line)


def _shown(what: Allowance, who: str) -> Iterator[str]:
    if what.network:
        yield f"let {who} use the network"
    for name in what.env:
        yield f"give {who} your environment's variable {_quoted(name)}"
    for path in what.read:
        yield f"let {who} read {_quoted(path)}"


def _quoted(*words: str) -> str:
    """Words of a repository's, told apart from ours whatever they hold."""
    return " ".join(json.dumps(word) for word in words)


def not_allowed(project: Project) -> list[str]:
    """What a project demands and nobody has allowed."""
    return _new(project.repo, of_project(project))


def allow(project: Project) -> tuple[str, ...]:
    """Allow what a project demands as it stands, and what it may demand where machines share a campaign.
    Returns that."""
    storage = Storage.of(project.repo.root)
    wanted = (*of_project(project), *(of_storage(storage) if storage else ()))
    allowed.add(project.repo, wanted)
    return wanted


def refuse(repo: Repo, wanted: Iterable[str]) -> None:
    """Let nothing run that nobody has allowed.

    Raises:
        NotAllowed: there is some of that.
    """
    if new := _new(repo, wanted):
        lines = "\n".join(f"  - {line}" for line in new)
        mend = f"read {place(repo.root)} and dvc.yaml; if you want that, run: ar allow"
        raise NotAllowed(f"this repository would, and nobody has allowed it here:\n{lines}", mend)


def _new(repo: Repo, wanted: Iterable[str]) -> list[str]:
    known = allowed.read(repo)
    return [line for line in wanted if line not in known]
