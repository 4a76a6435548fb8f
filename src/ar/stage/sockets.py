"""Sockets of the machine's own servers, which a stage must not reach through a folder that it is shown: to
connect to one, that its folder is read-only does not matter.

Standard library only: the launcher uses it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ar.stage.processes import contents
from ar.stage.snapshot import inside

_BINDS = ("--bind", "--ro-bind", "--ro-bind-try", "--dev-bind")


def masks(sandbox: Sequence[str]) -> list[str]:
    """Options for bubblewrap by which nothing answers where a server listens now.

    Args:
        sandbox: bubblewrap with its arguments so far.
    """
    shown = [
        (os.path.realpath(sandbox[at + 1]), sandbox[at + 2])
        for at, word in enumerate(sandbox[:-2])
        if word in _BINDS
    ]
    found = []
    for path in _listening():
        for source, place in shown:
            if inside(path, [source]):
                found += ["--ro-bind", "/dev/null", place + path[len(source) :]]
    return found


def _listening() -> Iterator[str]:
    """Real paths of sockets that are bound to one; those bound to a relative path do not say where it is."""
    with contextlib.suppress(OSError):
        for line in contents("/proc/net/unix").splitlines()[1:]:
            path = line[line.find("/") :] if "/" in line else ""
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if path and os.path.lexists(real):
                yield real
