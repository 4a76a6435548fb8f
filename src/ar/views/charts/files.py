"""Vega-Lite specifications drawn into PNG, SVG and HTML files by vl-convert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ar.errors import ArError
from ar.stage.files import write_whole

FORMATS = (".png", ".svg", ".html")


def save(spec: dict[str, Any], path: Path) -> None:
    """Draw a Vega-Lite specification into a file, whole or not at all.

    Raises:
        ArError: the file's ending is unknown.
    """
    ending = check_ending(path)
    import vl_convert

    if ending == ".png":
        content: bytes = vl_convert.vegalite_to_png(spec, scale=2)
    elif ending == ".svg":
        content = svg(spec).encode()
    else:
        content = vl_convert.vegalite_to_html(_in_script(spec), bundle=True).encode()
    write_whole(path, content)


def svg(spec: dict[str, Any]) -> str:
    """A specification drawn as SVG."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def check_ending(path: Path) -> str:
    """The ending of a picture file.

    Raises:
        ArError: there is no such format.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        known = ", ".join(FORMATS)
        raise ArError(f"{path}: no chart format ends in '{path.suffix}'", f"use one of: {known}")
    return ending


def _in_script(value: Any) -> Any:
    """The same specification where no text can end the page's script: an invisible joiner follows its `<`."""
    if isinstance(value, dict):
        return {key: _in_script(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_script(item) for item in value]
    return re.sub(r"<(?=[/!])", "<\u2060", value) if isinstance(value, str) else value
