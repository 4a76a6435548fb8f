"""Templates, and how what others wrote is put into them: as text, whatever it says."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ar.redaction import redact
from ar.text import clock, counted, one_line, signed, span, visible
from ar.views.marks import MARKS

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
STATIC = HERE / "static"
_HEADS = ("diff ", "index ", "+++ ", "--- ", "new file", "deleted file", "rename ", "similarity ")
_LONGEST_LINE = 2_000  # characters of a line that is coloured by its language
_SHORT = {
    "Keyword": "k",
    "Name.Function": "f",
    "Name.Class": "f",
    "Literal": "l",
    "Comment": "c",
    "Operator": "o",
}


class Pages:
    """Renders pages and parts of them.

    Args:
        is_static: as files that link to each other, without a server.
        form_token: for forms; empty where the page steers nothing.
    """

    def __init__(self, is_static: bool = False, form_token: str = "") -> None:
        self._environment = _environment(is_static, form_token)

    def __call__(self, template: str, **given: Any) -> str:
        return str(self._environment.get_template(template).render(given))


def _environment(is_static: bool, form_token: str) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_shown,
    )
    made.globals.update(
        is_static=is_static,
        form_token=form_token,
        can_steer=bool(form_token),
        experiment_url=functools.partial(experiment_url, is_static=is_static),
        static_url=functools.partial(static_url, is_static=is_static),
        sign=_signs().get,
    )
    made.filters.update(
        clock=clock,
        span=span,
        counted=counted,
        day=_day,
        number=_number,
        change=signed,
        patch=lambda text: Markup("\n".join(_coloured(text))),  # noqa: S704 - escaped word by word
        data=lambda value: Markup(as_data(value)),  # noqa: S704 - nothing in it ends its block
    )
    return made


def experiment_url(name: str, is_static: bool, root: str = "") -> str:
    """Where an experiment's page is.

    Args:
        root: of a static page's folder, relative to it.
    """
    return (
        f"{root}experiment/{quote(file_name(name))}" if is_static else f"/experiment/{quote(name, safe='')}"
    )


def static_url(name: str, is_static: bool, root: str = "") -> str:
    return f"{root}static/{name}" if is_static else f"/static/{name}"


def file_name(name: str) -> str:
    """The file of an experiment's static page: whatever it is called, one inside the folder."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100].lstrip(".")
    return (
        f"{plain}.html" if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.html"
    )


def as_data(value: Any) -> str:
    """JSON for a block of data in a page: nothing in it can end the block."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shown(value: Any) -> Any:
    """What a template is given, before it is escaped: what nobody sees gets a sign."""
    return visible(value) if type(value) is str else value


def _signs() -> dict[str, str]:
    return {str(outcome): mark.sign for outcome, mark in MARKS.items()}


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC") if when else ""


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def _coloured(diff: str) -> list[str]:
    """A patch's lines as HTML: by what they do, and the code in them by its language."""
    from markupsafe import escape

    lines, lexer = [], None
    for line in redact(visible(diff)).split("\n"):
        if line.startswith(("+++ ", "--- ")):
            lexer = _lexer(line[4:].strip()) or lexer
        kind = "head" if line.startswith(_HEADS) else {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "")
        code = str(escape(line))
        if lexer and kind not in ("head", "hunk") and len(line) <= _LONGEST_LINE:
            code = str(escape(line[:1])) + _code(line[1:], lexer)
        lines.append(f'<span class="{kind}">{code}</span>' if kind else code)
    return lines


def _lexer(path: str) -> Any:
    """What tells the words of a file's language apart; None where its name tells of none."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        return get_lexer_for_filename(one_line(path.rpartition("/")[2]), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def _code(text: str, lexer: Any) -> str:
    from markupsafe import escape

    parts = []
    for kind, value in lexer.get_tokens(text):
        word = next((short for name, short in _SHORT.items() if str(kind)[6:].startswith(name)), "")
        shown = str(escape(value))
        parts.append(f'<i class="{word}">{shown}</i>' if word and value.strip() else shown)
    return "".join(parts).rstrip("\n")
