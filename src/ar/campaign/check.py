"""One line of what `ar doctor` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Args:
        mend: what to type where it is not `ok`.
        required: `ar run` cannot work without it.
    """

    name: str
    ok: bool
    detail: str
    mend: str | None = None
    required: bool = True
