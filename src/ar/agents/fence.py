"""Text of unknown origin in a prompt, between tags; and about how much room a text takes."""

from __future__ import annotations

from ar.redaction import redact
from ar.text import one_line, plain, shorten_middle

BYTES_PER_TOKEN = 3  # UTF-8 bytes; prose has 4 to 5, tables of names and numbers 2.5 to 3.5


def tokens(text: str) -> int:
    """About how many tokens a text takes: a third of its bytes, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def fence(text: str, what: str, limit: int | None = None) -> str:
    """Text of unknown origin between two tags that it cannot forge: without secrets and control characters,
    shortened from the middle to `limit` characters."""
    text = redact(plain(text)).strip("\n")
    if limit is not None:
        text = shorten_middle(text, limit)
    tag = next(tag for tag in ("data", *(f"data{n}" for n in range(2, 99))) if f"</{tag}" not in text)
    return f'<{tag} of="{redact(one_line(what)).replace(chr(34), chr(39))}">\n{text}\n</{tag}>'
