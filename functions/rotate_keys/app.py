"""Rotates the keys that sign access tokens and those that encrypt secrets, as Secrets Manager asks for it, in steps.

A key is known for a whole rotation period before it signs: each rotation makes the `next` key the `current` one and
adds a new `next`. So whoever verifies has the key long before it meets a token signed with it, and the key before
`current` stays until every token that it signed has run out.
"""

import json
import secrets
from base64 import b64decode, b64encode
from os import environ
from typing import Any

import boto3


def lambda_handler(event: dict[str, Any], context: object) -> None:
    secret, version = event["SecretId"], event["ClientRequestToken"]
    client = boto3.client("secretsmanager")
    match event["Step"]:
        case "createSecret":
            _create(client, secret, version)
        case "setSecret":
            pass  # nobody else holds these keys
        case "testSecret":
            _check(_value(client, secret, version=version))
        case "finishSecret":
            _finish(client, secret, version)
        case step:
            raise ValueError(f"unknown step {step!r}")


def rotated(key_set: dict[str, Any] | None, *, keep_all: bool = False) -> dict[str, Any]:
    """The key set that follows `key_set`; the first one when there is none. What is encrypted needs all old keys."""
    next_key_id = secrets.token_hex(8)
    if key_set is None:
        first_key_id = secrets.token_hex(8)
        keys = {first_key_id: _new_key(), next_key_id: _new_key()}
        return {"current": first_key_id, "next": next_key_id, "keys": keys}
    last = key_set["current"]
    current = key_set.get("next", secrets.token_hex(8))
    keys = {
        **(key_set["keys"] if keep_all else {last: key_set["keys"][last]}),
        current: key_set["keys"].get(current) or _new_key(),
        next_key_id: _new_key(),
    }
    return {"current": current, "next": next_key_id, "keys": keys}


def _new_key() -> str:
    return b64encode(secrets.token_bytes(32)).decode()


def _create(client: Any, secret: str, version: str) -> None:
    """Secrets Manager repeats a step that failed or ran into its timeout: the pending version is made once."""
    if _value(client, secret, version=version) is None:
        key_set = _value(client, secret, stage="AWSCURRENT")
        client.put_secret_value(
            SecretId=secret,
            ClientRequestToken=version,
            SecretString=json.dumps(rotated(key_set, keep_all=secret == environ.get("DATA_KEYS_SECRET_ID"))),
            VersionStages=["AWSPENDING"],
        )


def _check(key_set: dict[str, Any] | None) -> None:
    if key_set is None:
        raise ValueError("the pending version is no key set")
    if not {key_set["current"], key_set["next"]} <= key_set["keys"].keys():
        raise ValueError("the pending version lacks a key that it names")
    if any(len(b64decode(key, validate=True)) < 32 for key in key_set["keys"].values()):
        raise ValueError("a pending key is too short")


def _finish(client: Any, secret: str, version: str) -> None:
    stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
    current = next((id for id, names in stages.items() if "AWSCURRENT" in names), None)
    if current != version:
        move = {"RemoveFromVersionId": current} if current else {}
        client.update_secret_version_stage(SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=version, **move)


def _value(client: Any, secret: str, *, version: str | None = None, stage: str | None = None) -> dict[str, Any] | None:
    """The key set of a version; None when the version is not there or holds none, as a new secret's does."""
    which = {"VersionId": version, "VersionStage": "AWSPENDING"} if version else {"VersionStage": stage}
    try:
        text = client.get_secret_value(SecretId=secret, **which)["SecretString"]
    except client.exceptions.ResourceNotFoundException:
        return None
    try:
        key_set = json.loads(text)
    except ValueError:
        return None
    return key_set if isinstance(key_set, dict) and "current" in key_set else None
