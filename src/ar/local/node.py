"""The name by which other machines know this clone: that of its notes on a remote, and in its leases."""

from __future__ import annotations

import os
import re
import secrets

from ar.git import refs
from ar.git.repo import Repo
from ar.local import lines

_FILE = "node"


def name(repo: Repo) -> str:
    """The host and six hex digits, made up once for each clone and host.

    Raises:
        BadState: the git directory cannot be written.
    """
    host = re.sub(r"[^a-z0-9]+", "-", os.uname().nodename.lower()).strip("-")[:40] or "host"
    known = (line for line in lines.read(repo, _FILE) if line.rpartition("-")[0] == host)
    found = next(filter(refs.is_name, known), "")
    if not found:
        found = f"{host}-{secrets.token_hex(3)}"
        lines.append(repo, _FILE, [found])
        return name(repo)  # another process may have been faster
    return found
