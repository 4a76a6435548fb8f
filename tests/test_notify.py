"""`ar run --notify`: what is told, to whom, and that no receiver can hold a campaign up."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers import Ar
from histories import GUARD, PROGRAM, attempt
from judged import WIN, tried
from test_outputs import EVIL

from ar.campaign import messenger
from ar.campaign.messenger import Messenger, Undelivered, Webhook, receiver
from ar.campaign.notices import STORM, Notice, NoticeKind, Watch
from ar.errors import NotFound
from ar.history.records import Attempt, History, Note
from ar.project.program import Metric

NOTICE = Notice(NoticeKind.PROMOTED, "p: promoted x", "p", "x", "x 1 → 2", "−0.1", level="2.1", attempts=3)


class Hook(http.server.BaseHTTPRequestHandler):
    """A web address that remembers what it was sent, and answers as its server says."""

    received: ClassVar[list[tuple[str, dict[str, Any]]]]

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.received.append((self.path, json.loads(body)))
        if self.path == "/hang":
            server.released.wait(60)
        self.send_response(302 if self.path == "/away" else 500 if self.path == "/broken" else 204)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Any]:
    """A real server on the loopback interface."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.received, server.released = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _script(folder: Path, text: str) -> str:
    path = folder / "tell.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# -- receivers --------------------------------------------------------------------------------------------


def test_a_web_address_is_sent_all_fields_as_json(hook: Any) -> None:
    Webhook(f"{hook.url}/ok").take(NOTICE, 10)
    ((path, body),) = hook.received
    assert path == "/ok" and body == {**NOTICE.to_json(), "reason": "", "promoted": 0}


@pytest.mark.parametrize("path", ["/broken", "/away"])
def test_a_web_address_that_does_not_take_it_is_said_and_followed_nowhere(hook: Any, path: str) -> None:
    with pytest.raises(Undelivered):
        Webhook(f"{hook.url}{path}").take(NOTICE, 10)
    assert [where for where, _ in hook.received] == [path]


def test_a_web_address_that_hangs_or_is_not_there(hook: Any) -> None:
    with pytest.raises(Undelivered):
        Webhook(f"{hook.url}/hang").take(NOTICE, 0.2)
    with pytest.raises(Undelivered):
        Webhook("http://127.0.0.1:1/").take(NOTICE, 5)


def test_a_command_has_the_fields_and_no_shell(tmp_path: Path) -> None:
    script = _script(tmp_path, 'printf "%s|%s|%s" "$AR_KIND" "$AR_TITLE" "$1" > env; cat > in')
    odd = replace(NOTICE, title=EVIL)
    receiver(f"'{script}' '$(touch obeyed); `touch obeyed`'", tmp_path).take(odd, 10)
    assert (tmp_path / "env").read_text() == f"promoted|{EVIL}|$(touch obeyed); `touch obeyed`"
    assert json.loads((tmp_path / "in").read_text()) == odd.fields()
    assert not (tmp_path / "obeyed").exists()


def test_a_command_that_fails_or_hangs(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="7: no such channel"):
        receiver(_script(tmp_path, "echo no such channel >&2; exit 7"), tmp_path).take(NOTICE, 10)
    with pytest.raises(Undelivered):
        receiver(_script(tmp_path, "echo $$ > pid; sleep 60"), tmp_path).take(NOTICE, 0.3)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("text", ["", "no-such-command-here", "'open", "https://", "http://user:key@host/x"])
def test_who_cannot_be_notified_is_refused_at_once(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotFound) as caught:
        receiver(text, tmp_path)
    assert "key" not in str(caught.value)


def test_the_name_of_a_receiver_holds_no_secret(tmp_path: Path) -> None:
    assert receiver("https://hooks.example.org/T0/secret?key=1", tmp_path).name == "hooks.example.org"
    assert receiver("/bin/cat --token secret", tmp_path).name == "cat"


# -- delivery ---------------------------------------------------------------------------------------------


def test_a_receiver_that_hangs_holds_nobody_up(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger, "SECONDS", 60.0)
    monkeypatch.setattr(messenger, "AT_THE_END", 0.2)
    with Messenger([Webhook(f"{hook.url}/hang")]) as sending:
        for _ in range(1000):
            sending.send(NOTICE)
    assert not hook.released.is_set()  # we came here without its answer


