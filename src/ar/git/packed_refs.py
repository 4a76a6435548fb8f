"""Git's one file of many refs, searched rather than read: a space's refs cost what they are, however many
others there are."""

from __future__ import annotations

_ID = 40  # characters of an object id, before a blank and the name


class PackedRefs:
    """The content of a `packed-refs` file: a line `<id> <name>` for each ref, by name; after a tag's, a line
    `^<id>` with what it stands for."""

    def __init__(self, content: bytes) -> None:
        head, _, lines = content.partition(b"\n")
        if not head.startswith(b"#") or b" sorted" not in head:  # git before 2.16
            own = (line for line in content.splitlines() if line[:1] not in (b"#", b"^"))
            lines = b"".join(line + b"\n" for line in sorted(own, key=lambda line: line[_ID:]))
        self._lines = lines

    def of(self, name: str) -> dict[str, str]:
        """The ref of exactly that name with its object id, if there is one."""
        wanted = _bytes(name)
        return _parsed(self._between(wanted, wanted + b"\1"))

    def beginning(self, first: str) -> dict[str, str]:
        """Name to object id of every ref whose name begins so, in alphabetical order."""
        return _parsed(self.lines(first))

    def lines(self, first: str) -> bytes:
        """The same as they stand in the file."""
        wanted = _bytes(first)
        return self._between(wanted, wanted[:-1] + bytes([wanted[-1] + 1]))

    def _between(self, first: bytes, beyond: bytes) -> bytes:
        return self._lines[self._place(first) : self._place(beyond)]

    def _place(self, name: bytes) -> int:
        """Where the line of the first ref begins whose name is not before this one."""
        lines, low, high = self._lines, 0, len(self._lines)
        while low < high:
            begin = self._line_at(low, (low + high) // 2)
            if lines[begin : begin + 1] == b"^":
                begin = self._line_at(low, begin - 1)
            end = self._after(begin)
            if lines[begin + _ID + 1 : end].rstrip(b"\n") < name:
                low = self._after(end) if lines[end : end + 1] == b"^" else end
            else:
                high = begin
        return low

    def _line_at(self, low: int, place: int) -> int:
        """Where the line begins that has a place in it."""
        return self._lines.rfind(b"\n", low, place) + 1 or low

    def _after(self, begin: int) -> int:
        """Where the line after that one begins."""
        return self._lines.find(b"\n", begin) + 1 or len(self._lines)


def _parsed(lines: bytes) -> dict[str, str]:
    rows = lines.decode("utf-8", "surrogateescape").split("\n")
    return {row[_ID + 1 :]: row[:_ID] for row in rows if row[_ID : _ID + 1] == " "}


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
