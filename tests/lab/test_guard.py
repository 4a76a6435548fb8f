"""The guard's rules, asked directly: an armed hook cannot be taken back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.guard import Guard, RefusedError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with shards, a private folder and links between them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/val.bin").write_bytes(b"x")
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to("shards")
    (tmp_path / "other").symlink_to("shards/val.bin")
    return tmp_path


READ, WRITE = os.O_RDONLY, os.O_WRONLY | os.O_CREAT


@pytest.mark.parametrize(
    ("event", "args", "allowed"),
    [
        ("open", ("shards/val.bin", "r", READ), False),
        ("open", ("link/val.bin", "r", READ), False),
        ("open", (b"other", "r", READ), False),
        ("open", ("own/../shards/new", "r", READ), False),
        ("open", (f"/proc/{os.getppid()}/mem", "r", READ), False),
        ("open", ("/etc/hostname", "r", READ), True),
        ("open", (3, "r", READ), True),
        ("open", ("own/file", "w", WRITE), True),
        ("open", ("/dev/null", "w", WRITE), True),
        ("open", ("metrics.json", None, WRITE), False),
        ("os.rename", ("own/x", "metrics.json", -1, -1), False),
        ("os.rename", ("own/x", "own/y", -1, -1), True),
        ("os.link", ("shards/val.bin", "own/x", -1, -1), False),
        ("os.remove", ("shards/val.bin", -1), False),
        ("subprocess.Popen", ("cp", [], None, None), False),
        ("os.fork", (), False),
        ("socket.connect", (None, ("127.0.0.1", 80)), False),
        ("ctypes.dlopen", ("libc.so.6",), False),
        ("import", ("json", None, None, None, None), True),
    ],
)
def test_rules(place: Path, event: str, args: tuple[Any, ...], allowed: bool) -> None:
    told: list[str] = []
    guard = Guard(place / "shards", place / "own", False, told.append)
    if allowed:
        guard.hook(event, args)
        assert not told
    else:
        with pytest.raises(RefusedError):
            guard.hook(event, args)
        assert len(told) == 1


def test_compiling_may_start_processes_and_keep_a_cache_outside(place: Path) -> None:
    guard = Guard(place / "shards", place / "own", True, lambda reason: None)
    guard.hook("subprocess.Popen", ("gcc", [], None, None))
    guard.hook("open", (str(place.parent / "cache"), "w", WRITE))
    for path in ("metrics.json", "shards/val.bin"):
        with pytest.raises(RefusedError):
            guard.hook("open", (path, "w", WRITE))
