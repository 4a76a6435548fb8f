"""The routes of the page, and the server. The one module that imports Starlette and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ar.errors import ArError, BadState, NotFound
from ar.git.repo import Repo
from ar.history.attempts import find
from ar.page import closeup, live
from ar.page.errands import Errands
from ar.page.guard import App, Gate, Guard
from ar.page.matters import Matters
from ar.page.news import News
from ar.page.parts import PARTS, first_page
from ar.page.render import STATIC, Pages, as_data
from ar.page.scene import Reader, Scene
from ar.page.steering import Steering
from ar.serve.desk import Desk
from ar.text import one_line

INSTALL = "install it: pip install 'starlette>=1,<2' 'uvicorn>=0.30,<1' 'jinja2>=3.1,<4'"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MOST_BODY = 3_000_000  # bytes of a form, a patch among them
_GRACE = 1  # seconds that open connections have once the server is ended


@dataclass
class Site:
    """One project's page, without the guard that stands before it."""

    desk: Desk
    pages: Pages
    news: News
    matters: Matters
    steering: Steering | None = None
    form_token: str = ""

    @classmethod
    def of(cls, root: Path, form_token: str = "") -> Site:
        """The page of a project; `form_token` is what forms bring along, empty where nothing is steered."""
        desk = Desk(root)
        errands = Errands(desk.says)
        pages = Pages(form_token=form_token)

        def pulse(scene: Scene) -> Mapping[str, str]:
            sparks: Mapping[str, object] = {}
            if scene.began:
                with desk.campaign() as campaign:
                    sparks = closeup.sparks(campaign)
            return {"running": pages("parts/running.html", scene=scene, sparks=sparks)}

        def render(scene: Scene) -> Mapping[str, str]:
            others = (name for name in PARTS if name != "running")
            return {**{name: pages(f"parts/{name}.html", scene=scene) for name in others}, **pulse(scene)}

        news = News(Reader(desk, errands.all), render, pulse)
        steering = Steering(desk, errands) if form_token else None
        return cls(desk, pages, news, Matters(desk, pages), steering, form_token)

    def routes(self) -> list[Any]:
        from starlette.routing import Route

        writing = []
        if self.steering is not None:
            writing = [
                Route(f"/steer/{what}", self._asked(call), methods=["POST"])
                for what, call in self.steering.calls.items()
            ]
        return [
            *writing,
            Route("/", self.overview),
            Route("/experiment/{name}", self.experiment),
            Route("/compare", self.compare),
            Route("/matters", self.what_matters),
            Route("/events", self.events),
            Route("/static/{name:path}", self.static),
        ]

    async def overview(self, _request: Any) -> Any:
        return await self._page(lambda scene: first_page(self.pages, self.news, scene))

    async def experiment(self, request: Any) -> Any:
        name = str(request.path_params["name"])

        def made(scene: Scene) -> str:
            with self.desk.campaign() as campaign:
                seen = closeup.closeup(campaign, campaign.history(), name)
            return self.pages("experiment.html", scene=scene, seen=seen, generation=self.news.generation)

        return await self._page(made)

    async def compare(self, request: Any) -> Any:
        a, b = (str(request.query_params.get(side, "")).strip() for side in "ab")

        def made(scene: Scene) -> str:
            seen = None
            if a and b:
                with self.desk.campaign() as campaign:
                    seen = closeup.side_by_side(campaign, a, b)
            return self.pages("compare.html", scene=scene, seen=seen, a=a, b=b)

        return await self._page(made)

    async def what_matters(self, _request: Any) -> Any:
        return await self._page(lambda _scene: self.matters())

    async def events(self, request: Any) -> Any:
        from starlette.responses import StreamingResponse

        given = request.headers.get("last-event-id") or request.query_params.get("since", "")
        seen = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else 0
        if seen > self.news.generation:
            seen = 0  # of a server before this one
        name = str(request.query_params.get("run", ""))
        look = _Watched(self.desk, self.pages, name) if name else None
        stream: AsyncIterator[bytes] = self.news.stream(seen, look)
        return StreamingResponse(stream, media_type="text/event-stream")

    async def static(self, request: Any) -> Any:
        from starlette.responses import FileResponse

        known = statics()
        name = str(request.path_params["name"])
        if name not in known:
            return self._error(404, NotFound(f"there is no file {name}", "go back to the first page"))
        path = known[name]
        return FileResponse(path, media_type=_KINDS[path.suffix], headers={"cache-control": "no-cache"})

    def _asked(self, call: Callable[[Mapping[str, str]], str]) -> Callable[[Any], Awaitable[Any]]:
        """The route of one thing that may be asked for."""

        async def asked(request: Any) -> Any:
            from starlette.responses import HTMLResponse

            body = b""
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BODY:
                    return HTMLResponse(self.pages("said.html", said="That is too much.", is_bad=True), 413)
            given = {key: values[-1] for key, values in parse_qs(body.decode(errors="replace")).items()}
            if not hmac.compare_digest(given.pop("form_token", "").encode(), self.form_token.encode()):
                return HTMLResponse(self.pages("said.html", said="Load the page anew.", is_bad=True), 403)
            try:
                said, is_bad = await asyncio.to_thread(call, given), False
            except Exception as error:
                said, is_bad = self.desk.says(error), True
            return HTMLResponse(self.pages("said.html", said=said, is_bad=is_bad))

        return asked

    async def _page(self, made: Callable[[Scene], str]) -> Any:
        from starlette.responses import HTMLResponse

        try:
            scene = await self.news.scene()
            return HTMLResponse(await asyncio.to_thread(made, scene))
        except NotFound as error:
            return self._error(404, error)
        except Exception as error:
            return self._error(409 if isinstance(error, ArError) else 500, error)

    def _error(self, status: int, error: Exception) -> Any:
        from starlette.responses import HTMLResponse

        return HTMLResponse(self.pages("error.html", said=self.desk.says(error)), status_code=status)


