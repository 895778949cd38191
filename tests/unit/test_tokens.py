"""The token verifier, through the authorizer."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcare.platform import aws, tokens
from tests.conftest import SECRET
from tests.gateway import ARN, Environment

Authorize = Callable[[str], dict[str, Any]]


@pytest.fixture
def authorize(environments: dict[str, Environment], secrets_manager: None) -> Iterator[Authorize]:
    """What the authorizer says of an Authorization header; its keys and ours are fetched anew."""
    module = environments["authorizer"].modules["healthcare.platform.tokens"]
    module._keys = tokens._keys = None  # type: ignore[attr-defined]

    def authorize(authorization: str) -> dict[str, Any]:
        event = {"type": "TOKEN", "authorizationToken": authorization, "methodArn": f"{ARN}/GET/api/patients/5"}
        answer: dict[str, Any] = environments["authorizer"].invoke(event)
        return answer

    yield authorize
    module._keys = tokens._keys = None  # type: ignore[attr-defined]


def _effect(answer: dict[str, Any]) -> str:
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Resource"] == f"{ARN}/*"
    return str(statement["Effect"])


def test_a_token_of_ours_is_allowed_everywhere_in_the_stage(authorize: Authorize) -> None:
    answer = authorize(f"Bearer {tokens.keys().issue(42, 'user')}")
    assert _effect(answer) == "Allow"
    assert answer["principalId"] == "42"
    assert answer["context"].keys() == {"user_id", "role", "exp"}
    assert (answer["context"]["user_id"], answer["context"]["role"]) == ("42", "user")
    assert 890 < int(answer["context"]["exp"]) - time.time() <= 900


def test_a_token_says_what_rfc_9068_asks_for(authorize: Authorize) -> None:
    token = tokens.keys().issue(42, "admin")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "first", "typ": "at+jwt"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"iss", "aud", "sub", "role", "iat", "exp", "jti"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("healthcare", "healthcare-api", "42")
    assert claims["jti"] != jwt.decode(tokens.keys().issue(42, "admin"), options={"verify_signature": False})["jti"]


@dataclass(frozen=True)
class FromNow:
    """A time of the test's own run: parameters name the tests, and each process that shares them has to agree."""

    seconds: int


def _forge(
    *, key: bytes | None = None, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """One of our tokens with something changed; a claim of None is left out."""
    key_set = tokens.keys()
    now = int(time.time())
    good = {
        "iss": "healthcare",
        "aud": "healthcare-api",
        "sub": "42",
        "role": "user",
        "iat": now,
        "exp": now + 900,
        "jti": "x",
    }
    given = {name: now + value.seconds if isinstance(value, FromNow) else value for name, value in claims.items()}
    payload = {name: value for name, value in (good | given).items() if value is not None}
    headers = {"kid": "first", "typ": "at+jwt"} | (header or {})
    return jwt.encode(payload, key or key_set.keys["first"], algorithm=algorithm, headers=headers)


def test_the_forge_makes_good_tokens_when_nothing_is_changed(authorize: Authorize) -> None:
    assert _effect(authorize(f"Bearer {_forge()}")) == "Allow"


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"x" * 32},
        {"algorithm": "HS384", "key": b"x" * 48},
        {"algorithm": "HS512", "key": b"x" * 64},
        {"header": {"kid": "second"}},
        {"header": {"kid": ""}},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": None}},
        {"iss": "somebody"},
        {"aud": "something"},
        {"aud": ["x"]},
        {"exp": FromNow(-1)},
        {"exp": 0},
        {"exp": "tomorrow"},
        {"nbf": FromNow(600)},
        {"iat": FromNow(600)},
        {"role": "root"},
        {"role": ["admin"]},
        {"sub": "ann"},
        *({name: None} for name in ("iss", "aud", "sub", "role", "iat", "exp", "jti")),
    ],
    ids=str,
)
def test_a_token_that_is_not_quite_ours_is_denied(authorize: Authorize, change: dict[str, Any]) -> None:
    answer = authorize(f"Bearer {_forge(**change)}")
    assert _effect(answer) == "Deny"
    assert "context" not in answer


