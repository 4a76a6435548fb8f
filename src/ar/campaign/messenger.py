"""Takes notices to where somebody wants to have them: to a command, or by POST to a web address.

In a thread of its own, each within seconds: no failure, and no receiver that hangs, holds a campaign up.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from ar.campaign.notices import Notice
from ar.errors import ArError, NotFound
from ar.text import one_line

SECONDS = 15.0  # for one delivery
AT_THE_END = 20.0  # seconds for all that is still to be delivered
_MOST_WAITING = 100
_TOLD = 300  # bytes of what a command that failed said at last


class Undelivered(ArError):
    """A receiver did not take a notice."""


class Receiver(Protocol):
    @property
    def name(self) -> str:
        """What people know it by; nothing secret."""
        ...

    def take(self, notice: Notice, seconds: float) -> None:
        """Be given a notice.

        Raises:
            Undelivered: it was not taken within that time.
        """


@dataclass(frozen=True)
class Command:
    """A command of the user's. It is given the notice as JSON on its standard input, and its fields in
    `AR_…`."""

    words: tuple[str, ...]
    folder: Path

    @property
    def name(self) -> str:
        return Path(self.words[0]).name

    def take(self, notice: Notice, seconds: float) -> None:
        fields = notice.fields()
        env = {**os.environ, **{f"AR_{key.upper()}": str(value) for key, value in fields.items()}}
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    self.words,
                    cwd=self.folder,
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,  # Ctrl-C is not meant for it
                )
            except OSError as error:
                raise Undelivered(error.strerror or str(error)) from None
            try:
                process.communicate(json.dumps(fields).encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise Undelivered(f"not done after {seconds:g} s") from None
            if process.returncode:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _TOLD))
                words = one_line(said.read().decode(errors="replace"))
                raise Undelivered(f"exited with {process.returncode}{f': {words}' if words else ''}")


class _Here(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else than where the user said."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Webhook:
    """An address that takes a notice as JSON by POST. The address itself may be a secret."""

    url: str

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or ""

    def take(self, notice: Notice, seconds: float) -> None:
        body = json.dumps(notice.fields()).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "ar"}
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - see `receiver`
        try:
            with urllib.request.build_opener(_Here).open(request, timeout=seconds):
                pass
        except urllib.error.HTTPError as error:
            raise Undelivered(f"it answered {error.code}") from None
        except urllib.error.URLError as error:
            raise Undelivered(one_line(str(error.reason))) from None
        except (OSError, HTTPException, ValueError) as error:
            raise Undelivered(type(error).__name__) from None


def receiver(text: str, folder: Path) -> Receiver:
    """Whom the user means: a web address, or a command as one types it.

    Args:
        folder: where a command runs.

    Raises:
        NotFound: it is neither.
    """
    if text.startswith(("http://", "https://")):
        with contextlib.suppress(ValueError):
            place = urlsplit(text)
            if place.hostname and place.port != 0 and "@" not in place.netloc:
                return Webhook(text)
        raise NotFound("this is no web address to notify", "give it as https://HOST/PATH")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise NotFound(f"the command to notify by cannot be read: {error}", "close its quotes") from None
    if not words or shutil.which(words[0]) is None:
        what = f"there is no command '{words[0]}'" if words else "the command to notify by is empty"
        raise NotFound(what, "name a command that can be run, or an https:// address")
    return Command(words, folder)


class Messenger:
    """Delivers notices one after the other, for the length of a `with` block, and some seconds at its end."""

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = receivers
        self._waiting: queue.Queue[Notice | None] = queue.Queue(_MOST_WAITING)
        self._failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="notices")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + AT_THE_END
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=AT_THE_END)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def send(self, notice: Notice) -> None:
        """Have a notice delivered soon; where too many wait, not."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(notice)

    def failures(self) -> Iterator[str]:
        """What went wrong since the last time."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._failures.get_nowait()

    def _work(self) -> None:
        while (notice := self._waiting.get()) is not None:
            for one in self._receivers:
                try:
                    one.take(notice, SECONDS)
                except Undelivered as error:
                    self._failures.put(f"{one.name} was not notified: {error.message}")
                except Exception as error:  # whatever it is, it is no reason to end
                    self._failures.put(f"{one.name} was not notified: {type(error).__name__}")
