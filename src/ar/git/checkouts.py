"""The user's checkout as a tree: what they changed and did not commit, while it stays where it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ar.errors import BadProposal
from ar.git.repo import GitFailed, Repo

# Nothing of the user's own set-up runs when we look: no hook, no file watcher.
_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


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
            repo.run(*_QUIET, "update-index", "-q", "--refresh", env=env)
        tracked = _names(
            repo.run(*_QUIET, "diff-index", "-z", "--name-only", "--no-renames", "HEAD", env=env)
        )
        listing = ["ls-files", "-z", "--others", "--exclude-standard"]
        untracked = _names(repo.run(*_QUIET, *listing, env=env))
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
    names = "".join(f"{path}\0" for path in taken).encode(errors="surrogateescape")
    with repo.own_index("HEAD") as env:
        options = ["-z", "--add", "--remove", "--replace", "--stdin"]
        repo.run(*_QUIET, "update-index", *options, stdin=names, env=env)
        tree = repo.run("write-tree", env=env)
    return tree, [path for path in tracked if path not in taken]


def _names(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]
