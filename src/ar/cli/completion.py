"""What a shell offers for an experiment's name: read from refs alone, since somebody waits at a prompt."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

_MOST = 500  # names that a shell is offered


def experiments(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Names that begin so, of experiments that ended, run or wait; none where there is no repository."""
    from ar.errors import ArError
    from ar.git import refs
    from ar.git.repo import Repo

    folder = context.find_root().params.get("folder")
    with contextlib.suppress(ArError, OSError):
        repo = Repo.open(Path(folder) if folder else None)
        names = sorted({refs.name_of(ref) for ref in repo.refs(refs.EXPS, refs.QUEUE, refs.RUNNING)})
        return [name for name in names if name.startswith(begun) and refs.is_name(name)][:_MOST]
    return []
