"""What has changed since a browser last heard of it: the project is looked at once a second, for all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from ar.errors import ArError
from ar.page.render import as_data
from ar.page.scene import Reader, Scene

LOOK = 1.0  # seconds between two looks
_QUIET = 15.0  # seconds after which a word is sent all the same, so that a lost browser is noticed
Parts = Callable[[Scene], Mapping[str, str]]


@dataclass
class News:
    """The scene as it is, and when each of its parts changed last.

    Args:
        render: makes a scene HTML, by the names of its parts.
        pulse: the same of those parts alone that change while a run is under way.
        parts: when each changed last, and how it is.
        generation: counts the changes.
    """

    reader: Reader
    render: Parts
    pulse: Parts
    parts: dict[str, tuple[int, str]] = field(default_factory=dict)
    generation: int = 0
    is_over: bool = False
    _scene: Scene | None = None
    _marks: tuple[object, ...] = ()
    _rows: dict[str, tuple[int, object]] = field(default_factory=dict)
    _look: asyncio.Lock = field(default_factory=asyncio.Lock)
    _looked: float = 0.0

    async def scene(self) -> Scene:
        """The scene as it is by now.

        Raises:
            ArError: there is no campaign to be read.
        """
        await self._refresh(0.0 if self._scene is None else LOOK / 2)
        assert self._scene is not None
        return self._scene

    def since(self, seen: int) -> list[tuple[str, str]]:
        """Events that bring a browser which has seen so much up to date."""
        events = [(name, html) for name, (when, html) in self.parts.items() if when > seen]
        rows = [row for when, row in self._rows.values() if when > seen]
        if rows and self._scene is not None:
            events.append(("rows", as_data({"rows": rows, **chart_data(self._scene)})))
        return events

    async def stream(
        self, seen: int, look: Callable[[], list[tuple[str, str]]] | None = None
    ) -> AsyncIterator[bytes]:
        """Server-sent events, for as long as the browser listens.

        Args:
            look: asked once a second, in a thread, for what is new on a page that shows something else.
        """
        yield b"retry: 2000\n\n"
        quiet = 0.0
        while not self.is_over:
            events: list[tuple[str, str]] = []
            # The programme is being edited, say: what is known still stands.
            with contextlib.suppress(ArError):
                if look is None:
                    await self._refresh(LOOK * 0.9)
                    events = self.since(seen)
                else:
                    events = await asyncio.to_thread(look)
            seen = self.generation
            for name, data in events:
                yield frame(name, data, seen)
            quiet = 0.0 if events else quiet + LOOK
            if quiet >= _QUIET:
                quiet = 0.0
                yield b": still here\n\n"
            await asyncio.sleep(LOOK)

    async def _refresh(self, age: float) -> None:
        """Look again, unless somebody did so less than `age` seconds ago."""
        async with self._look:
            clock = asyncio.get_running_loop().time
            if self._scene is not None and clock() - self._looked < age:
                return
            try:
                marks = await asyncio.to_thread(self.reader.marks)
                if self._scene is None or marks != self._marks:
                    self._take(*await asyncio.to_thread(self._read))
                    self._marks = marks
                elif self._scene.began:
                    self._take(self._scene, await asyncio.to_thread(self.pulse, self._scene))
            finally:
                self._looked = clock()

    def _read(self) -> tuple[Scene, Mapping[str, str]]:
        is_first, scene = self._scene is None, self.reader.read()
        if is_first:
            gc.freeze()  # a long history stays, and would be gone over by the collector at every other update
        return scene, self.render(scene)

    def _take(self, scene: Scene, parts: Mapping[str, str]) -> None:
        """Note what is new in a scene, and in some of its parts."""
        new = {name: html for name, html in parts.items() if self.parts.get(name, (0, None))[1] != html}
        rows = [row for row in scene.rows if self._rows.get(row.name, (0, None))[1] is not row]
        if new or rows or self._scene is None:
            self.generation += 1
        self.parts.update({name: (self.generation, html) for name, html in new.items()})
        self._rows.update({row.name: (self.generation, row) for row in rows})
        self._scene = scene


def chart_data(scene: Scene) -> dict[str, object]:
    """What the browser needs besides the rows."""
    return {
        "states": [(state.name, state.title, state.level) for state in scene.states],
        "low": scene.low,
        "high": scene.high,
        "base": scene.base,
        "minimize": scene.metric.direction == "minimize",
    }


def frame(name: str, data: str, number: int) -> bytes:
    """One server-sent event."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\nid: {number}\n{lines}\n".encode(errors="replace")
