"""What DVC is told of a run while it is under way, for `dvc exp show` and editors to show it as running.

DVC opens the folder that it is told of, reads what lies there and follows links, all outside the sandbox. So
it is given one of its own, with the experiment's pipeline and parameters as they were queued, and never the
one that the run writes to.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ar.errors import ArError
from ar.git import refs, transfer
from ar.git.repo import Repo
from ar.local.claims import Claim
from ar.project.pipeline_file import Declared
from ar.stage.files import write_whole

LOCATION = "tempdir"  # what DVC calls a run outside the checkout
RUNNING, FINISHED = 2, 6  # of DVC's `TaskStatus`
_NOWHERE = dict.fromkeys(("git_url", "baseline_rev", "location", "root_dir", "dvc_dir"), "")
_ENDED = json.dumps({**_NOWHERE, "status": FINISHED})
_READ_FOR = 60.0  # seconds; whoever lists experiments may still read what has ended meanwhile


@contextlib.contextmanager
def shown(repo: Repo, claimed: Claim) -> Iterator[None]:
    """Have DVC list an experiment as running for the length of a `with` block, or go on without."""
    with contextlib.suppress(OSError, ArError):
        clear(repo)
        _tell(repo, claimed)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _end(repo, claimed.rev)


def clear(repo: Repo) -> None:
    """End what is told of experiments that nobody has, and remove what DVC will not read any more."""
    running = set(repo.refs(refs.RUNNING).values())
    for place in _views(repo).glob("*"):
        info = info_file(repo, place.name)
        with contextlib.suppress(OSError):
            if place.name in running:
                continue
            if info.exists() and time.time() - info.stat().st_mtime < _READ_FOR:
                _end(repo, place.name)
                continue
            shutil.rmtree(info.parent, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)


def info_file(repo: Repo, rev: str) -> Path:
    """Where DVC looks for what it is told of a run outside the checkout, by the run's queued commit."""
    return repo.root / ".dvc" / "tmp" / "exps" / "standalone" / "run" / rev / f"{rev}.run"


def _views(repo: Repo) -> Path:
    return repo.root / ".dvc" / "tmp" / "ar" / "shown"


def _tell(repo: Repo, claimed: Claim) -> None:
    view, info = _views(repo) / claimed.rev, info_file(repo, claimed.rev)
    shutil.rmtree(view, ignore_errors=True)
    _fill(repo, claimed, view)
    told = {
        "git_url": view.as_uri(),
        "baseline_rev": claimed.baseline,
        "location": LOCATION,
        "root_dir": str(view),
        "dvc_dir": posixpath.join(repo.prefix, ".dvc"),
        "name": claimed.name,
        "wdir": repo.prefix or ".",
        "status": RUNNING,
    }
    process = {
        "pid": os.getpid(),
        "stdin": None,
        "stdout": str(claimed.log),
        "stderr": None,
        "returncode": None,
    }
    # The folder appears with both: DVC cannot list experiments while one of its folders lacks them.
    fresh = view / "told"
    fresh.mkdir()
    (fresh / info.name).write_text(json.dumps(told), encoding="utf-8")
    (fresh / f"{claimed.rev}.json").write_text(json.dumps(process), encoding="utf-8")
    info.parent.parent.mkdir(parents=True, exist_ok=True)
    if not info.parent.exists():
        fresh.rename(info.parent)
    else:  # it was begun before
        for file in fresh.iterdir():
            file.replace(info.parent / file.name)


def _fill(repo: Repo, claimed: Claim, view: Path) -> None:
    """A repository at the baseline, with the queued pipeline and parameters."""
    view.mkdir(parents=True)
    transfer.start(view)
    (view / ".git/objects/info/alternates").write_text(f"{repo.git_dir / 'objects'}\n")
    (view / ".git/HEAD").write_text(f"{claimed.baseline}\n")
    declared = Declared.read(repo, claimed.baseline)
    named = (".dvc/config", *declared.pipelines, *declared.locks, *declared.params)
    paths = [path for path in dict.fromkeys(named) if ".." not in PurePosixPath(path).parts]
    root = view / repo.prefix
    (root / ".dvc").mkdir(parents=True)
    for path, content in zip(paths, repo.read_many([(claimed.rev, path) for path in paths]), strict=True):
        if content is not None and not PurePosixPath(path).is_absolute():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)


def _end(repo: Repo, rev: str) -> None:
    """Tell DVC that a run is over. The file stays for now: who lists experiments has seen its name."""
    info = info_file(repo, rev)
    if info.read_text(encoding="utf-8") != _ENDED:
        write_whole(info, _ENDED.encode())
