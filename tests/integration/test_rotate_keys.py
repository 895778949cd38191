"""The rotation of the signing keys, all steps, against Secrets Manager (moto) and the real authorizer."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import jwt
import pytest

from healthcare.platform import settings as our_settings
from healthcare.platform import tokens
from tests.gateway import ARN, Environment

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


@pytest.fixture
def rotate_keys(environments: dict[str, Environment]) -> Environment:
    return environments["rotate_keys"]


@pytest.fixture
def secret(secrets_manager: None) -> str:
    """The name of a secret like that of a running system, from before its first rotation."""
    name = f"token-keys-{uuid4()}"
    keys = {"current": "first", "keys": {"first": b64encode(b"x" * 32).decode()}}
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(keys))
    return name


@pytest.fixture
def authorizer(environments: dict[str, Environment], secret: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The authorizer's own tokens module; it and ours use that secret."""
    own = environments["authorizer"].modules
    monkeypatch.setenv("TOKEN_KEYS_SECRET_ID", secret)

    def forget() -> None:
        for module, settings in (
            (own["healthcare.platform.tokens"], own["healthcare.platform.settings"]),
            (tokens, our_settings),
        ):
            module._keys = None  # type: ignore[attr-defined]
            settings.settings.cache_clear()

    forget()
    yield own["healthcare.platform.tokens"]
    monkeypatch.undo()
    forget()


def _rotate(function: Environment, secret: str, repeat: int = 1) -> dict[str, Any]:
    version = str(uuid4())
    for step in STEPS:
        for _ in range(repeat):
            function.app.lambda_handler({"SecretId": secret, "ClientRequestToken": version, "Step": step}, None)
    return _current(secret)


def _current(secret: str) -> dict[str, Any]:
    answer = boto3.client("secretsmanager").get_secret_value(SecretId=secret, VersionStage="AWSCURRENT")
    value: dict[str, Any] = json.loads(answer["SecretString"])
    return value


def test_the_next_key_becomes_the_current_one_and_the_last_one_stays_for_a_period(
    rotate_keys: Environment, secret: str
) -> None:
    first = _rotate(rotate_keys, secret)
    assert first["keys"].keys() == {"first", first["current"], first["next"]}
    second = _rotate(rotate_keys, secret)
    assert second["current"] == first["next"]
    assert second["keys"][second["current"]] == first["keys"][first["next"]]
    assert second["keys"].keys() == {first["current"], second["current"], second["next"]}


def test_steps_may_be_repeated(rotate_keys: Environment, secret: str) -> None:
    before = _rotate(rotate_keys, secret)
    after = _rotate(rotate_keys, secret, repeat=3)
    assert after["current"] == before["next"]


@pytest.mark.parametrize("value", [None, "a generated password", "{}"])
def test_a_secret_without_keys_gets_its_first(
    rotate_keys: Environment, secrets_manager: None, value: str | None
) -> None:
    name = f"new-{uuid4()}"
    boto3.client("secretsmanager").create_secret(Name=name, **({"SecretString": value} if value else {}))
    made = _rotate(rotate_keys, name)
    assert made["keys"].keys() == {made["current"], made["next"]}


def test_a_pending_version_that_is_no_key_set_is_not_finished(rotate_keys: Environment, secret: str) -> None:
    client = boto3.client("secretsmanager")
    before = _current(secret)
    for broken in (
        "nonsense",
        {"current": "a", "next": "b", "keys": {"a": ""}},
        {"current": "a", "next": "a", "keys": {"a": "eA=="}},
    ):
        version = str(uuid4())
        client.put_secret_value(
            SecretId=secret, ClientRequestToken=version, SecretString=json.dumps(broken), VersionStages=["AWSPENDING"]
        )
        with pytest.raises(ValueError, match="pending"):
            rotate_keys.app.lambda_handler(
                {"SecretId": secret, "ClientRequestToken": version, "Step": "testSecret"}, None
            )
    assert _current(secret) == before


def test_an_unknown_step_is_refused(rotate_keys: Environment, secret: str) -> None:
    with pytest.raises(ValueError, match="unknown step"):
        rotate_keys.app.lambda_handler({"SecretId": secret, "ClientRequestToken": "x" * 32, "Step": "dance"}, None)


def test_nobody_is_logged_out_by_a_rotation(
    rotate_keys: Environment, secret: str, authorizer: Any, environments: dict[str, Environment]
) -> None:
    """The authorizer never fetches the keys anew here: the key that signs next is in its hands already."""

    def allowed(token: str) -> bool:
        event = {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": f"{ARN}/GET/api/patients"}
        return bool(environments["authorizer"].invoke(event)["policyDocument"]["Statement"][0]["Effect"] == "Allow")

    _rotate(rotate_keys, secret)
    old = tokens.keys().issue(42, "user")
    assert allowed(old)
    fetched = authorizer._keys
    _rotate(rotate_keys, secret)
    tokens._keys = None
    new = tokens.keys().issue(42, "user")
    assert jwt.get_unverified_header(new)["kid"] != jwt.get_unverified_header(old)["kid"]
    assert allowed(new)
    assert allowed(old)
    assert authorizer._keys is fetched
