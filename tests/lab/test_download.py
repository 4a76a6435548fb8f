"""Downloads against a real HTTP server: whole, cut and resumed, wrong, and missing."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

import data.download
from data.download import Remote, fetch
from data.errors import LabError
from tests.lab.conftest import Lab


def parquet_bytes(documents: list[str]) -> bytes:
    """A real parquet file with a text column."""
    sink = io.BytesIO()
    numbers = list(range(len(documents)))
    pq.write_table(pa.table({"id": numbers, "text": documents}), sink, row_group_size=50)
    return sink.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files` with Range support, cutting each connection after `cut` bytes `cuts` times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut = 10_000
        self.cuts = 0
        self.ranges = True
        self.requests: list[str | None] = []

    def url(self, name: str) -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.server.files.get(self.path[1:])
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = len(body)
        if self.server.cuts:
            self.server.cuts -= 1
            end = start + self.server.cut
        self.wfile.write(body[start:end])

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server for the test, and no waiting between tries."""
    monkeypatch.setattr(data.download, "WAIT_SECONDS", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


BODY = bytes(range(256)) * 200
SHA = hashlib.sha256(BODY).hexdigest()


def test_a_whole_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    path, digest = fetch(Remote(server.url("a.bin"), SHA), tmp_path)
    assert path.read_bytes() == BODY
    assert digest == SHA
    assert fetch(Remote(server.url("a.bin")), tmp_path) == (path, SHA)
    assert server.requests == [None]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    server.cuts = 3
    path, _ = fetch(Remote(server.url("a.bin"), SHA), tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests == [None, "bytes=10000-", "bytes=20000-", "bytes=30000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    server.cuts, server.ranges = 1, False
    path, _ = fetch(Remote(server.url("a.bin"), SHA), tmp_path)
    assert path.read_bytes() == BODY


def test_a_later_call_resumes_what_an_earlier_one_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.bin"] = BODY
    server.cuts, server.cut = 1, 5_000
    monkeypatch.setattr(data.download, "TRIES", 1)
    server.cuts = 1
    remote = Remote(server.url("a.bin"), SHA)
    monkeypatch.setattr(server, "cut", 5_000)
    part = tmp_path / f"{hashlib.sha256(remote.url.encode()).hexdigest()[:12]}-a.bin.part"
    part.write_bytes(BODY[:5_000])
    path, _ = fetch(remote, tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests == ["bytes=5000-", "bytes=10000-"]


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    with pytest.raises(LabError, match=rf"a.bin: wrong checksum: sha256 is {SHA}, params.yaml says 00ff"):
        fetch(Remote(server.url("a.bin"), "00ff"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_and_a_dead_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"HTTP 404 Not Found; correct data\.parquet"):
        fetch(Remote(server.url("gone")), tmp_path)
    server.files["a.bin"] = BODY
    server.cuts, server.cut = 1000, 0
    with pytest.raises(LabError, match="0 bytes are kept, run the same command to resume"):
        fetch(Remote(server.url("a.bin")), tmp_path)
    assert len(server.requests) == 1 + data.download.TRIES


def test_prepare_from_parquet_over_http(server: Server, bare: Lab) -> None:
    documents = [f"document {i}: " + " ".join(str(n * i) for n in range(200)) for i in range(200)]
    body = parquet_bytes(documents)
    server.files["docs.parquet"] = body
    server.cuts, server.cut = 2, len(body) // 3
    entry = {"url": server.url("docs.parquet"), "sha256": hashlib.sha256(body).hexdigest()}
    bare.set(data={"source": "parquet", "parquet": [entry], "vocab_size": 300})
    result = bare.run("data.prepare")
    assert result.returncode == 0, result.stderr
    assert len(server.requests) == 3
    manifest = (bare.root / "data/shards/manifest.json").read_text()
    assert entry["sha256"] in manifest
    assert entry["url"] in manifest

    bare.set(data={"text_column": "body"})
    result = bare.run("data.prepare")
    assert result.returncode == 2
    assert "has no column 'body' (data.text_column); it has id, text" in result.stderr
