"""A folder with the baseline's files for a program to change as it likes, and what it changed there.

The folder lies outside of the project and has a small git repository of its own, for the program's
convenience only: what was changed is found by comparing the files themselves with the baseline's tree.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ar.changes.proposal import MAX_FILE_BYTES
from ar.errors import BadProposal
from ar.git.command import GitFailed
from ar.git.objects import TreeEntry
from ar.git.repo import Repo

BRIEFING = ".ar-briefing.md"
CLAIM = ".ar-working-on"  # where the program says what it is about to work on
CAMPAIGN = ".ar-campaign"  # the folder of earlier experiments
_OURS = (BRIEFING, CLAIM, CAMPAIGN)
MAX_FILES = 200_000
_LINK, _SUBMODULE = "120000", "160000"
_MOST_CLAIM = 1_000  # bytes
_BATCH = 500  # files read from git at a time
_NOT_OURS = {".git", "__pycache__"}


class Checkout:
    """A checkout for one question; it disappears with this object.

    Args:
        leave_out: files of the baseline that the program is not to see.
    """

    def __init__(self, repo: Repo, base: str, leave_out: Callable[[str], bool]) -> None:
        self.repo = repo
        self.base = base
        self._home = tempfile.TemporaryDirectory(prefix="ar-agent-", ignore_cleanup_errors=True)
        self.home = Path(self._home.name).resolve()
        self.folder = self.home / "checkout"
        files = repo.files(base)
        self.files = {
            path: entry for path, entry in files.items() if entry.mode != _SUBMODULE and not leave_out(path)
        }
        self._unpack()
        self._start_repository()

    def _unpack(self) -> None:
        self.folder.mkdir(mode=0o700)
        paths = list(self.files)
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            contents = self.repo.read_many([(self.base, path) for path in batch])
            for path, content in zip(batch, contents, strict=True):
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if self.files[path].mode == _LINK:
                    target.symlink_to(os.fsdecode(content or b""))
                else:
                    target.write_bytes(content or b"")
                    target.chmod(0o755 if self.files[path].mode == "100755" else 0o644)

    def _start_repository(self) -> None:
        """Commit the files, whatever the user's own settings, hooks and templates are."""
        settings = ("core.hooksPath=/dev/null", "core.autocrlf=false", "commit.gpgsign=false")
        who = ("user.name=ar", "user.email=ar@localhost")
        common = ["-C", str(self.folder), *(word for item in (*settings, *who) for word in ("-c", item))]
        self.repo.run(*common, "init", "-q", "--template=")
        self.repo.run(*common, "add", "--all", "--force", ".")
        self.repo.run(*common, "commit", "-q", "--allow-empty", "-m", "Baseline")
        (self.folder / ".git" / "info").mkdir(exist_ok=True)
        (self.folder / ".git" / "info" / "exclude").write_text("".join(f"/{name}\n" for name in _OURS))

    def tree(self, check: Callable[[str], None], drop: Callable[[str], bool]) -> str:
        """The baseline's tree with the files as they are now. What git ignores counts only where the baseline
        has it.

        Args:
            check: called with every path that differs, before its content is looked at; may raise.
            drop: paths whose changes do not count.

        Raises:
            BadProposal: a file is too long, or no regular file.
        """
        present = {path: info for path, info in self._walk() if not drop(path)}
        deleted = dict.fromkeys(path for path in self.files if path not in present and not drop(path))
        ignored = set(self._ignored([path for path in present if path not in self.files]))
        differing = {
            path: info
            for path, info in present.items()
            if path not in ignored and not self._is_same(path, info, self.files.get(path))
        }
        for path in (*deleted, *differing):
            check(path)
        changed = {path: self._entry(path, info) for path, info in differing.items()}
        return self.repo.write_tree(self.base, {**deleted, **changed})

    @property
    def claimed(self) -> str:
        """What the program says that it is about to work on; empty while it says nothing."""
        with contextlib.suppress(OSError):
            found = os.open(self.folder / CLAIM, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(found, "rb") as stream:
                if stat.S_ISREG(os.fstat(found).st_mode):
                    return stream.read(_MOST_CLAIM).decode(errors="replace").strip()
        return ""

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Path and `lstat` of everything that is not a folder. Links are not followed."""
        folders, count = [""], 0
        while folders:
            folder = folders.pop()
            with os.scandir(self.folder / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.name in _NOT_OURS or path in _OURS:
                        continue
                    count += 1
                    if count > MAX_FILES:
                        raise BadProposal(f"there are more than {MAX_FILES} files", "make a smaller change")
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{path}/")
                    else:
                        yield path, entry.stat(follow_symlinks=False)

    def _is_same(self, path: str, info: os.stat_result, known: TreeEntry | None) -> bool:
        if known is None or _mode(info) != known.mode:
            return False
        with io.BytesIO(self._target(path)) if known.mode == _LINK else self._open(path) as stream:
            return _blob(stream, info.st_size) == known.blob

    def _entry(self, path: str, info: os.stat_result) -> TreeEntry:
        """What is in a file now, in git."""
        mode = _mode(info)
        try:
            path.encode()
        except UnicodeEncodeError:
            raise BadProposal(f"the file name {path!r} is not UTF-8", "choose a plain name") from None
        if mode == _LINK:
            return TreeEntry(mode, self.repo.write_blob(self._target(path)))
        if not mode:
            raise BadProposal(f"{path} is no regular file", "change regular files only")
        with self._open(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise BadProposal(f"{path} is longer than {MAX_FILE_BYTES} bytes", "make a smaller change")
        return TreeEntry(mode, self.repo.write_blob(content))

    def _target(self, path: str) -> bytes:
        return os.fsencode(os.readlink(self.folder / path))  # noqa: PTH115 - a Path would tidy it up

    def _open(self, path: str) -> io.BufferedReader:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.fdopen(os.open(self.folder / path, flags), "rb")
        except OSError as error:
            raise BadProposal(f"{path} cannot be read: {error.strerror}", "leave it readable") from None

    def _ignored(self, paths: list[str]) -> list[str]:
        """Those of the paths that git is told to ignore, by the folder's rules and the user's own."""
        if not paths:
            return []
        where = ("-C", str(self.folder), f"--git-dir={self.repo.git_dir}", "--work-tree=.")
        names = "".join(f"{path}\0" for path in paths).encode(errors="surrogateescape")
        try:
            text = self.repo.run(*where, "check-ignore", "-z", "--stdin", "--no-index", stdin=names)
        except GitFailed as error:
            if error.said:
                raise
            return []  # it exits with 1 where there is none
        return [name for name in text.split("\0") if name]


def _mode(info: os.stat_result) -> str:
    """As git has it; empty for what git cannot hold."""
    if stat.S_ISLNK(info.st_mode):
        return _LINK
    if not stat.S_ISREG(info.st_mode):
        return ""
    return "100755" if info.st_mode & stat.S_IXUSR else "100644"


def _blob(stream: io.BytesIO | io.BufferedReader, size: int) -> str:
    """The id that git gives to a content."""
    begun = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    return hashlib.file_digest(stream, lambda: begun).hexdigest()
