"""Text from experiments, agents and logs made safe to print: it is data, never terminal commands."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

# In this order: strings that end with BEL or ST (titles, links, device strings), CSI sequences (colours,
# cursor), and the remaining two- and three-byte escapes. An unfinished string eats its line at most.
_ESCAPE = re.compile(
    r"(?:\x1b[P\]X^_]|[\x90\x9d\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
# Controls but newline and tab, and marks that reorder the text around them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def plain(text: str) -> str:
    """The text without terminal escapes, control characters (newline and tab stay) and lone surrogates."""
    lines = _ESCAPE.sub("", text).split("\n")
    # A terminal shows what follows the last carriage return of a line: of a progress bar, its end.
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def visible(text: str) -> str:
    """The text with a sign for each mark that nobody sees or that reorders what is around it, so that no
    change can look like another: `␛`, `⟨U+202E⟩`. The end of a line is one however it is written."""

    def sign(found: re.Match[str]) -> str:
        code = ord(found[0])
        return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"

    return _SURROGATE.sub("\ufffd", _CONTROL.sub(sign, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """Plain text with every run of whitespace a single space: for titles and table cells."""
    return " ".join(plain(text).split())


def shorten_middle(text: str, limit: int) -> str:
    """At most `limit` characters, both ends kept: of a name or a path these tell most."""
    if len(text) <= limit or limit < 1:
        return text[: max(0, limit)]
    head = limit // 2
    return f"{text[:head]}…{text[len(text) - (limit - head - 1) :]}"


def listed(parts: Sequence[str], limit: int) -> str:
    """As many of the parts as fit into `limit` characters, and how many more there are.

    >>> listed(["a 1 → 2", "b 3 → 4", "c 5 → 6"], 24)
    'a 1 → 2, b 3 → 4 +1 more'
    """
    text = ", ".join(parts)
    for rest in range(1, len(parts)):
        if len(text) <= limit:
            break
        text = f"{', '.join(parts[:-rest])} +{rest} more"
    more = f" +{len(parts) - 1} more" if len(parts) > 1 else ""
    return text if len(text) <= limit else shorten_middle(parts[0], limit - len(more)) + more


def counted(count: int, word: str) -> str:
    """A number of things: `1 run`, `2 runs`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def clock(seconds: float) -> str:
    """A stretch of time as `0:07`, `12:31`, `1:02:03`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """A stretch of time in its largest unit: `40 s`, `12 min`, `3 h`, `5 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def quantity(value: float, error: float | None = None) -> str:
    """A measured value to the digits that its standard error supports: two of the error's own.

    >>> quantity(2.187342, 0.00214)
    '2.1873 ±0.0021'
    """
    if error is None or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.5g}" if abs(value) < 1e5 or not math.isfinite(value) else f"{value:.6g}"
    if error == 0:
        return f"{quantity(value)} ±0"
    size = max(abs(value), error)
    exponent = max(math.floor(math.log10(size)), -300)
    if not -5 < exponent < 7:
        return f"({quantity(value / 10**exponent, error / 10**exponent)})e{exponent}"
    if error < 1e-6 * abs(value):  # more digits than anybody reads
        return f"{value:.6g} ±{error:.1e}"
    # Through the rounded form: 0.0996 has its two digits at 0.10, not 0.100.
    decimals = 1 - int(f"{error:.1e}".partition("e")[2])
    if decimals < 0:
        return f"{round(value, decimals):.0f} ±{round(error, decimals):.0f}"
    return f"{value:.{decimals}f} ±{error:.{decimals}f}"


def signed(difference: float, error: float | None = None) -> str:
    """`quantity` of a difference, with a sign also where it is above 0."""
    text = quantity(difference, error)
    return text.replace("-", "−", 1) if difference < 0 else f"+{text}"


def interval(ends: Iterable[float], error: float | None = None) -> str:
    """An interval of a difference: `−0.031 to +0.002`, to the digits that the standard error supports."""
    return " to ".join(signed(end, error).partition(" ")[0] for end in ends)