def test_failures_are_told_once_and_the_next_receiver_is_served(hook: Any) -> None:
    with Messenger([Webhook(f"{hook.url}/broken"), Webhook(f"{hook.url}/ok")]) as sending:
        sending.send(NOTICE)
        sending.send(NOTICE)
    assert [path for path, _ in hook.received] == ["/broken", "/ok"] * 2
    told = list(sending.failures())
    assert len(told) == 2 and all("127.0.0.1" in line and "500" in line for line in told)
    assert list(sending.failures()) == []


# -- what is told -----------------------------------------------------------------------------------------


def _history(*attempts: Attempt) -> History:
    return History("a" * 40, f"{0:016x}", (attempt(0, 2.2, "baseline"), *attempts), 0.014)


def _crashed(count: int, good: Sequence[int] = ()) -> History:
    runs = []
    for number in range(1, count + 1):
        made = attempt(number, 2.3 if number in good else None, "discarded" if number in good else "crashed")
        note = Note(made.first.status, reason=f"exited with {number}", finished=float(number))
        runs.append(replace(made, experiments=(replace(made.first, note=note),)))
    return _history(*runs)


def test_a_promotion_is_told_once() -> None:
    watch = Watch(PROGRAM, "p")
    old, new = attempt(1, 2.1, "promoted"), attempt(2, 2.0, "promoted", title="Halve the batch")
    watch.begin(_history(old))
    (notice,) = watch.look(_history(old, new))
    assert (notice.kind, notice.name, notice.title) == (NoticeKind.PROMOTED, new.name, "Halve the batch")
    assert "−0.0214" in notice.effect and notice.promoted == 2
    assert watch.look(_history(old, new)) == []


def test_a_crash_storm_is_told_once_until_something_ends_well() -> None:
    watch = Watch(PROGRAM, "p")
    watch.begin(_history())
    assert watch.look(_crashed(STORM - 1)) == []
    (notice,) = watch.look(_crashed(STORM))
    assert notice.kind is NoticeKind.CRASHING and notice.reason == f"exited with {STORM}"
    assert watch.look(_crashed(STORM + 1)) == []
    good = [STORM + 2]
    assert watch.look(_crashed(STORM + 2, good)) == []
    assert watch.look(_crashed(2 * STORM + 1, good)) == []
    assert [it.kind for it in watch.look(_crashed(2 * STORM + 2, good))] == [NoticeKind.CRASHING]


def test_crashes_of_earlier_days_are_no_storm() -> None:
    watch = Watch(PROGRAM, "p")
    watch.begin(_crashed(STORM))
    assert watch.look(_crashed(STORM + 1)) == []


def test_nothing_of_the_holdout_is_told_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-planted-0123456789abcdef")
    program = replace(PROGRAM, holdout=Metric("metrics.json", "test_bpb"))
    watch = Watch(program, "p")
    watch.begin(_history())
    secret = "test_bpb 0.734512 and sk-ant-planted-0123456789abcdef"
    made = attempt(1, 2.0, "promoted", title=secret)
    seen = {str(program.holdout): 0.734512, str(program.objective): 2.0, str(GUARD): 1.0}
    made = replace(made, experiments=(replace(made.first, metrics=seen),))
    told = [*watch.look(_history(made)), watch.ended(_history(made), secret)]
    assert len(told) == 2
    text = json.dumps([notice.fields() for notice in told])
    assert "734512" not in text and "planted" not in text


# -- a whole run ------------------------------------------------------------------------------------------


def test_a_run_tells_of_its_promotion_and_its_end(measured: Path, hook: Any, ar: Ar, tmp_path: Path) -> None:
    winner = tried(measured, WIN)
    script = _script(tmp_path, f"cat >> {tmp_path}/told; echo >> {tmp_path}/told")
    targets = ("--notify", script, "--notify", f"{hook.url}/ok", "--notify", f"{hook.url}/broken")
    done = ar(measured, "run", "-n", "0", "--plain", *targets)
    kinds = [body["kind"] for path, body in hook.received if path == "/ok"]
    assert kinds == [NoticeKind.PROMOTED, NoticeKind.ENDED], done.stdout
    bodies = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert bodies == [body for path, body in hook.received if path == "/ok"]
    assert bodies[0]["name"] == winner.name and bodies[1]["promoted"] == 1
    assert "127.0.0.1 was not notified" in done.stdout + done.stderr
