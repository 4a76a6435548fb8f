"""Forks of one Python that has loaded `ar` and DVC: a command costs what it does, not what it imports.

A fork is a process of its own, as is one that was started anew: what it leaves in memory is gone with it.
Only commands in the environment that the tests began with are forked, so that nothing of the server shows.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

LOADED = (
    "celery.app.events",
    "celery.backends.filesystem",
    "celery.canvas",
    "dulwich.worktree",
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.tasks",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.plots",
    "dvc.repo.stage",
    "dvc_task.app",
    "kombu.transport.filesystem",
    "networkx",
    "scipy.stats",
)
AR = (sys.executable, "-m", "ar")
SECONDS = 240


class Server:
    """Starts when the first command asks for it, and ends with this process.

    Args:
        environment: what it starts in, and the only one in which its forks run.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = _lasting(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._far = socket.socketpair()
        self._lock = threading.Lock()

    def may_run(self, args: Sequence[str], kwargs: Mapping[str, object]) -> bool:
        """Whether a command does the same in a fork: of `ar`, or of DVC."""
        known = tuple(args[:3]) == AR or args[0] == "dvc"
        return known and not kwargs.keys() - {"input"} and _lasting(os.environ) == self.environment

    def run(self, folder: Path, args: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
        """A command in a folder, with a text as its standard input."""
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            streams[0].write(given)
            streams[0].seek(0)
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.settimeout(SECONDS)
            with self._lock, theirs:
                self._start()
                socket.send_fds(self._control, [b"-"], [*(one.fileno() for one in streams), theirs.fileno()])
            ours.sendall(json.dumps([str(folder), *args]).encode())
            ours.shutdown(socket.SHUT_WR)
            code = int(ours.recv(16))
            for stream in streams:
                stream.seek(0)
            return subprocess.CompletedProcess(list(args), code, streams[1].read(), streams[2].read())

    def _start(self) -> None:
        if self._process is None:
            with self._far as far:
                command = [sys.executable, __file__, str(far.fileno())]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, env=self.environment, pass_fds=[far.fileno()]
                )

    def close(self) -> None:
        self._control.close()
        self._far.close()
        if self._process is not None:
            self._process.wait()


server: Server | None = None  # of this session


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what pytest changes from test to test."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}


# -- the server's own process -----------------------------------------------------------------------------


def _serve(control: socket.socket) -> None:
    """Fork for each command, until whoever sends them is gone."""
    _load()
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not word:
            return
        if os.fork() == 0:
            control.close()
            _answer(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):  # the forks that are done
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _load() -> None:
    import ar

    del sys.path[0]  # this folder
    for module in pkgutil.walk_packages(ar.__path__, "ar."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in LOADED:
        import_module(name)
    gc.freeze()


def _answer(stdin: int, stdout: int, stderr: int, connection: int) -> NoReturn:
    """Run the command in a child, and send its exit status."""
    with socket.socket(fileno=connection) as asked, asked.makefile("r") as command:
        folder, *args = json.load(command)
        child = os.fork()
        if child == 0:
            asked.close()
            for place, stream in enumerate((stdin, stdout, stderr)):
                os.dup2(stream, place)
                os.close(stream)
            _become(folder, *args)
        _, status = os.waitpid(child, 0)
        asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(folder: str, program: str, *args: str) -> NoReturn:
    """Be what a process with these arguments would be, and end as it would."""
    os.chdir(folder)
    code = 1
    try:
        if program == "dvc":
            sys.argv = [str(Path(sys.executable).with_name("dvc")), *args]
            code = import_module("dvc.cli").main()
        else:
            sys.path.insert(0, folder)
            sys.argv = ["ar", *args[2:]]
            runpy.run_module("ar", run_name="__main__", alter_sys=True)
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:  # as the interpreter does
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
