"""A document as one HTML page."""

from __future__ import annotations

import html

from ar.redaction import redact
from ar.text import plain
from ar.views.document import Block, Code, Document, Items, Prose, Table

_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; max-width: 960px; margin: 2.5rem auto;
  padding: 0 1.25rem; }
h1 { margin-bottom: 0; } .sub { color: #666; margin-top: .2rem; }
h2 { margin-top: 2.4rem; border-bottom: 1px solid #ddd; padding-bottom: .25rem; } h3 { margin-top: 1.8rem; }
table { border-collapse: collapse; font-size: .92rem; display: block; overflow-x: auto; }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #eee; text-align: right;
  white-space: nowrap; }
td:first-child, th:first-child { text-align: left; white-space: normal; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; }
.add { color: #116329; } .del { color: #a40e26; } .hunk { color: #0550ae; }
figure { margin: 1.5rem 0; overflow-x: auto; } figcaption { color: #555; font-size: .9rem; }
svg { max-width: 100%; height: auto; } summary { cursor: pointer; margin: .4rem 0; }
p { white-space: pre-line; }
.prose p { white-space: normal; } .prose h4 { margin-bottom: .3rem; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def to_html(document: Document) -> str:
    """One page without scripts that needs nothing else; its policy forbids to load anything."""
    body = [f"<h1>{_html(document.title)}</h1>", f'<p class="sub">{_html(document.subtitle)}</p>']
    for section in document.sections:
        body.append(f"<h{section.level}>{_html(section.heading)}</h{section.level}>")
        body += [_html_block(block) for block in section.blocks]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_html(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _html(text: str) -> str:
    return html.escape(redact(plain(text)))


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_html(block)}</p>" if block.strip() else ""
    if isinstance(block, Prose):
        return f'<div class="prose">\n{_rendered(block.text)}</div>'
    if isinstance(block, Items):
        items = f"<ul>{''.join(f'<li>{_html(item)}</li>' for item in block.items)}</ul>"
        words = _html(block.folded)
        return f"<details><summary>{words}</summary>{items}</details>" if words else items
    if isinstance(block, Table):
        head = "".join(f"<th>{_html(cell)}</th>" for cell in block.header)
        rows = ["".join(f"<td>{_html(cell)}</td>" for cell in row) for row in block.rows]
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    if isinstance(block, Code):
        lines = [_html_line(line, block.language) for line in block.text.splitlines()]
        return "<pre>" + "\n".join(lines) + "</pre>"
    picture = f'<img alt="{_html(block.caption)}" src="{block.url}" style="max-width:100%">'
    return f"<figure>{picture}<figcaption>{_html(block.caption)}</figcaption></figure>"


def _rendered(text: str) -> str:
    """Markdown as HTML without links, pictures and others' HTML, and with headings of one level."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["autolink", "html_block", "html_inline", "image", "link", "reference"])
    tokens = parser.parse(redact(plain(text)))
    for token in tokens:
        token.tag = "h4" if token.type.startswith("heading_") else token.tag
    return str(parser.renderer.render(tokens, parser.options, {}))


def _html_line(line: str, language: str) -> str:
    kinds = {"+": "add", "-": "del", "@": "hunk"}
    kind = kinds.get(line[:1], "") if language == "diff" else ""
    return f'<span class="{kind}">{_html(line)}</span>' if kind else _html(line)
