"""Secrets found in text and taken out, before it is kept, sent or printed.

A secret is the value of an environment variable whose name says so, whatever has the shape of a well-known
kind of key, and a long value that a text itself assigns to a name such as `api_key`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MARK = "[secret removed]"

_NAME = re.compile(
    r"KEY(?!BOARD|MAP|RING)|TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE
)
# Values that such variables hold without being secrets: counts, switches, places on this machine.
_HARMLESS = re.compile(r"\d{1,11}|true|false|enabled|disabled|/[\w./-]*", re.IGNORECASE)
_SHORTEST = 6
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?!-----BEGIN).)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bsk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_-]{20,}"  # Anthropic, OpenAI, OpenRouter
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bhf_[A-Za-z0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{40,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # a signed JSON web token
    re.DOTALL,
)
# `token = …` alone is everyday code of a language model; these names are not. The value has letters and
# digits and nothing that an expression would have.
_ASSIGNED = re.compile(
    r"(?P<name>(?:api|access|auth|private|secret)[_-]?(?:key|token)|client[_-]?secret|password|passwd"
    r"|authorization)(?P<between>[\"']?\s*[:=]\s*[\"']?(?:bearer\s+|basic\s+)?)"
    r"(?P<value>(?=[^\s\"']*\d)(?=[^\s\"']*[A-Za-z])[A-Za-z0-9+/_~=-]{16,})(?![\w.(\[])",
    re.IGNORECASE,
)


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text with every secret in it replaced by `MARK`.

    Args:
        environ: whose values count as secrets; None for this process's environment.
    """
    for value in _values(os.environ if environ is None else environ):
        text = text.replace(value, MARK)
    text = _SHAPES.sub(MARK, text)
    return _ASSIGNED.sub(rf"\g<name>\g<between>{MARK}", text)


def _values(environ: Mapping[str, str]) -> list[str]:
    """Secret values of an environment, the longest first: one may hold another."""
    values = {
        line.strip() for name, value in environ.items() if _NAME.search(name) for line in value.splitlines()
    }
    found = (value for value in values if len(value) >= _SHORTEST and not _HARMLESS.fullmatch(value))
    return sorted(found, key=len, reverse=True)
