"""Downloads that resume where they were cut, and whose checksum is always known."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.console import Progress
from data.errors import LabError

CHUNK = 1 << 18  # bytes
TRIES = 6  # connections without a single new byte before giving up
WAIT_SECONDS = 0.5  # before the second try; doubles with each further one
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Remote:
    """A file at a URL or a local path, and its checksum if the settings give one."""

    url: str
    sha256: str | None = None

    @classmethod
    def parse(cls, entry: Any) -> Remote:
        """From params.yaml: a string, or a mapping with `url` and `sha256`."""
        if isinstance(entry, str):
            return cls(entry)
        if isinstance(entry, dict) and set(entry) <= {"url", "sha256"} and isinstance(entry.get("url"), str):
            sha256 = entry.get("sha256")
            if sha256 is None or isinstance(sha256, str):
                return cls(entry["url"], sha256.lower() if sha256 else None)
        raise LabError(
            f"params.yaml: data.parquet: expected a path, a URL or {{url: ..., sha256: ...}}, not {entry!r}"
        )

    @property
    def local(self) -> bool:
        """Whether it is a path on this machine."""
        return urllib.parse.urlsplit(self.url).scheme not in ("http", "https")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(remote: Remote, folder: Path) -> tuple[Path, str]:
    """The file on this machine and its sha256; downloaded into `folder` unless it is there already.

    A download goes to a `.part` file, which a later call resumes, and is renamed when whole and
    checked. Raises LabError naming the URL when it cannot be had or its checksum differs.
    """
    if remote.local:
        path = Path(remote.url)
        if not path.is_file():
            raise LabError(f"params.yaml: data.parquet: {path} is not a file")
    else:
        name = Path(urllib.parse.urlsplit(remote.url).path).name or "file"
        path = folder / f"{hashlib.sha256(remote.url.encode()).hexdigest()[:12]}-{name}"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            _download(remote.url, part)
            _check(remote, part, sha256_of(part))
            part.rename(path)
    digest = sha256_of(path)
    _check(remote, path, digest)
    return path, digest


def _check(remote: Remote, path: Path, digest: str) -> None:
    if remote.sha256 in (None, digest):
        return
    if not remote.local:
        path.unlink()  # a wrong file must not be resumed or found again
    raise LabError(
        f"{remote.url}: wrong checksum: sha256 is {digest}, params.yaml says {remote.sha256}; "
        "correct data.parquet or the file"
    )


def _download(url: str, part: Path) -> None:
    """Appends to `part` until it is whole, over as many connections as make progress."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive(url, part, before):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # the part is longer than the file: start over
                part.unlink()
            elif error.code < 500 and error.code != 429:
                raise LabError(f"{url}: HTTP {error.code} {error.reason}; correct data.parquet") from error
            reason = f"HTTP {error.code}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures == TRIES:
            raise LabError(f"{url}: {reason}; {after} bytes are kept, run the same command to resume")
        if failures:
            time.sleep(WAIT_SECONDS * 2 ** (failures - 1))


def _receive(url: str, part: Path, have: int) -> bool:
    """One connection, from byte `have` on. True when the file is whole."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (http or https: `local` is false)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        have = have if resumed else 0  # a server without ranges sends everything again
        total = have + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            Progress("download", total or 1) as progress,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress.update(have, f"{have / 1e6:.1f} MB")
            if total is None or have == total:
                progress.close(f"{have / 1e6:.1f} MB")
                return True
        return False
