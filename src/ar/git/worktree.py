"""The user's checkout: read as a tree with what is not committed, and brought forward to a merge of ours.

The one place that writes to the working tree and index. What git does to them is many steps; a ref of this
working tree, `refs/worktree/ar/promoting`, names the merge from before the first to after the last, so that
after a kill `mend` can tell what was meant. It never overwrites a file that somebody changed since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pygit2

from ar.errors import BadProposal, BadState, CheckoutInTheWay, Conflict
from ar.git import refs
from ar.git.command import GitFailed
from ar.git.objects import TreeEntry, files_below
from ar.git.references import ZERO
from ar.git.repo import Repo

_NOTHING = TreeEntry("0", ZERO)  # where a commit has no such file
# Nothing of the user's own set-up runs when we look: no hook, no file watcher.
QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def snapshot(repo: Repo, wanted: Callable[[str], bool], limit: int) -> tuple[str, list[str]]:
    """The head's tree with the wanted files as they are in the checkout, untracked ones too, and the tracked
    files that were changed but not wanted. The checkout and its index are read only.

    Args:
        wanted: whether a path of the project is to be taken.
        limit: bytes of a file.

    Raises:
        BadProposal: a file is longer.
    """
    with repo.own_index() as env:
        with contextlib.suppress(GitFailed):  # its exit status says that files differ
            repo.run(*QUIET, "update-index", "-q", "--refresh", env=env)
        tracked = _names(repo.run(*QUIET, "diff-index", "-z", "--name-only", "--no-renames", "HEAD", env=env))
        listing = ["ls-files", "-z", "--others", "--exclude-standard"]
        untracked = _names(repo.run(*QUIET, *listing, env=env))
    inside = f"{repo.prefix}/" if repo.prefix else ""

    def is_wanted(path: str) -> bool:
        # A folder with a git repository of its own is listed as `folder/`.
        ours = path.startswith(inside) and not path.endswith("/")
        return ours and wanted(path.removeprefix(inside))

    taken = [path for path in dict.fromkeys([*tracked, *untracked]) if is_wanted(path)]
    for path in taken:
        with contextlib.suppress(OSError):
            if (repo.top / path).lstat().st_size > limit:
                raise BadProposal(f"{path} is longer than {limit} bytes", "make a smaller change")
    with repo.own_index("HEAD") as env:
        options = ["-z", "--add", "--remove", "--replace", "--stdin"]
        repo.run(*QUIET, "update-index", *options, stdin=_ended_by_zero(taken), env=env)
        tree = repo.run("write-tree", env=env)
    return tree, [path for path in tracked if path not in taken]


def _names(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]


def _ended_by_zero(lines: Iterable[str]) -> bytes:
    """What git reads with `-z`; a path may hold any other byte."""
    return "".join(f"{line}\0" for line in lines).encode(errors="surrogateescape")


def forward(repo: Repo, branch: str | None, new: str, old: str, tag: str | None = None) -> None:
    """Move the checked-out branch and its checkout to `new`, a descendant of the campaign's head `old`.

    Unrelated uncommitted changes stay; where they overlap, nothing at all changes. The caller says `done`
    once everything that belongs to the move is in place.

    Args:
        tag: ref that is to name `new`, too; it is there from the start, and goes with a move that is undone.

    Raises:
        CheckoutInTheWay: uncommitted changes are.
        Conflict: the branch has moved.
    """
    if repo.branch() != branch or repo.head() != old:
        raise Conflict("the branch moved while it was being promoted to", "run: ar promote again")
    blocked = _in_the_way(repo, repo.checked_out(), new)
    if blocked:
        raise _blocked(", ".join(blocked[:5]) + (" and more" if len(blocked) > 5 else ""))
    marks = [(tag, new, ZERO)] if tag else []
    repo.update_refs((refs.PROMOTING, new, None), *marks)
    try:
        repo.run("merge", "--ff-only", "--no-autostash", "--quiet", new)
    except GitFailed as error:
        _undone(repo, new)
        raise _blocked(error.message) from None


def done(repo: Repo) -> None:
    """The move is complete, and the checkout where the campaign is."""
    beside = repo.ahead()
    ahead = repo.resolve(beside)
    changes: list[tuple[str, str, str | None]] = [(refs.PROMOTING, ZERO, None)]
    if ahead and not repo.is_apart() and repo.is_ancestor(ahead, repo.checked_out()):
        changes.append((beside, ZERO, ahead))
    repo.update_refs(*changes)


def _undone(repo: Repo, new: str) -> None:
    """Nothing names a merge that the branch did not take."""
    tags = [tag for tag, rev in repo.refs("refs/tags").items() if rev == new]
    repo.update_refs((refs.PROMOTING, ZERO, None), *((tag, ZERO, new) for tag in tags))


def mend(repo: Repo) -> str | None:
    """Put right a move that a kill cut off: undone if the branch had not moved yet, else complete but for
    what the caller adds. What it did, in words; None where nothing was cut off, or somebody is at it.

    Raises:
        BadState: another git process holds the index.
    """
    new = repo.resolve(refs.PROMOTING)
    if new is None:
        return None
    old = repo.checked_out()
    if repo.is_ancestor(new, old):
        return f"the promotion {new[:9]} was cut off after the branch had moved; it is complete now"
    if not repo.is_ancestor(old, new):
        return f"the promotion {new[:9]} was cut off, and the branch went another way; it is forgotten"
    _clear_stale_lock(repo)
    left = _roll_back(repo, old, new)
    _undone(repo, new)
    words = f"the promotion {new[:9]} was cut off before the branch moved; it is undone"
    return f"{words}, save {', '.join(left)}, changed since" if left else words


def uncommitted(repo: Repo) -> list[str]:
    """Tracked files of the project that differ from the checkout's commit."""
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=no")
    text = repo.run("status", *options, env={"GIT_OPTIONAL_LOCKS": "0"})
    inside = f"{repo.prefix}/" if repo.prefix else ""
    paths = (entry[3:] for entry in text.split("\0") if entry)
    return [path.removeprefix(inside) for path in paths if path.startswith(inside)]


