"""Git's ssh signatures, over text of our own: the one place that starts `ssh-keygen`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ar.errors import ArError, BadState
from ar.git.command import GitFailed, brief
from ar.git.repo import Repo
from ar.text import one_line

# What is signed for one purpose is no use for another: git signs commits in the namespace `git`.
NAMESPACE = "results@dvc-ar"
MOST_BYTES = 16_000  # of a signature: with the largest RSA keys it has 5,000
_PRINCIPAL = "ar"
_KIND = re.compile(
    r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d{3}|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
)
_ARMOUR = re.compile(r"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)-----END SSH SIGNATURE-----\n?")
_SIGN_SECONDS, _VERIFY_SECONDS = 120, 30  # a token may wait for a touch, an agent for a passphrase


class CannotSign(ArError):
    """The key that git is set to sign with cannot be used."""


@dataclass(frozen=True)
class PublicKey:
    """An ssh public key.

    Args:
        kind: as the key's line begins: `ssh-ed25519`.
        blob: the key itself, in ssh's encoding.
        name: whatever stands behind it in its line.
    """

    kind: str
    blob: bytes
    name: str = ""

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """The key in a line of a `.pub` file; None where there is none, or only a certificate."""
        kind, _, rest = line.strip().partition(" ")
        text, _, name = rest.strip().partition(" ")
        try:
            blob = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
        is_key = _KIND.fullmatch(kind) and _strings(blob)[:1] == [kind.encode()]
        return cls(kind, blob, one_line(name).strip()) if is_key else None

    @property
    def line(self) -> str:
        return " ".join(filter(None, (self.kind, base64.b64encode(self.blob).decode(), self.name)))

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


def signer(signature: str) -> PublicKey | None:
    """The key that a signature says it was made with, which nothing has checked yet; None if it is none."""
    found = _ARMOUR.fullmatch(signature) if len(signature) <= MOST_BYTES else None
    try:
        raw = base64.b64decode(found[1].replace("\n", ""), validate=True) if found else b""
    except (binascii.Error, ValueError):
        return None
    magic = b"SSHSIG\0\0\0\1"
    blob = next(iter(_strings(raw.removeprefix(magic))), b"") if raw.startswith(magic) else b""
    kind = next(iter(_strings(blob)), b"").decode(errors="replace")
    return PublicKey(kind, blob) if _KIND.fullmatch(kind) else None


def holds(key: PublicKey, text: str, signature: str) -> bool:
    """Whether a signature over a text was made with a key, for our purpose."""
    claimed = signer(signature)
    if claimed is None or claimed.blob != key.blob:
        return False
    with tempfile.TemporaryDirectory(prefix="ar-verify-") as folder:
        keys, file = Path(folder, "keys"), Path(folder, "signature")
        bare = PublicKey(key.kind, key.blob).line
        keys.write_text(f'{_PRINCIPAL} namespaces="{NAMESPACE}" {bare}\n', encoding="ascii")
        file.write_text(signature, encoding="ascii")
        who = ("-f", str(keys), "-I", _PRINCIPAL, "-n", NAMESPACE, "-s", str(file))
        try:
            done = _start(("ssh-keygen", "-Y", "verify", *who), text, _VERIFY_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


@dataclass(frozen=True)
class Signer:
    """The ssh key that git is set to sign commits with.

    Args:
        program: what signs: git's `gpg.ssh.program`, or `ssh-keygen`.
        folder: that relative paths of git's settings begin at.
        setting: git's `user.signingKey`: a file, or the public key itself.
    """

    program: str
    folder: Path
    setting: str
    key: PublicKey

    @classmethod
    def configured(cls, repo: Repo) -> Self | None:
        """None where git signs with no ssh key.

        Raises:
            CannotSign: it is set to, and the public half of the key cannot be read.
        """
        setting = _setting(repo, "user.signingKey")
        if not setting or _setting(repo, "gpg.format") != "ssh":
            return None
        lines = [setting.removeprefix("key::")]
        for name in (setting, f"{setting}.pub"):
            with contextlib.suppress(OSError, ValueError):
                lines += (repo.top / name).read_text(encoding="utf-8").split("\n")
        key = next((key for line in lines if (key := PublicKey.parse(line))), None)
        if key is None:
            raise CannotSign(f"{setting}.pub holds no ssh key", "see: git config user.signingKey")
        return cls(_setting(repo, "gpg.ssh.program") or "ssh-keygen", repo.top, setting, key)

    def sign(self, text: str) -> str:
        """The signature over a text.

        Raises:
            CannotSign: the key is locked, gone, or another's.
        """
        with tempfile.TemporaryDirectory(prefix="ar-sign-") as folder:
            file = self.setting
            if self.setting.startswith(("key::", "ssh-")):  # its private half is with an agent
                file = str(Path(folder, "key.pub"))
                Path(file).write_text(f"{self.key.line}\n", encoding="utf-8")
            try:
                command = (self.program, "-Y", "sign", "-n", NAMESPACE, "-f", file)
                done = _start(command, text, _SIGN_SECONDS, self.folder)
            except subprocess.TimeoutExpired:
                raise CannotSign(f"{self.program} did not sign within {_SIGN_SECONDS} s") from None
        signature = done.stdout.decode("ascii", errors="replace")
        claimed = signer(signature)
        if done.returncode or claimed is None or claimed.blob != self.key.blob:
            said = brief(done.stderr.decode(errors="replace"))
            raise CannotSign(f"{self.program} gave no signature: {said}", "does this work? git commit -S")
        return signature


def _setting(repo: Repo, name: str) -> str:
    try:
        return repo.run("config", "--type=path", "--get", name)
    except GitFailed:
        return ""


def _start(
    command: tuple[str, ...], text: str, seconds: float, folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=seconds, cwd=folder, check=False
        )
    except OSError as error:
        raise BadState(
            f"cannot start {command[0]}: {error.strerror}", "install OpenSSH 8.2 or newer"
        ) from None


def _strings(raw: bytes) -> list[bytes]:
    """The leading fields of ssh's encoding: each a length of four bytes, and as many bytes."""
    found: list[bytes] = []
    while len(raw) >= 4 and len(found) < 8:
        end = 4 + int.from_bytes(raw[:4])
        if end > len(raw):
            break
        found.append(raw[4:end])
        raw = raw[end:]
    return found
