"""The page as files: what it shows now, to be opened without a server or put on any."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ar.errors import BadState
from ar.page import closeup
from ar.page.app import statics
from ar.page.matters import Matters
from ar.page.parts import PARTS, page_data
from ar.page.render import Pages, file_name
from ar.page.scene import Reader
from ar.serve.desk import Desk
from ar.stage.files import write_whole
from ar.text import one_line

_OURS = ".ar-ui"  # says that we may write over what is in a folder
_SERVED_ONLY = ("vendor/htmx.min.js", "vendor/htmx-sse.min.js")
_TELL = 100  # pages after which it is said how far we are


def export(root: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write the page of a project into a folder. Returns how many experiments have one.

    Args:
        say: told how far it is.

    Raises:
        BadState: the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise BadState(f"{one_line(str(folder))} is no folder", "give another")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _OURS).is_file():
        raise BadState(f"{one_line(str(folder))} holds something else", "give an empty folder, or a new one")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _OURS).touch()
    desk, pages = Desk(root), Pages(is_static=True)
    scene = Reader(desk).read()
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    for name, path in statics().items():
        if name not in _SERVED_ONLY:
            (folder / "static" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / "static" / name)
    names = [row.name for row in scene.rows]
    odd = {name: file_name(name) for name in names if file_name(name) != f"{name}.html"}
    parts = {part: pages(f"parts/{part}.html", scene=scene, sparks={}) for part in PARTS}
    index = pages(
        "overview.html",
        scene=scene,
        parts=parts,
        data=page_data(scene) | {"files": odd},
        matters=Matters(desk, pages)(),
        written=written,
    )
    write_whole(folder / "index.html", index.encode())
    with desk.campaign() as campaign:
        history = campaign.history()
        for count, name in enumerate(names):
            if count and count % _TELL == 0:
                say(f"{count:,} of {len(names):,} experiments")
            seen = closeup.closeup(campaign, history, name)
            page = pages("experiment.html", scene=scene, seen=seen, written=written, root="../")
            write_whole(folder / "experiment" / file_name(name), page.encode())
    return len(names)
