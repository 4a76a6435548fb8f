"""Secrets are taken out of text; what merely looks a little like one stays."""

from __future__ import annotations

import pytest

from ar.redaction import MARK, redact

KEY = "sk-ant-api03-" + "Ab1_" * 12


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
