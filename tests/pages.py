"""A page that is served for a test, in a thread of its own, and what asks it."""

from __future__ import annotations

import http.client
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from helpers import commit
from synthetic import DISCARDED, Made, write
from test_outputs import SCRIPT, plant

from ar.git.repo import Repo
from ar.history import notebook
from ar.history.notebook import Entry
from ar.history.records import History
from ar.page.app import bind, build, server_of
from ar.page.guard import Gate
from ar.serve.desk import Desk

SECRET = "0.734512"  # the holdout's value in a run of the attempt `bad`
PROGRAM = """\
---
objective: {metric: "m.json:val_loss", direction: minimize}
guards:
  - {metric: "c.yaml:cost", direction: minimize}
holdout: "m.json:test_loss"
seed: seed
scope: {files: [fit.awk], params: [x, y]}
budget: {runs: 200, timeout: 60s}
---
Find the floor of the bowl.
"""
PROMOTED = {"decision": "promote", "reason": "Better.", "effect": -1.0, "standard_error": 0.01, "runs": 2}


def history_of(root: Path) -> History:
    with Desk(root).campaign() as campaign:
        return campaign.history()


def short_campaign(template: Path, root: Path) -> Path:
    """A project with a holdout and a short history, an attempt of which is as bad as it can be."""
    shutil.copytree(template, root, symlinks=True)
    (root / "program.md").write_text(PROGRAM)
    commit(root, "Add programme")
    bases = [Made(value=2.3 + seed / 100, seed=seed) for seed in (1, 2, 3)]
    tries = [Made(x, 2.0 + x / 10, seed=1, agent="optuna", verdict=DISCARDED) for x in (1.7, 1.8)]
    tries += [Made(2.5, 1.5, agent="claude", verdict=PROMOTED), Made(2.9, None, agent="claude")]
    write(root, [*bases, *tries])
    repo = Repo.open(root)
    plant(repo, "bad", {"test_loss": float(SECRET), "val_loss": 1.25}, f"\ntest_loss {SECRET}\n")
    notebook.write(repo, history_of(root), Entry("me", f"Of it {SCRIPT}: {SECRET} came.", cites=("bad",)))
    return root


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    text: str


class Served:
    """The page of a project."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.root = root
        self._bound = bind("127.0.0.1", 0)
        self.port: int = self._bound.getsockname()[1]
        self.links: list[str] = []
        self.gate = Gate("127.0.0.1", self.port, announce=self.links.append)
        self.server = server_of(build(root, self.gate, **more))
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._bound]})

    def __enter__(self) -> Self:
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.server.should_exit = True
        self._thread.join(20)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cookie(self) -> dict[str, str]:
        return {"Cookie": f"{self.gate.cookie}={self.gate.session}"}

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str | list[str]] | None = None,
        body: str = "",
        known: bool = True,
    ) -> Answer:
        """One request, its path as it is given.

        Args:
            known: bring the cookie.
        """
        sent: dict[str, Any] = {
            "Host": f"127.0.0.1:{self.port}",
            **(self.cookie if known else {}),
            **(headers or {}),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body:
            sent["Content-Length"] = str(len(body.encode()))
        for name, value in sent.items():
            for one in value if isinstance(value, list) else [value]:
                connection.putheader(name, one)
        connection.endheaders(body.encode())
        found = connection.getresponse()
        text = found.read().decode()
        answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, text)
        connection.close()
        return answer

    def events(self, path: str, count: int) -> list[tuple[str, str]]:
        """The first events of a stream: name and data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=self.cookie)
        stream = connection.getresponse()
        assert stream.status == 200
        found: list[tuple[str, str]] = []
        name, data = "", []
        until = time.monotonic() + 60
        while len(found) < count:
            assert time.monotonic() < until, found
            line = stream.readline().decode().rstrip("\n")
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif not line and name:
                found.append((name, "\n".join(data)))
                name, data = "", []
        connection.close()
        return found
