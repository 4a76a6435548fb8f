"""A document as one Markdown file."""

from __future__ import annotations

import html
import re

from ar.redaction import redact
from ar.text import one_line, plain
from ar.views.document import Block, Code, Document, Items, Prose, Table


def to_markdown(document: Document) -> str:
    """One file, pictures inside."""
    parts = [f"# {_md(document.title)}", _md(document.subtitle)]
    for section in document.sections:
        parts.append(f"{'#' * section.level} {_md(section.heading)}")
        parts += [_md_block(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def _md(text: str) -> str:
    """Text in which nothing is markup: HTML and Markdown's own characters are escaped."""
    escaped = html.escape(redact(one_line(text)), quote=False)
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", escaped)


def _md_block(block: Block) -> str:
    if isinstance(block, str):
        return "\n\n".join(map(_md, re.split(r"\n\s*\n", block)))
    if isinstance(block, Prose):
        return _quoted(block.text)
    if isinstance(block, Items):
        head = f"{_md(block.folded)}\n\n" if block.folded else ""
        return head + "\n".join(f"- {_md(item)}" for item in block.items)
    if isinstance(block, Table):
        rule = "|".join(["---", *("---:" for _ in block.header[1:])])
        rows = ["| " + " | ".join(map(_md, row)) + " |" for row in (block.header, *block.rows)]
        return "\n".join([rows[0], f"|{rule}|", *rows[1:]])
    if isinstance(block, Code):
        text = redact(plain(block.text))
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
        return f"{fence}{block.language}\n{text}\n{fence}"
    return f"![{_md(block.caption)}]({block.url})"


def _quoted(text: str) -> str:
    """Markdown as a quotation, out of which no heading or open fence reaches; links and HTML are undone."""
    safe = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", redact(plain(text)).strip())
    safe = re.sub(r"\](?=[(\[:])", r"]\\", safe)
    return "\n".join(f"> {line}".rstrip() for line in safe.split("\n"))
