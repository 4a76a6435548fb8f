"""A stand-in for Claude's Messages API: a real HTTP server on loopback that is told what to answer.

It holds requests to the rules of the real one (tool results follow their calls, at most four cache marks,
strict schemas closed) and keeps a prompt cache of its own, so that the usage it reports is that of the
request's real layout. Answers are `Reply` objects, or functions from the request to one.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Request = dict[str, Any]
EFFORTS = ("low", "medium", "high", "xhigh", "max")
KEY = "sk-ant-api03-" + "Zx9_" * 20


@dataclass(frozen=True)
class Reply:
    """One answer.

    Args:
        status: other than 200, an error of `kind` with `headers`.
        cut: end the connection after so many events; `politely` as if the answer were whole.
        silence: seconds before the first byte; `pause` between two events.
        raw_input: JSON text of every tool's input, instead of what it should be.
        broken: after the first events, an error event of that kind.
        plain: answer in one piece though a stream was asked for, as some gateways do.
        uncounted: tell nothing of tokens: only zeros in a stream, no usage at all in one piece.
    """

    content: tuple[dict[str, Any], ...] = ()
    stop_reason: str = "end_turn"
    output_tokens: int = 50
    status: int = 200
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    politely: bool = False
    silence: float = 0.0
    pause: float = 0.0
    raw_input: str | None = None
    broken: str = ""
    plain: bool = False
    uncounted: bool = False


def says(text: str, **kwargs: Any) -> Reply:
    return Reply(({"type": "text", "text": text},), **kwargs)


_calls = iter(range(10**9))


def calls(*tools: tuple[str, dict[str, Any]], **kwargs: Any) -> Reply:
    """An answer that calls tools, after a word of explanation."""
    blocks = [
        {"type": "tool_use", "id": f"toolu_{next(_calls):06}", "name": name, "input": given}
        for name, given in tools
    ]
    return Reply(({"type": "text", "text": "Let me see."}, *blocks), stop_reason="tool_use", **kwargs)


def fails(status: int, kind: str = "api_error", **headers: str) -> Reply:
    return Reply(status=status, kind=kind, headers={k.replace("_", "-"): v for k, v in headers.items()})


def proposes(title: str = "x 1.5 → 2.5", **given: Any) -> Reply:
    """An answer that proposes; by default to set x."""
    whole: dict[str, Any] = {
        "title": title,
        "hypothesis": "The floor lies further right.",
        "evidence": [],
        "expected": "-1.0",
        "refuted_by": "val_loss is not lower.",
        "params": [] if "edits" in given else [{"key": "x", "value": 2.5}],
        "edits": [],
        "simplification": False,
        "builds_on": "",
        "insist": "",
        **given,
    }
    return calls(("propose", whole))


class Server:
    """Answers with a script, one entry a request, whoever asks.

    Args:
        script: what to answer, in order; the last entry for ever if `endless`.
    """

    def __init__(self, script: Sequence[Reply | Callable[[Request], Reply]], endless: bool = False) -> None:
        self.script = list(script)
        self.endless = endless
        self.message = "no."  # what errors say
        self.requests: list[Request] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[str] = []  # how requests broke the rules
        self.usages: list[dict[str, Any]] = []
        self._cache: set[str] = set()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                server._answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # cutting a connection is what we do on purpose

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        if kind is None:
            assert not self.faults, self.faults

    @property
    def environment(self) -> dict[str, str]:
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": KEY}

    # -- answering ----------------------------------------------------------------------------------------

    def _answer(self, to: BaseHTTPRequestHandler, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            self.headers.append({key.lower(): value for key, value in to.headers.items()})
            fault = _fault(request)
            if fault:
                self.faults.append(fault)
            entry: Reply | Callable[[Request], Reply] = fails(500)
            if self.script:
                entry = self.script[0] if self.endless and len(self.script) == 1 else self.script.pop(0)
        reply = entry if isinstance(entry, Reply) else entry(request)
        if fault:
            reply = replace(fails(400, "invalid_request_error"))
        time.sleep(reply.silence)
        if reply.status != 200:
            self._send(
                to,
                reply.status,
                {"type": "error", "error": {"type": reply.kind, "message": fault or self.message}},
                reply,
            )
            return
        usage = self._usage(request, reply)
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": list(reply.content),
            "stop_reason": reply.stop_reason,
            "stop_sequence": None,
            "usage": dict.fromkeys(usage, 0) if reply.uncounted else usage,
        }
        if reply.uncounted and reply.plain:
            del message["usage"]
        if not request.get("stream") or reply.plain:
            self._send(to, 200, message, reply)
        else:
            self._stream(to, message, reply)

    def _send(self, to: BaseHTTPRequestHandler, status: int, data: Any, reply: Reply) -> None:
        body = json.dumps(data).encode()
        to.send_response(status)
        to.send_header("content-type", "application/json")
        to.send_header("content-length", str(len(body)))
        for key, value in reply.headers.items():
            to.send_header(key, value)
        to.end_headers()
        to.wfile.write(body)

    def _stream(self, to: BaseHTTPRequestHandler, message: dict[str, Any], reply: Reply) -> None:
        to.send_response(200)
        to.send_header("content-type", "text/event-stream; charset=utf-8")
        to.send_header(
            "connection" if reply.politely else "transfer-encoding", "close" if reply.politely else "chunked"
        )
        to.end_headers()
        try:
            for number, event in enumerate(_events(message, reply)):
                if number == reply.cut:
                    to.close_connection = True
                    if not reply.politely:
                        to.connection.shutdown(2)
                    return
                data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                to.wfile.write(data if reply.politely else b"%x\r\n%s\r\n" % (len(data), data))
                to.wfile.flush()
                time.sleep(reply.pause)
            if not reply.politely:
                to.wfile.write(b"0\r\n\r\n")
        except OSError:
            to.close_connection = True  # the client went away
        if reply.politely:
            to.close_connection = True

    def _usage(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Tokens (a third of the bytes) sent, read from the cache and written to it."""
        sizes, read, written = 0, 0, 0
        fresh: list[str] = []
        digest = hashlib.sha256()
        with self._lock:
            for block in _blocks(request):
                marked = block.pop("cache_control", None)
                data = json.dumps(block, sort_keys=True).encode()
                digest.update(data)
                sizes += len(data)
                if marked:
                    if digest.hexdigest() in self._cache:
                        read = sizes
                    else:
                        written = sizes - read
                    fresh.append(digest.hexdigest())
            self._cache.update(fresh)
            usage = {
                "input_tokens": (sizes - read - written) // 3,
                "cache_read_input_tokens": read // 3,
                "cache_creation_input_tokens": written // 3,
                "output_tokens": reply.output_tokens,
            }
            self.usages.append(usage)
        return usage