def test_an_unsigned_token_is_denied(authorize: Authorize) -> None:
    claims = jwt.decode(_forge(), options={"verify_signature": False})
    for algorithm in ("none", "None", "NONE", "nOnE"):
        parts = [{"alg": algorithm, "kid": "first", "typ": "at+jwt"}, claims]
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        for signature in ("", "x", _forge().split(".")[2]):
            assert _effect(authorize(f"Bearer {token}.{signature}")) == "Deny"


def test_the_same_key_with_another_algorithm_is_denied(authorize: Authorize) -> None:
    for algorithm in ("HS384", "HS512"):
        key = tokens.keys().keys["first"]
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = _forge(key=key, algorithm=algorithm)
        assert _effect(authorize(f"Bearer {token}")) == "Deny"


def test_a_tampered_token_is_denied(authorize: Authorize) -> None:
    header, payload, signature = _forge().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "1"}).encode()).rstrip(b"=").decode()
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    for token in (f"{header}.{other}.{signature}", f"{header}.{payload}.{flipped}", f"{header}.{payload}."):
        assert _effect(authorize(f"Bearer {token}")) == "Deny"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer a.b.c", "Bearer é.é.é"])
def test_what_is_no_token_is_denied(authorize: Authorize, header: str) -> None:
    assert _effect(authorize(header)) == "Deny"


def test_a_refresh_token_is_no_access_token(authorize: Authorize) -> None:
    assert _effect(authorize(f"Bearer {secrets.token_urlsafe(48)}")) == "Deny"


def test_a_rotation_of_keys_logs_nobody_out_and_needs_no_restart(
    authorize: Authorize, monkeypatch: pytest.MonkeyPatch, environments: dict[str, Environment]
) -> None:
    old_token = tokens.keys().issue(42, "user")
    assert _effect(authorize(f"Bearer {old_token}")) == "Allow"
    client = boto3.client("secretsmanager")
    before = client.get_secret_value(SecretId=SECRET)["SecretString"]
    rotated = json.loads(before)
    rotated["keys"]["second"] = base64.b64encode(b"y" * 32).decode()
    rotated["current"] = "second"
    client.put_secret_value(SecretId=SECRET, SecretString=json.dumps(rotated))
    try:
        tokens._keys = None
        new_token = tokens.keys().issue(42, "user")
        assert jwt.get_unverified_header(new_token)["kid"] == "second"
        assert _effect(authorize(f"Bearer {new_token}")) == "Deny", "it has looked for keys a moment ago"
        module = environments["authorizer"].modules["healthcare.platform.tokens"]
        monkeypatch.setattr(module, "_REFETCH_AFTER", -1)
        assert _effect(authorize(f"Bearer {new_token}")) == "Allow"
        assert _effect(authorize(f"Bearer {old_token}")) == "Allow"
    finally:
        client.put_secret_value(SecretId=SECRET, SecretString=before)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
def test_no_text_makes_the_verifier_raise_anything_else(text: str) -> None:
    tokens._keys = tokens.KeySet("first", {"first": b"x" * 32}, time.monotonic())
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(text)
    tokens._keys = None


@given(
    st.integers(0, 10_000), st.sampled_from(["", "A", "b", "9", "-", "_", ".", "=", " ", "é", "\x00"]), st.booleans()
)
def test_a_token_that_is_changed_anywhere_proves_nothing_else(place: int, text: str, replaces: bool) -> None:
    tokens._keys = key_set = tokens.KeySet("first", {"first": b"x" * 32}, time.monotonic())
    token = key_set.issue(42, "user")
    place %= len(token)
    changed = token[:place] + text + token[place + replaces :]
    try:
        # Two bits of a signature's last character say nothing, and base64 skips what is none of its characters.
        assert tokens.verify(changed) == tokens.verify(token)
        assert changed == token or changed.rpartition(".")[0] == token.rpartition(".")[0]
    except tokens.InvalidToken:
        assert changed != token
    tokens._keys = None


def test_an_outage_of_secrets_manager_is_asked_about_once_in_a_while_only(
    secrets_manager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_keys", None)
    token = tokens.keys().issue(42, "user")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens at discard's port
    asked = 0
    fetch = aws.secret

    def counted(secret_id: str) -> Any:
        nonlocal asked
        asked += 1
        return fetch(secret_id)

    monkeypatch.setattr(aws, "secret", counted)
    for _ in range(5):
        tokens.keys(max_age=-1)
        assert tokens.verify(token).user_id == 42
    assert asked == 1
