"""What a command-line coding agent printed: its last message, and what it says it cost.

Plain text is the message itself. Understood besides are the JSON of `claude -p --output-format json` (or
`stream-json`, whose events are counted as they come) and the events of `codex exec --json`.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ar.agents.fence import BYTES_PER_TOKEN
from ar.formats import BadData, load_json
from ar.history import message_lines
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.history.spend import Spend

_TAIL = 400_000  # characters of the output that are kept: the last message is at its end
_MOST_ANSWERS = 10_000
_EVENTS = (
    *("result", "assistant", "system", "user", "thread.started", "turn.started", "turn.completed"),
    *("turn.failed", "error", "item.started", "item.updated", "item.completed"),
)
_STATUS = re.compile(
    r"(?i)\b(?:status|API Error:?)[ :=]{1,3}(?P<status>[45]\d\d)\b|\"status\": ?(?P<again>[45]\d\d)\b"
)
_STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "rate_limit_error": 429, "api_error": 500, "overloaded_error": 529,
}  # fmt: skip


def read(output: str) -> Transcript:
    """A whole output."""
    found = Transcript()
    found.feed(output)
    found.close()
    return found


@dataclass
class Transcript:
    """An output, read as it comes.

    Args:
        message: the last message; None where nothing is JSON that has one.
        failure: what the client says went wrong, in its own words; empty where nothing did.
        status: of the answer that ended it, as in HTTP; None where it does not say.
        calls: of the model, as far as tools that were used tell.
        printed: bytes so far.
    """

    message: str | None = None
    failure: str = ""
    status: int | None = None
    calls: int = 1
    printed: int = 0
    is_json: bool = False
    _totals: Spend | None = None
    _answers: dict[str, tuple[Spend, int]] = field(default_factory=dict)  # id to usage, bytes of its text
    _begun: str = ""
    _text: str = ""

    def feed(self, text: str) -> None:
        """Read on. What follows the last line break waits for more."""
        self.printed += len(text.encode(errors="replace"))
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._read(line)
        self._text = (self._text + text)[-_TAIL:]

    def close(self) -> None:
        """No more comes."""
        self._read(self._begun)
        self._begun = ""
        if not self.is_json:
            self._read(self._text)  # one object over several lines

    @property
    def text(self) -> str:
        """The last message; of an output that is no JSON, all of it."""
        return (self.message or "") if self.is_json else self._text

    @property
    def spent(self) -> Spend | None:
        """What the output tells so far of what it cost; None where it tells nothing.

        An answer's own count may be that of its beginning: what arrived of it is estimated.
        """
        counted, seen = Spend(), Spend()
        for usage, received in self._answers.values():
            if usage.tokens:  # a client's own word about an error costs nothing
                counted += usage
                seen += replace(usage, output=max(usage.output, received // BYTES_PER_TOKEN))
        told = self._totals
        if told is None:
            return seen if self._answers else None
        return told if told.tokens >= counted.tokens else replace(seen, usd=told.usd)

    def estimate(self, briefing: int) -> Spend:
        """What it costs at least, where the output does not tell.

        Args:
            briefing: tokens that it was sent at first. Each call sends them again, and on average half of
                what was printed.
        """
        output = self.printed // BYTES_PER_TOKEN
        return Spend(self.calls * (briefing + output // 2 if self.calls > 1 else briefing), 0, output)

    def _read(self, line: str) -> None:
        if not line.lstrip().startswith(("{", "[")):
            return
        data = None
        with contextlib.suppress(BadData):
            data = load_json(line)
        for event in data if isinstance(data, list) else [data]:
            if isinstance(event, dict) and event.get("type") in _EVENTS:
                self.is_json = True
                self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, item = event["type"], _part(event, "item")
        if kind == "result":
            self.message = str(event.get("result") or "")
            self._fail(_error(event) if event.get("is_error") is True else "", event.get("api_error_status"))
            self._total(event)
        elif kind == "assistant":
            self._answer(_part(event, "message"))
        elif kind == "turn.completed":
            self._fail("")
            self._total(event)
        elif kind in ("turn.failed", "error"):
            said = _part(event, "error").get("message") or event.get("message")
            self._fail(str(said or kind))
        elif kind == "item.completed" and item.get("type") == "agent_message":
            self.message = str(item.get("text") or "")
        elif kind == "item.completed" and item.get("type") not in ("reasoning", "error"):
            self.calls += 1

    def _fail(self, words: str, status: Any = None) -> None:
        self.failure = words
        known = isinstance(status, int) and not isinstance(status, bool)
        self.status = (status if known else status_in(words)) if words else None

    def _total(self, event: Mapping[str, Any]) -> None:
        amount = _usage(event.get("usage"), event.get("total_cost_usd"))
        if amount is not None:
            self._totals = amount + (self._totals or Spend())

    def _answer(self, message: Mapping[str, Any]) -> None:
        amount, name = _usage(message.get("usage"), None), str(message.get("id") or "")
        if amount is not None and len(self._answers) < _MOST_ANSWERS:
            received = self._answers.get(name, (amount, 0))[1]
            self._answers[name] = amount, received + len(str(message.get("content") or "").encode())


def status_in(words: str) -> int | None:
    """The HTTP status that a client's words about an error name; None where they name none.

    Clients say it in no field of its own, or only newer ones do.
    """
    if found := _STATUS.search(words):
        return int(found["status"] or found["again"])
    return next((status for kind, status in _STATUSES.items() if kind in words), None)


def _part(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = event.get(key)
    return found if isinstance(found, dict) else {}


def _error(event: Mapping[str, Any]) -> str:
    errors = event.get("errors")
    said = [str(event.get("result") or ""), *(map(str, errors) if isinstance(errors, list) else ())]
    return "; ".join(filter(None, said)) or str(event.get("subtype") or "error")


def _usage(usage: Any, usd: Any) -> Spend | None:
    """Tokens and dollars; None where nothing is said of tokens."""
    if not isinstance(usage, dict):
        return None
    counts = {name: value for name, value in usage.items() if isinstance(value, int) and value >= 0}
    # Anthropic counts what the cache answered or took beside `input_tokens`, OpenAI within it.
    cached = counts.get("cache_read_input_tokens", 0)
    sent = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    return Spend(
        input=sent,
        cached=cached + counts.get("cached_input_tokens", 0),
        output=counts.get("output_tokens", 0),
        usd=float(usd) if isinstance(usd, int | float) and usd >= 0 else None,
    )


def proposal(message: str, agent: str) -> Proposal:
    """The title, the hypothesis and what else the last message of an agent says of its change."""
    said = message_lines.read(message)
    title, rest = said.title, list(said.rest)
    if not title:
        first = next((line for line in rest if message_lines.bare(line)), "")
        title = message_lines.bare(first)
        if len(title) <= TITLE_LIMIT and first in rest:
            rest.remove(first)
    title = textwrap.shorten(title, TITLE_LIMIT, placeholder="…", break_on_hyphens=False)
    return Proposal(
        title=title or "A change without a message",
        hypothesis="\n".join(rest).strip(),
        agent=agent,
        expected=said.expected,
        simplification=said.simplification,
        insist=said.insist,
        sources=said.sources,
    )