def _blocks(request: Request) -> Iterator[dict[str, Any]]:
    """Everything that the cache counts, in its order: tools, system, messages."""
    for block in [*request.get("tools", []), *request["system"]]:
        yield dict(block)
    for message in request["messages"]:
        for block in message["content"]:
            yield {"role": message["role"], **block}


def prefix(request: Request) -> bytes:
    """A request as the prompt cache sees it, its marks left out."""
    blocks = list(_blocks(request))
    for block in blocks:
        block.pop("cache_control", None)
    return b"\n".join(json.dumps(block, ensure_ascii=False).encode() for block in blocks)


def _events(message: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    usage = message["usage"]
    start = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": min(1, usage["output_tokens"])},
    }
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        if reply.broken and index == 1:
            yield {"type": "error", "error": {"type": reply.broken, "message": "no."}}
            return
        if block["type"] == "tool_use":
            yield {"type": "content_block_start", "index": index, "content_block": {**block, "input": {}}}
            text = json.dumps(block["input"]) if reply.raw_input is None else reply.raw_input
            parts = [{"type": "input_json_delta", "partial_json": part} for part in _cut(text)]
        elif block["type"] == "thinking":
            begun = {**block, "thinking": "", "signature": ""}
            yield {"type": "content_block_start", "index": index, "content_block": begun}
            parts = [{"type": "thinking_delta", "thinking": part} for part in _cut(block["thinking"])]
            parts.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            yield {"type": "content_block_start", "index": index, "content_block": {**block, "text": ""}}
            parts = [{"type": "text_delta", "text": part} for part in _cut(block["text"])]
        for part in parts:
            yield {"type": "content_block_delta", "index": index, "delta": part}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _cut(text: str) -> list[str]:
    step = max(1, len(text) // 3)
    return [text[start : start + step] for start in range(0, len(text), step)]


# -- the rules --------------------------------------------------------------------------------------------


def _fault(request: Request) -> str:
    """How a request breaks the rules of the real API; empty if it does not."""
    for key in ("temperature", "top_p", "top_k", "tool_choice"):
        if key in request:
            return f"{key} is not for every model"
    if fault := _bad_manner(request):
        return fault
    marks = [block["cache_control"] for block in _blocks(request) if "cache_control" in block]
    if len(marks) > 4:
        return f"{len(marks)} cache marks"
    lasting = [mark.get("ttl", "5m") for mark in marks]
    if lasting != sorted(lasting):  # "1h" sorts before "5m", as it has to
        return f"cache marks in the order {lasting}"
    for tool in request.get("tools", []):
        if tool.get("strict") and (fault := _open_schema(tool["input_schema"])):
            return f"{tool['name']}: {fault}"
    waiting: list[str] = []
    for message in request["messages"]:
        if not message["content"]:
            return "a message without content"
        kinds = [block["type"] for block in message["content"]]
        if message["role"] == "user":
            given = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
            if sorted(given) != sorted(waiting):
                return f"tool results for {given} where {waiting} wait"
            if "tool_result" in kinds[len(given) :]:
                return "tool results come first"
        elif waiting:
            return "tool calls without results"
        waiting = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    if request["messages"][-1]["role"] != "user":
        return "the last message is not the user's"
    return ""


def _bad_manner(request: Request) -> str:
    """What is wrong with how an answer is to be thought of; empty if nothing is."""
    thinking, config = request.get("thinking", {"type": "disabled"}), request.get("output_config", {})
    if thinking["type"] not in ("adaptive", "disabled", "enabled"):
        return f"thinking of type {thinking['type']}"
    if thinking["type"] == "enabled" and not 1024 <= thinking["budget_tokens"] < request["max_tokens"]:
        return "thinking.budget_tokens"
    if thinking["type"] != "disabled":
        for message in request["messages"]:
            kinds = [block["type"] for block in message["content"]]
            if "tool_use" in kinds and "thinking" in kinds and kinds[0] != "thinking":
                return "an assistant message must start with its thinking"
    if config and (set(config) != {"effort"} or config["effort"] not in EFFORTS):
        return f"output_config {config}"
    return ""


def _open_schema(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if kind == "object":
        if schema.get("additionalProperties") is not False:
            return "a strict schema with open properties"
        if set(schema["required"]) != set(schema["properties"]):
            return "a strict schema with optional properties"
        return next(filter(None, map(_open_schema, schema["properties"].values())), "")
    if kind == "array":
        return _open_schema(schema["items"])
    allowed = {"type", "description", "enum", "anyOf"}
    return "" if set(schema) <= allowed else f"unsupported {set(schema) - allowed}"