class _Watched:
    """What is new of one run: asked once a second."""

    def __init__(self, desk: Desk, pages: Pages, name: str) -> None:
        self._desk, self._pages, self._name = desk, pages, name
        self._marks: tuple[object, ...] = ()
        self._live: tuple[object, ...] = ()
        self._stands: tuple[object, ...] = ()

    def __call__(self) -> list[tuple[str, str]]:
        marks = self._desk.marks()
        with self._desk.campaign() as campaign:
            drawn = live.mark(campaign.repo, campaign.program, self._name)
            if (marks, drawn) == (self._marks, self._live):
                return []
            before, self._stands = self._stands, closeup.stands(campaign, self._name)
            self._marks, self._live = marks, drawn
            if before and before != self._stands:
                return [("over", "")]  # the page is another one from now on
            here = live.read(campaign, self._name)
            if here is None:
                return []
            history = campaign.history()
            curve = closeup.curves(campaign, history, find(history, self._name)[0], here)
        return [("live", self._pages("parts/live.html", live=here)), ("curve", as_data(curve))]


def statics() -> dict[str, Path]:
    """Every file that is served as it is, by its name: nothing else is, whatever a path says."""
    found = (path for path in STATIC.rglob("*") if path.suffix in _KINDS)
    return {path.relative_to(STATIC).as_posix(): path for path in found}


def build(root: Path, gate: Gate, may_steer: bool = False) -> App:
    """The application of one project, behind its guard.

    Args:
        may_steer: whether whoever is let in may do more than look.

    Raises:
        BadState: what it needs is not installed.
    """
    try:
        from starlette.applications import Starlette

        site = Site.of(root, gate.form_token if may_steer else "")
    except ImportError as error:
        raise BadState(f"ar ui needs a web server: {one_line(str(error))}", INSTALL) from None

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        yield
        site.news.is_over = True

    app: Any = Starlette(routes=site.routes(), lifespan=lifespan)
    return Guard(app, gate)


def serve(
    root: Path, host: str, port: int, is_remote: bool, may_steer: bool, say: Callable[[str], None]
) -> None:
    """Serve until somebody ends it.

    Args:
        port: 0 for any that is free.
        is_remote: whether other machines may reach it.
        may_steer: whether whoever is let in may do more than look.
        say: tells the user each link.

    Raises:
        BadState: what it needs is not installed, or the port is taken.
    """
    Repo.open(root)
    bound = bind(host, port)
    gate = Gate(host, bound.getsockname()[1], is_remote, lambda link: say(f"For another browser: {link}"))
    server = server_of(build(root, gate, may_steer))
    say(f"Open {gate.link}")
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[bound])


def server_of(app: App) -> Any:
    """What serves an application on a socket."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,  # a link's token is in a path
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket of ours.

    Raises:
        BadState: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise BadState(
            f"cannot listen on {host}, port {port}: {error.strerror}", "give another: --port 0"
        ) from None
    return bound
