"""What a command-line coding agent printed: its last message, and what it says it cost.

Plain text is the message itself. Understood besides are the JSON of `claude -p --output-format json` (or
`stream-json`) and the events of `codex exec --json`.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ar.formats import BadData, load_json
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.spend import Spend
from ar.text import one_line, plain, shorten_middle

_HYPOTHESIS_LIMIT = 6000
_DECORATION = " #*_`>-\t"
_FIELD = re.compile(
    r"^[\s*_-]*(?P<key>title|expected|simplification)[*_]*\s*:\s*[*_]*(?P<value>.*?)[*_\s]*$",
    re.IGNORECASE,
)


def read(output: str) -> tuple[str, Spend | None]:
    """The last message in an agent's output, and what it cost where the output says so."""
    events = _events(output)
    messages = [message for event in events if (message := _message(event)) is not None]
    spent = [amount for event in events if (amount := _spend(event)) is not None]
    if not messages and not spent:
        return output, None
    return messages[-1] if messages else "", sum(spent, Spend()) if spent else None


def _events(output: str) -> list[dict[str, Any]]:
    """The JSON objects in an output: it is one, or has one a line."""
    for parts in ([output], output.splitlines()):
        events = []
        for part in parts:
            with contextlib.suppress(BadData):
                events.append(load_json(part))
        if objects := [event for event in events if isinstance(event, dict)]:
            return objects
    return []


def _message(event: Mapping[str, Any]) -> str | None:
    """What an event says last; None where it says nothing."""
    if event.get("type") == "result":
        return str(event.get("result") or "")
    item = event.get("item") if event.get("type") == "item.completed" else None
    if isinstance(item, dict) and item.get("type") == "agent_message":
        return str(item.get("text") or "")
    return None


def _spend(event: Mapping[str, Any]) -> Spend | None:
    """What an event says of tokens and dollars; None where it says nothing."""
    usage = event.get("usage")
    if event.get("type") not in ("result", "turn.completed") or not isinstance(usage, dict):
        return None
    counts = {name: value for name, value in usage.items() if isinstance(value, int) and value >= 0}
    # Anthropic counts what the cache answered or took beside `input_tokens`, OpenAI within it.
    cached = counts.get("cache_read_input_tokens", 0)
    sent = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    usd = event.get("total_cost_usd")
    return Spend(
        input=sent,
        cached=cached + counts.get("cached_input_tokens", 0),
        output=counts.get("output_tokens", 0),
        usd=float(usd) if isinstance(usd, int | float) and usd >= 0 else None,
    )


def proposal(message: str, agent: str) -> Proposal:
    """The title, the hypothesis and what else the last message of an agent says of its change."""
    lines = plain(message).strip().splitlines()
    fields = {match["key"].lower(): match["value"] for line in lines if (match := _FIELD.match(line))}
    rest = [line for line in lines if not _FIELD.match(line)]
    title = one_line(fields.get("title", "")).strip(_DECORATION)
    if not title:
        first = next((line for line in rest if line.strip(_DECORATION)), "")
        title = one_line(first).strip(_DECORATION)
        if len(title) <= TITLE_LIMIT and first in rest:
            rest.remove(first)
    title = textwrap.shorten(title, TITLE_LIMIT, placeholder="…", break_on_hyphens=False)
    return Proposal(
        title=title or "A change without a message",
        hypothesis=shorten_middle("\n".join(rest).strip(), _HYPOTHESIS_LIMIT),
        agent=agent,
        expected=one_line(fields.get("expected", ""))[:200],
        simplification=fields.get("simplification", "").lower().startswith("yes"),
    )
