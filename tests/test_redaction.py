"""Secrets are taken out of text; what merely looks a little like one stays."""

from __future__ import annotations

import base64
import json
import textwrap
import urllib.parse
from pathlib import Path

import pytest

from ar import redaction
from ar.redaction import MARK, redact
from ar.runs import outcomes

KEY = "sk-ant-api03-" + "Ab1_" * 12


@pytest.fixture(autouse=True)
def nothing_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests' programmes handed to stages and agents is no secret here."""
    monkeypatch.setattr(redaction, "_handed", set())


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "sk-proj-" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 8,
        "hf_" + "aBcD" * 8,
        "AKIA" + "ABCD1234" * 2,
        "xoxb-1234567890-abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_known_shapes_go_wherever_they_stand(secret: str) -> None:
    assert redact(f"before {secret} after", {}) == f"before {MARK} after"
    assert secret not in redact(f'{{"a":"{secret}"}}', {})


@pytest.mark.parametrize(
    "name", ["ANTHROPIC_API_KEY", "MY_TOKEN", "db_password", "WANDB_SECRET_VALUE", "AWS_CREDENTIALS"]
)
def test_values_of_the_environment_go_by_their_name(name: str) -> None:
    assert redact("it is hunter-two.", {name: "hunter-two"}) == f"it is {MARK}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUM_TOKENS", "1000000"),
        ("TOKENIZERS_PARALLELISM", "harmless-value"),
        ("KEYBOARD", "harmless-value"),
        ("USE_TOKEN", "true"),
        ("SSH_KEY_FILE", "/home/me/.ssh/id_rsa"),
        ("EMPTY_SECRET", ""),
        ("PIN_PASSWORD", "x"),
    ],
)
def test_what_is_no_secret_stays(name: str, value: str) -> None:
    text = f"text with {value} in it x 1000000"
    assert redact(text, {name: value}) == text


def test_the_longest_value_goes_first() -> None:
    assert redact("abcdef-ghijkl", {"A_KEY": "abcdef", "B_KEY": "abcdef-ghijkl"}) == MARK


@pytest.mark.parametrize(
    "line",
    [
        'api_key: "zq8Xk2Lm9Pv4Rt7Yw1"',
        "API_KEY=zq8Xk2Lm9Pv4Rt7Yw1",
        '{"access_token": "zq8Xk2Lm9Pv4Rt7Yw1"}',
        "Authorization: Bearer zq8Xk2Lm9Pv4Rt7Yw1",
    ],
)
def test_a_value_that_a_file_calls_a_secret_goes(line: str) -> None:
    assert "zq8Xk2Lm9Pv4Rt7Yw1" not in redact(line, {})


@pytest.mark.parametrize(
    "code",
    [
        "token = tokens[:, index_of_last_token2]",
        "key, query = self.w_k1(x), self.w_q2(x)",
        "secret_key = derive_key_from_passphrase2(salt)",
        "api_key = os.environ['ANTHROPIC_API_KEY']",
        "password: str | None = None",
        "task-specific-learning-rate-for-embedding-0.3",
        "attention = softmax(q @ k.T / sqrt(d))",
        "commit 83d7f48e0c8a4a0db9c1c3b8f9c2f7a1f6f2d3e4",
    ],
)
def test_code_stays_as_it_is(code: str) -> None:
    assert redact(code, {}) == code


HANDED = "Zq8/x+k2 Lm9~Pv4?Rt7"


def _spelled() -> dict[str, str]:
    raw = HANDED.encode()
    encoded = base64.b64encode(raw).decode().rstrip("=")
    return {
        "as it is": HANDED,
        "base64": encoded,
        "base64, later in what is encoded": base64.b64encode(b"key " + raw + b" end").decode(),
        "base64, in lines": "\n".join(textwrap.wrap(encoded, 5)),
        "base64 for URLs": base64.urlsafe_b64encode(raw).decode(),
        "hex": raw.hex(),
        "hex in capitals": raw.hex().upper(),
        "hex in groups": raw.hex(" ", 4),
        "URL-encoded": urllib.parse.quote(HANDED, safe=""),
        "broken over lines": "\r\n".join(textwrap.wrap(HANDED, 6)),
        "broken in JSON": json.dumps(HANDED[:9] + "\n" + HANDED[9:]),
        "behind a backslash": "\\" + HANDED,
    }


@pytest.mark.parametrize("how", list(_spelled()))
def test_a_value_goes_however_it_is_written(how: str) -> None:
    told = redact(f"so: {_spelled()[how]} :so", {"MY_TOKEN": HANDED})
    assert MARK in told and told.startswith("so: ") and told.endswith(" :so")
    assert len(told) <= len(MARK) + 28  # characters that it shares with what is around it are left


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_handed", set())


