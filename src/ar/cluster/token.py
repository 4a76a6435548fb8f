"""Ray's token, where Ray looks for it: what `ar` prints and keeps must not hold it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ar.redaction import hand


def guard() -> None:
    """Count it as a secret from here on. The one in `RAY_AUTH_TOKEN` is one by its name."""
    place = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError, RuntimeError, UnicodeDecodeError):
        hand([Path(place).read_text(encoding="utf-8").strip()])