def _blocked(what: str) -> CheckoutInTheWay:
    return CheckoutInTheWay(
        f"your uncommitted changes are in the way: {what}", "commit or stash them, then run: ar promote"
    )


def _changed(repo: Repo, old: str, new: str) -> dict[str, tuple[TreeEntry, TreeEntry]]:
    """Path, from the top of the working tree, to what two commits have there, where that differs."""
    before, after = (dict(files_below(repo.peel(rev, pygit2.Tree))) for rev in (old, new))
    both = {path: (before.get(path, _NOTHING), after.get(path, _NOTHING)) for path in before | after}
    return {path: (there, here) for path, (there, here) in both.items() if there != here}


def _in_the_way(repo: Repo, old: str, new: str) -> list[str]:
    """Paths that differ between two commits and hold something uncommitted."""
    env = {"GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")
    changed = _changed(repo, old, new)
    text = repo.run("status", *options, "--", *changed, env=env) if changed else ""
    return [entry[3:] for entry in text.split("\0") if entry]


def _roll_back(repo: Repo, old: str, new: str) -> list[str]:
    """Files and index entries that a cut-off move wrote, set back. Returns the paths left alone."""
    entries = {}
    for line in filter(None, repo.run("ls-files", "-s", "-z").split("\0")):
        meta, path = line.split("\t", 1)
        entries[path] = meta.split()[1]
    left: list[str] = []
    index: list[str] = []
    write: list[str] = []
    remove: list[str] = []
    for path, (before, after) in _changed(repo, old, new).items():
        found = _on_disk(repo, path)
        if found not in (before.blob, after.blob) and not _is_part(repo, path, after.blob):
            left.append(path)
            continue
        if entries.get(path, ZERO) == after.blob:
            index.append(f"{before.mode} {before.blob}\t{path}")
        if found != before.blob:
            (remove if before is _NOTHING else write).append(path)
    if index:
        repo.run("update-index", "-z", "--index-info", stdin=_ended_by_zero(index))
    if write:
        repo.run("checkout-index", "-f", "-z", "--stdin", stdin=_ended_by_zero(write))
    for path in remove:
        (repo.top / path).unlink(missing_ok=True)
    return left


def _on_disk(repo: Repo, path: str) -> str:
    """The blob that a file would be committed as; ZERO where there is none."""
    file = repo.top / path
    if file.is_symlink():
        return repo.run("hash-object", "--stdin", stdin=str(file.readlink()).encode())
    return repo.run("hash-object", "--", path) if file.is_file() else ZERO


def _is_part(repo: Repo, path: str, blob: str) -> bool:
    """Whether a file is missing, or the first part of a blob: what a kill amid writing leaves."""
    file = repo.top / path
    if not file.exists() and not file.is_symlink():
        return True
    content = repo.read_many([(blob, "")])[0]
    return content is not None and file.is_file() and content.startswith(file.read_bytes())


def _clear_stale_lock(repo: Repo) -> None:
    """Remove the index's lock file that a killed git left behind.

    Raises:
        BadState: a living git process may hold it.
    """
    import psutil

    lock = repo.top / repo.run("rev-parse", "--git-path", "index.lock")
    if not lock.exists():
        return
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "git" and Path(process.cwd()).is_relative_to(repo.top):
                raise BadState(f"git is at work here (process {process.pid})", "run the command again later")
    lock.unlink(missing_ok=True)