@pytest.mark.usefixtures("handed")
@pytest.mark.parametrize("value", ["hunter-two", "/" + "Ab1" * 12, "correcthorsebattery", "Passwort"])
def test_what_was_handed_on_goes_whatever_its_name(value: str) -> None:
    assert value in redact(f"it is {value}.", {"HARMLESS": value})
    redaction.hand([value])
    assert redact(f"it is {value}.", {}) == f"it is {MARK}."


@pytest.mark.usefixtures("handed")
@pytest.mark.parametrize("value", ["nanochat", "OFFLINE", "12", "true", "/home/me/data", "x"])
def test_what_was_handed_on_and_is_a_word_of_every_text_stays(value: str) -> None:
    redaction.hand([value])
    assert redact(f"it is {value}.", {}) == f"it is {value}."


def test_values_that_overlap_go_together() -> None:
    assert redact("<abcdef-ghijkl>", {"A_KEY": "abcdef-ghi", "B_KEY": "f-ghijkl"}) == f"<{MARK}>"


def test_letters_that_change_their_length_in_lower_case_move_nothing() -> None:
    assert redact(f"İİİ {b'hunter-two'.hex().upper()}!", {"A_KEY": "hunter-two"}) == f"İİİ {MARK}!"


@pytest.mark.parametrize(
    "unit",
    [
        "step 12 loss 3.4\n", "password=", "password=1a.", "api_key:", "eyJabcdefghijkl-", "eyJabcdefghijkl.",
        "authorization: bearer ", "password   ", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN A", "sk-", "a1",
        "\\n", "hunter-tw\n", "-----BEGIN PRIVATE KEY-----\n-----END A",
    ],
)  # fmt: skip
def test_whole_logs_take_no_longer_than_their_length(unit: str) -> None:
    """With time that grows with the square, each of these would take minutes."""
    redact(unit * (1_000_000 // len(unit)), {"A_KEY": "hunter-two"})


@pytest.mark.parametrize("shown", [1, 9, 14, 4000, 4095, 4097, 4110])
def test_no_part_of_a_value_is_left_where_the_end_of_a_log_begins(
    shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`shown`: characters from the value's last on, up to the bars, that the end of the log holds."""
    monkeypatch.setenv("MY_TOKEN", HANDED)
    bars = "\n" + "1 %\r" * (4 * outcomes.LOG_LIMIT // 4)
    after = bars[: 4 * outcomes.LOG_LIMIT - shown - len("\nlast words")] + "\nlast words"
    filled = (HANDED[:12] + "\n" + HANDED[12:]) + "." * max(0, shown - 10)
    (tmp_path / "log").write_text("x" * 99 + filled + after)
    told = outcomes.tail(tmp_path / "log")
    assert told.endswith("last words")
    assert not any(part in told for part in ("Zq8", "Lm9", "Pv4", "Rt7"))


LONG = ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIB\n" * 9 + "-----END RSA PRIVATE KEY-----", "x " * 60)
STREAMED = (
    *_spelled().values(), *LONG, KEY,
    "password : Ab1Ab1Ab1Ab1Ab1Ab1", "Authorization: Bearer zq8Xk2Lm9Pv4Rt7Yw1",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "Zq8/x+\\nk2 Lm9~Pv4\\\n?Rt7", "Zq8" + " " * 99 + "/x+k2 Lm9~Pv4?Rt7",
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_a_text_that_comes_in_parts_is_redacted_as_a_whole_one(size: int) -> None:
    environ = {"MY_TOKEN": HANDED, "LATER_KEY": "Rt7 ends"}
    for secret in STREAMED:
        text = f"step 1\n so: {secret} ends, loss 3.2\n"
        stream, told = redaction.Redactor(environ), ""
        for at in range(0, len(text), size):
            told += stream.feed(text[at : at + size])
            assert redact(text, environ).startswith(told)
        assert told + redact(stream.kept, environ) == redact(text, environ)


def test_a_line_without_secrets_is_told_when_it_ends() -> None:
    stream = redaction.Redactor({"MY_TOKEN": HANDED})
    for line in ("step 1 loss 3.2\n", "C:\\new\n", "100 %|#####| 3/3 [00:02<00:00, 1.5 it/s]\n"):
        assert stream.feed(line) == line


@pytest.mark.parametrize(
    "unit", ["a", "Zq8/x+k2 Lm9~Pv4?Rt", "Zq8/ ", " ", "\\n", "-----BEGIN PRIVATE KEY-----\n"]
)
def test_what_waits_for_the_rest_of_a_secret_has_a_bound(unit: str) -> None:
    stream = redaction.Redactor({"MY_TOKEN": HANDED})
    part = unit * (97 // len(unit) + 1)
    for _ in range(3_000):
        stream.feed(part)
        assert len(stream.kept) < 100_000
    stream.feed(" Zq8" + " " * 200_000)
    assert "Rt7" not in stream.feed("/x+k2 Lm9~Pv4?Rt7 ends ") + redact(stream.kept, {"MY_TOKEN": HANDED})
