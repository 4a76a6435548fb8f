"""What tests of the tool share: a command in a folder, git in one line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Ar = Callable[..., subprocess.CompletedProcess[str]]


def run(folder: Path, *args: str, check: bool = True, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """A command in a folder; what it printed is in the failure."""
    done = subprocess.run(args, cwd=folder, capture_output=True, text=True, timeout=240, **kwargs)  # type: ignore[call-overload]
    if check and done.returncode:
        raise AssertionError(f"{args} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done  # type: ignore[no-any-return]


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and mtimes of the working tree and of git's index, without DVC's and git's own stores."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in _user_files(root)}


def _user_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        store = parts[0] == ".git" or parts[:2] in ((".dvc", "tmp"), (".dvc", "cache"))
        if path.is_file() and not store:
            yield path
    yield root / ".git" / "index"


def git(folder: Path, *args: str) -> str:
    """What a git command printed."""
    return run(folder, "git", *args).stdout.strip()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until another thread or process has brought something about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.005)


def commit(folder: Path, message: str) -> None:
    """Commit all that changed or is new."""
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", message)


def swap(text: str, old: str, new: str) -> str:
    """A text with one part replaced, which must stand in it exactly once."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in\n{text}"
    return text.replace(old, new)


def edit(path: Path, old: str, new: str) -> None:
    """Replace one part of a file, which must stand in it exactly once."""
    path.write_text(swap(path.read_text(), old, new))
