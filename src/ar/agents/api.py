"""One paid answer of Claude: the only module that imports `anthropic`.

Before a call the account has what it may cost at most, after it what it did cost; a call that could break the
budget is not made. Whatever passes (rate limits, overload, cut and slow connections) is tried again, here and
not in the client, so that each wait is shown and can be broken off. The rest becomes `AgentFailed`, in words.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ar.agents import account
from ar.agents.base import Channel, Dropped
from ar.agents.fence import BYTES_PER_TOKEN, tokens
from ar.errors import AgentFailed, ArError, OutOfBudget
from ar.git.repo import Repo
from ar.history.spend import Spend
from ar.project.program import AgentSpec, Prices, Program
from ar.redaction import redact
from ar.text import one_line, shorten_middle, span

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types import Message, Usage

MAX_TOKENS = 32_000  # of one answer, its thinking included
LEAST_TOKENS = 2_000  # an answer that may have less is not worth asking for
TRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0  # seconds; doubled each time
_LONGEST_ASKED = 3600.0  # seconds; how long `retry-after` may make us wait
_PATIENCE = 30.0  # seconds without a sign of life after which another agent may go on meanwhile
_SILENCE = 120.0  # seconds without a byte after which a connection counts as dead
_SET_KEY = "set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) in the environment, or agent: {kind: search}"
_PASSING_TYPES = ("overloaded_error", "rate_limit_error", "api_error", "timeout_error")


@dataclass(frozen=True)
class Answer:
    """What came back: blocks of content as the API wants them again, and why it ended."""

    content: list[dict[str, Any]]
    stop_reason: str


class Malformed(ArError):
    """An answer that cannot be read, such as tool input that is no JSON."""


@dataclass
class _Meter:
    """What is known of a call's cost while it is under way."""

    input_estimate: int
    told: Spend | None = None  # None until the answer begins
    written_short: int = 0
    written_long: int = 0
    received: int = 0  # bytes

    def read(self, usage: Usage | None) -> None:
        """Take what the answer says; some gateways say nothing, or nothing but zeros."""
        if usage is None:
            return
        written, cached = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
        self.written_long = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0
        self.written_short = max(0, written - self.written_long)
        self.told = Spend(usage.input_tokens + written + cached, cached, usage.output_tokens)

    def end(self, usage: Usage | None) -> None:
        """Take what a whole answer says: of what did arrive nothing need be estimated where it says that."""
        self.read(usage)
        if self.told is not None and self.told.output:
            self.received = 0

    def spent(self, prices: Prices | None, sent: bool) -> Spend:
        """Where the answer was cut off, what did arrive is estimated; where none began, what was `sent`."""
        told = self.told or Spend()
        amount = Spend(
            told.input or (self.input_estimate if sent else 0),
            told.cached,
            max(told.output, self.received // BYTES_PER_TOKEN),
        )
        return account.priced(amount, prices, self.written_short, self.written_long)


class Api:
    """Asks Claude, as its `spec` and the budget of the programme allow."""

    def __init__(self, spec: AgentSpec, program: Program, repo: Repo, channel: Channel) -> None:
        if program.budget.usd is not None and spec.prices is None:
            raise AgentFailed(
                "budget.usd is set, but the agent's prices are not",
                f"add to it in {program.file} what a million tokens of {spec.model} cost:"
                " prices: {input: …, cached: …, output: …}",
            )
        self.spec = spec
        self.program = program
        self.budget = program.budget
        self.repo = repo
        self.channel = channel
        self.spent = Spend()  # by all calls so far, failed ones too
        self.client = _client(spec)

    def ask(self, system: Any, tools: Any, messages: Sequence[Mapping[str, Any]]) -> Answer:
        """One answer.

        Raises:
            AgentFailed: there is none.
            OutOfBudget: it could cost more than is left.
            Malformed: it cannot be read.
            Dropped: nobody wants it any more.
        """
        try:
            return self._until_answered(system, tools, messages)
        finally:
            self.channel.expect(math.inf)

    def ask_briefly(self, system: str, text: str) -> str:
        """A short answer in words, without tools and thinking, asked for once.

        Raises:
            AgentFailed, OutOfBudget, Malformed, Dropped: as `ask`.
        """
        told, said = ([{"type": "text", "text": words}] for words in (system, text))
        request = {"model": self.spec.model, "system": told, "messages": [{"role": "user", "content": said}]}
        self.channel.expect(_PATIENCE)
        try:
            answer = self._paid(request, is_brief=True)
        finally:
            self.channel.expect(math.inf)
        return " ".join(block["text"] for block in answer.content if block.get("type") == "text")

    def _until_answered(self, system: Any, tools: Any, messages: Sequence[Mapping[str, Any]]) -> Answer:
        """One answer, tried again while what is in the way may pass. Meanwhile the channel is stalled."""
        self.channel.expect(_PATIENCE)
        request = {"model": self.spec.model, "system": system, "tools": tools, "messages": messages}
        pause = _FIRST_PAUSE
        for following in range(2, TRIES + 1):
            try:
                return self._paid(request)
            except AgentFailed as error:
                if not error.passing:
                    raise
                self.channel.expect(0.0)
                asked = _asked_to_wait(error.__cause__)
                delay = pause * random.uniform(0.75, 1.25) if asked is None else asked  # noqa: S311 - jitter
                again = f"(try {following} of {TRIES})"
                self.channel.event(f"{error.message}; asking again in {span(delay)} {again}")
                self.channel.wait(delay)
                self.channel.say(f"asks again {again}")
                pause = min(2 * pause, _LONGEST_PAUSE)
        return self._paid(request)

    def _paid(self, request: Mapping[str, Any], is_brief: bool = False) -> Answer:
        """One call, entered into the account before and after."""
        most = LEAST_TOKENS if is_brief else MAX_TOKENS
        estimate = tokens(json.dumps(request, ensure_ascii=False))
        meter, sent = _Meter(estimate), True
        at_most, call = account.reserve(
            self.repo, self.spec.name, lambda known: self._affordable(estimate, known.total, most)
        )
        try:
            with _explained(self.spec, self.program.file):
                manner = {} if is_brief else _manner(self.spec, at_most.output)
                message = self._stream({**request, **manner, "max_tokens": at_most.output}, meter)
        except AgentFailed as error:
            sent = not _never_sent(error.__cause__)
            raise
        finally:
            spent = meter.spent(self.spec.prices, sent)
            self.spent += spent
            account.record(self.repo, self.spec.name, spent, call)
        return Answer([block.to_dict() for block in message.content], message.stop_reason or "")

    def _affordable(self, estimate: int, spent: Spend, most: int) -> Spend:
        """The most that a call may cost, cut to what the budget has left of what is `spent`.

        Raises:
            OutOfBudget: that leaves no room for an answer.
        """
        prices, output = self.spec.prices, most
        if self.budget.tokens is not None:
            output = min(output, self.budget.tokens - spent.tokens - estimate)
        if self.budget.usd is not None and prices is not None:
            left = self.budget.usd - (spent.usd or 0.0) - estimate * account.WRITE_LONG * prices.input / 1e6
            output = min(output, int(left * 1e6 / prices.output) if prices.output else output)
            if left < 0:
                output = 0
        if output < LEAST_TOKENS:
            at_most = spent + account.priced(Spend(estimate, 0, LEAST_TOKENS), prices, written_long=estimate)
            account.refuse_beyond(at_most, self.program)
            raise OutOfBudget("the budget has no room for another answer", f"raise it in {self.program.file}")
        return account.priced(Spend(estimate, 0, output), prices, written_long=estimate)

    def _stream(self, request: Mapping[str, Any], meter: _Meter) -> Message:
        from anthropic.types import Message

        deadline = time.monotonic() + self.spec.timeout
        begun = False
        inputs: dict[int, str] = defaultdict(str)  # content block to the JSON text of its tool input
        with self.client.messages.stream(**request) as stream:
            if "event-stream" not in stream.response.headers.get("content-type", ""):
                # A gateway that does not stream answers in one piece.
                whole = stream.response.read()
                meter.received = len(whole)
                nothing = {"usage": {"input_tokens": 0, "output_tokens": 0}}
                message = Message.model_validate({**nothing, **json.loads(whole)})
                meter.end(message.usage)
                return message
            for event in stream:
                if self.channel.dropped.is_set():
                    raise Dropped("the question was dropped")
                if time.monotonic() > deadline:
                    raise TimeoutError
                begun = True
                self.channel.expect(_PATIENCE)
                if event.type == "message_start":
                    meter.read(event.message.usage)
                elif event.type == "content_block_delta":
                    meter.received += len(event.delta.to_json(indent=None))
                    if event.delta.type == "input_json_delta":
                        inputs[event.index] += event.delta.partial_json
            if not begun:
                raise ConnectionResetError
            message = stream.get_final_message()
        if message.stop_reason is None:
            raise ConnectionResetError
        meter.end(message.usage)
        if message.stop_reason != "max_tokens":
            for text in filter(None, inputs.values()):
                json.loads(text)  # the client is content with the beginning of an object
        return message


def _manner(spec: AgentSpec, most: int) -> dict[str, Any]:
    """How an answer of so many tokens at most is to be thought of, where the programme says that."""
    manner: dict[str, Any] = {"output_config": {"effort": spec.effort}} if spec.effort else {}
    if spec.thinking == "off":
        manner["thinking"] = {"type": "disabled"}
    elif isinstance(spec.thinking, int):
        tokens = min(spec.thinking, most - 1)  # a budget that nears its end leaves it less
        manner["thinking"] = {"type": "enabled", "budget_tokens": tokens}
    elif spec.thinking:
        manner["thinking"] = {"type": spec.thinking}
    return manner


def _client(spec: AgentSpec) -> Anthropic:
    """The client, with whatever credentials it finds by itself.

    Raises:
        AgentFailed: the package is missing, or there are none.
    """
    if importlib.util.find_spec("anthropic") is None:
        raise AgentFailed("the package anthropic is not installed", "run: pip install 'anthropic>=1,<3'")
    import anthropic

    logging.getLogger("anthropic").setLevel(logging.ERROR)  # a live view shares the terminal
    timeout = anthropic.Timeout(min(_SILENCE, spec.timeout), connect=min(10.0, spec.timeout))
    try:
        client = anthropic.Anthropic(base_url=spec.base_url or None, max_retries=0, timeout=timeout)
    except (anthropic.AnthropicError, ValueError, OSError) as error:
        raise AgentFailed(f"the Claude client does not start: {_brief(error)}", _SET_KEY) from None
    if client.api_key is None and client.auth_token is None and client.credentials is None:
        raise AgentFailed("there is no key for Claude", _SET_KEY)
    return client


@contextlib.contextmanager
def _explained(spec: AgentSpec, file: str) -> Iterator[None]:
    """Errors of the client as ours; the first becomes the other's cause."""
    import anthropic
    import httpx2

    try:
        yield
    except ArError:
        raise
    except anthropic.APIStatusError as error:
        raise _by_status(error, spec, file) from error
    except (anthropic.APITimeoutError, httpx2.TimeoutException, TimeoutError) as error:
        raise AgentFailed(
            f"Claude was too slow (more than {span(spec.timeout)}, or silent for {span(_SILENCE)})",
            f"try again later, or raise the agent's timeout in {file}",
            passing=True,
        ) from error
    except (anthropic.APIConnectionError, httpx2.HTTPError, ConnectionError) as error:
        where = spec.base_url or os.environ.get("ANTHROPIC_BASE_URL") or "api.anthropic.com"
        raise AgentFailed(
            f"the connection to {one_line(where)} broke or could not be made",
            f"check the network, base_url in {file} and ANTHROPIC_BASE_URL",
            passing=True,
        ) from error
    except anthropic.AnthropicError as error:
        raise AgentFailed(f"the Claude client failed: {_brief(error)}", _SET_KEY) from error
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        # What the client raises on events that are out of order, are no JSON, or lack what they should have.
        raise Malformed(f"the answer cannot be read: {type(error).__name__}") from error


def _by_status(error: Any, spec: AgentSpec, file: str) -> AgentFailed:
    status, kind = error.status_code, str(error.type or "")
    said = _brief(error.api_message or error.message)
    if status in (408, 409, 429) or status >= 500 or kind in _PASSING_TYPES:
        # An error in the middle of a stream has a kind, but the status of the stream's good beginning.
        word, number = "it failed", f" ({status})" if status >= 400 else ""
        if status == 429 or kind == "rate_limit_error":
            word = "its rate limit is reached"
        elif status == 529 or kind == "overloaded_error":
            word = "it is overloaded"
        return AgentFailed(f"Claude cannot answer now: {word}{number}", f"it said: {said}", passing=True)
    name = "ANTHROPIC_API_KEY" if os.environ.get("ANTHROPIC_API_KEY") else "ANTHROPIC_AUTH_TOKEN"
    key = ("Claude refused the key", f"set {name} to a key that is valid for {spec.model}")
    manner = " and ".join(name for name in ("thinking", "effort") if getattr(spec, name))
    usual = (
        f"its {manner} may not suit {spec.model}: see {file}" if manner else "if it is ar's fault, report it"
    )
    words, mend = {
        401: key,
        403: key,
        402: ("Claude's account cannot pay", "top it up, then run again"),
        404: (f"Claude knows no model '{spec.model}'", f"correct the agent's model in {file}"),
        413: ("the question is too long for Claude", f"shorten {file}"),
    }.get(status, ("Claude refused the request", usual))
    return AgentFailed(f"{words} ({status}): {said}", mend)


def _asked_to_wait(cause: BaseException | None) -> float | None:
    """Seconds that the answer's `retry-after` asks for; None if it does not."""
    with contextlib.suppress(AttributeError, KeyError, ValueError):
        seconds = float(cause.response.headers["retry-after"])  # type: ignore[union-attr]
        return min(max(seconds, 0.0), _LONGEST_ASKED)
    return None


def _never_sent(cause: BaseException | None) -> bool:
    """Whether nothing can have been charged: an error instead of an answer, or no connection."""
    import anthropic
    import httpx2

    connecting = getattr(cause, "__cause__", None)
    return isinstance(cause, anthropic.APIStatusError) or isinstance(
        connecting, httpx2.ConnectError | httpx2.ConnectTimeout
    )


def _brief(error: object) -> str:
    return shorten_middle(redact(one_line(str(error))), 200)
