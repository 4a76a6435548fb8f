"""Forks of one Python that has loaded `ar` and DVC: a command costs what it does, not what it imports.

A fork is a process of its own, as is one that was started anew: what it leaves in memory is gone with it, and
a worker that it starts is a fork of the same Python, not of it. Only commands in the environment that the
tests began with are forked, so that nothing of the server shows.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, NoReturn

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
SECONDS = 240


class Fork:
    """A command in a fork, as far as its caller sees it."""

    def __init__(
        self,
        control: socket.socket,
        args: Sequence[str],
        streams: Sequence[int],
        folder: Path,
        environment: Mapping[str, str],
        leads: bool = False,
    ) -> None:
        asked = {"args": args, "folder": str(folder), "environment": dict(environment), "leads": leads}
        self._answers, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [b"-"], [*streams, theirs.fileno()])
        self._answers.sendall(json.dumps(asked).encode())
        self._answers.shutdown(socket.SHUT_WR)
        self._lines = self._answers.makefile("r")
        self.pid = int(self._lines.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, as of `subprocess.Popen`."""
        self._answers.settimeout(timeout)
        try:
            return int(self._lines.readline())
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Server:
    """Starts when the first command asks for it, and ends with this process.

    Args:
        environment: what it starts in, and the only one in which commands are forked.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = _lasting(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._far = socket.socketpair()
        self._lock = threading.Lock()

    def run(
        self,
        folder: Path,
        args: Sequence[str],
        given: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> subprocess.CompletedProcess[str] | None:
        """A command in a folder, with a text as its standard input; None if it is not one to be forked."""
        known = args[0] == "dvc" or tuple(args[:3]) == (sys.executable, "-m", "ar")
        known = known or (tuple(args[:2]) == (sys.executable, "-c") and len(args) == 3)
        if not known or _lasting(environment) != self.environment:
            return None
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            streams[0].write(given)
            streams[0].seek(0)
            with self._lock:
                self._start()
            numbers = [stream.fileno() for stream in streams]
            code = Fork(self._control, args, numbers, folder, environment).wait(SECONDS)
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
    """Without what pytest changes from test to test, `ar` when it first uses DVC, and where models answer."""
    passing = ("PYTEST_", "DVC_SITE_CACHE_DIR", "ANTHROPIC_")
    return {name: value for name, value in environment.items() if not name.startswith(passing)}


# -- the server's own process -----------------------------------------------------------------------------


def _serve(control: socket.socket) -> None:
    """Fork for each command, until the tests are over."""
    _load()
    of_forks, to_server = socket.socketpair()
    while True:
        asking = select.select([control, of_forks], [], [])[0][0]
        word, descriptors, _, _ = socket.recv_fds(asking, 1, 4)
        if not word:
            return
        if os.fork() == 0:
            control.close()
            of_forks.close()
            _answer(to_server, *descriptors)
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


def _answer(to_server: socket.socket, stdin: int, stdout: int, stderr: int, caller: int) -> NoReturn:
    """Run the command in a child; send its process id, and its exit status."""
    with socket.socket(fileno=caller) as answers, answers.makefile("r") as question:
        asked = json.load(question)
        child = os.fork()
        if child == 0:
            for place, stream in enumerate((stdin, stdout, stderr)):
                os.dup2(stream, place)
            for descriptor in (stdin, stdout, stderr, caller):
                os.close(descriptor)
            if asked["leads"]:
                os.setsid()
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["folder"])
            _become(to_server, *asked["args"])
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        answers.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):  # the caller may be gone
            answers.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(to_server: socket.socket, program: str, *args: str) -> NoReturn:
    """Be what a process with these arguments would be, and end as it would."""
    _let_pool_fork(to_server)
    code: object = 1
    try:
        code = _dvc(*args) if program == "dvc" else _python(*args)
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _dvc(*args: str) -> object:
    sys.argv = [str(Path(sys.executable).with_name("dvc")), *args]
    return import_module("dvc.cli").main()


def _python(*given: str) -> int:
    is_safe = given[0] == "-P"
    option, what, *args = given[is_safe:]
    sys.argv = [option, *args]
    if option == "-c":
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(what, main.__dict__)
    else:
        if not is_safe:
            sys.path.insert(0, str(Path.cwd()))
        if what != "ar":
            del sys.modules[what]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    return 0


def _let_pool_fork(to_server: socket.socket) -> None:
    """Let the workers of an `ar run` be forked from here as well."""

    class Worker(Fork):
        def __init__(
            self, args: Sequence[str], stdin: int, stdout: int, stderr: IO[bytes], start_new_session: bool
        ) -> None:
            assert stdin == stdout == subprocess.PIPE
            (given, told), (heard, said) = os.pipe(), os.pipe()
            streams = [given, said, stderr.fileno()]
            super().__init__(to_server, args, streams, Path.cwd(), os.environ, start_new_session)
            os.close(given)
            os.close(said)
            self.stdin, self.stdout = os.fdopen(told, "wb"), os.fdopen(heard, "rb")

    names = {name: getattr(subprocess, name) for name in ("PIPE", "TimeoutExpired")}
    import_module("ar.runs.pool").subprocess = SimpleNamespace(**names, Popen=Worker)  # type: ignore[attr-defined]


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
