"""One project inside one git repository: the handle that everything else is given.

`Objects`, `References` and `Notes` are its layers. Each needs those below it and keeps a cache of its own;
they inherit, so that whoever has the handle says `repo.read(…)` or `repo.note(…)` and need not know which
layer answers. Nothing here touches the user's working tree, index or stash; `worktree.py` brings those
forward. Paths are relative to the project's root (the folder with `.dvc`), which may lie below the top of the
git repository.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ar.errors import NotARepo, writing
from ar.git import command
from ar.git.command import GitFailed
from ar.git.notes import Notes


class Repo(Notes):
    """A project's repository, with what only git's own commands do to it."""

    @classmethod
    def open(cls, start: Path | None = None) -> Repo:
        """The project that `start` (default: the working directory) lies in.

        Raises:
            NotARepo: outside git, before the first commit, or without DVC.
        """
        here = (start or Path.cwd()).resolve()
        try:
            top, common = command.run(here, "rev-parse", "--show-toplevel", "--git-common-dir").splitlines()
        except GitFailed:
            raise NotARepo(f"{here} is not inside a git repository", "run: git init && dvc init") from None
        root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
        if root is None or not root.is_relative_to(top):
            raise NotARepo(f"no DVC project in {here} or above it", "run: dvc init")
        repo = cls(root, Path(top), (here / common).resolve())
        if repo.resolve("HEAD") is None:
            raise NotARepo("the git repository has no commit yet", "run: git add -A && git commit -m 'Start'")
        return repo

    def diff(self, old: str, new: str, exclude: Sequence[str] = (), stat: bool = False) -> str:
        """What changed between two commits, as a patch or as a `--stat`."""
        inside = [self.path("."), *(f":(exclude,literal){self.path(path)}" for path in exclude)]
        options = ["--no-color", "--no-ext-diff", *(["--stat"] if stat else []), "--end-of-options"]
        return self.run("diff", *options, old, new, "--", *inside)

    def is_dirty(self) -> bool:
        """Whether tracked files differ from HEAD, in the index or the working tree."""
        return bool(
            self.run("status", "--porcelain", "--untracked-files=no", env={"GIT_OPTIONAL_LOCKS": "0"})
        )

    @contextlib.contextmanager
    def own_index(self, base: str | None = None) -> Iterator[dict[str, str]]:
        """An index beside the user's: the environment in which git uses it.

        Args:
            base: what it holds at first; None for the state of the user's own index.
        """
        with tempfile.TemporaryDirectory(prefix="ar-index-", dir=self.own_folder()) as folder:
            path = Path(folder) / "index"
            env = {"GIT_INDEX_FILE": str(path)}
            if base is not None:
                self.run("read-tree", f"{base}^{{tree}}", env=env)
            else:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy2(self.top / self.run("rev-parse", "--git-path", "index"), path)
            yield env

    def merge_text(
        self, ours: bytes, base: bytes, theirs: bytes, labels: tuple[str, str, str]
    ) -> tuple[bytes, bool]:
        """Three versions of a file merged by lines, and whether they merge; where not, with conflict markers
        that show all three, labelled in the order of the arguments.
        """
        with tempfile.TemporaryDirectory(prefix="ar-merge-", dir=self.own_folder()) as folder:
            files = [Path(folder) / name for name in ("ours", "base", "theirs")]
            for file, content in zip(files, (ours, base, theirs), strict=True):
                file.write_bytes(content)
            names = [word for label in labels for word in ("-L", label)]
            try:
                self.run("merge-file", "--quiet", "--diff3", *names, *map(str, files))
                clean = True
            except GitFailed:
                clean = False
            return files[0].read_bytes(), clean

    def own_folder(self) -> Path:
        """Where `ar` keeps what is this machine's alone: locks, logs, what is in the making.

        Raises:
            BadState: it cannot be made.
        """
        folder = self.git_dir / "ar"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        return folder
