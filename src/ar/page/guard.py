"""Who is let in: every request is held against this before any route sees it.

A page on this machine is within reach of every site that its user's browser opens. So a request has to name a
host that is ours (a name which was made to point here is none), to come from no other site, and to bring the
cookie that only the printed link gives. The link's token is good for one browser.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SAFE = ("GET", "HEAD")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ANY = ("0.0.0.0", "::")  # noqa: S104 - what is asked for, not what is bound
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
ENTRY = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">
<link rel="icon" href="/static/icon.svg"><title>ar</title></head>
<body><p><a href="/">Open the campaign</a></p></body></html>
"""
_LOCKED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ar</title></head><body><h1>This page is locked</h1>
<p>Open the link that <code>ar ui</code> printed. Each is good for one browser; then the next is printed.</p>
</body></html>
"""


@dataclass
class Gate:
    """What opens the page.

    Args:
        host: that the server is bound to.
        is_remote: whether it may be reached from other machines.
        announce: told each new link, once its forerunner was used.
    """

    host: str
    port: int
    is_remote: bool = False
    announce: Callable[[str], None] = lambda link: None
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def link(self) -> str:
        """What to open; good once."""
        host = _LOOPBACK[0] if self.host in _ANY else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self._token}"

    @property
    def cookie(self) -> str:
        """The cookie's name: ports share their cookies, and so each server has its own."""
        return f"ar-{self.port}"

    @property
    def session(self) -> str:
        return self._session

    @property
    def form_token(self) -> str:
        """What each form has to bring along: it tells nothing of the cookie."""
        return hmac.new(self._session.encode(), b"form", "sha256").hexdigest()

    def admits(self, token: str) -> bool:
        """Whether a link's token is the one that is good now; it is used up by that."""
        if not _equal(token, self._token):
            return False
        self._token = secrets.token_urlsafe(32)
        self.announce(self.link)
        return True

    def knows(self, cookie: str) -> bool:
        return _equal(cookie, self._session)

    def is_ours(self, host: str) -> bool:
        """Whether a request's Host names this server. An address names no other machine, whatever a name
        server says."""
        name, _, port = host.rpartition(":")
        if not port.isascii() or not port.isdigit() or int(port[:6]) != self.port:
            return False
        name = name.lower()
        if name in _LOOPBACK or name.strip("[]") == self.host:
            return True
        return self.is_remote and (_is_address(name) or name in _own_names())


class Guard:
    """Stands before the application."""

    def __init__(self, app: App, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._guarded(scope, receive, send)
        # Nothing else is spoken here: a web socket is dropped.

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = [(key, value) for key, value in message.get("headers", ())]
                known = {key.lower() for key, _ in given}
                message["headers"] = [*given, *(item for item in HEADERS if item[0] not in known)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await answer(with_headers, 403, refusal)
            return
        token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and token and self._gate.admits(token):
            value = f"{self._gate.cookie}={self._gate.session}; Path=/; HttpOnly; SameSite=Strict"
            # No redirect: where another site led here, a browser takes that for the other site's.
            await answer(with_headers, 200, ENTRY, ((b"set-cookie", value.encode()),))
            return
        if not any(self._gate.knows(value) for value in _cookies(scope, self._gate.cookie)):
            await answer(with_headers, 401, _LOCKED)
            return
        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Why a request does not come from our own page; empty where it may."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or not self._gate.is_ours(hosts[0]):
            return "This server does not go by that name."
        if len(origins) > 1 or any(origin != f"http://{hosts[0]}" for origin in origins):
            return "This request comes from another site."
        if scope["method"] not in _SAFE and not origins:
            return "This request does not say where it comes from."
        sites = _values(scope, b"sec-fetch-site")
        navigates = _values(scope, b"sec-fetch-mode") == ["navigate"]
        if any(site in ("cross-site", "same-site") for site in sites) and not (
            navigates and scope["method"] in _SAFE
        ):
            return "This request comes from another site."
        return ""


async def answer(send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole answer."""
    kind = b"text/html; charset=utf-8" if text.startswith("<") else b"text/plain; charset=utf-8"
    body = text.encode()
    all_headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _cookies(scope: Scope, name: str) -> list[str]:
    parts = [part.strip() for line in _values(scope, b"cookie") for part in line.split(";")]
    return [part[len(name) + 1 :] for part in parts if part.startswith(f"{name}=")]


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _own_names() -> tuple[str, ...]:
    name = socket.gethostname().lower()
    return name, f"{name.partition('.')[0]}.local", socket.getfqdn().lower()
