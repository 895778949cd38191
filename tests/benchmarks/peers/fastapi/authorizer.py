"""An authorizer in the usual way: the key from Secrets Manager by boto3, verified by PyJWT, answered as a policy."""

import json
import os
from base64 import b64decode
from typing import Any

import boto3
import jwt

secrets_manager = boto3.client("secretsmanager")
key: bytes | None = None


def signing_key() -> bytes:
    global key
    if key is None:
        secret = secrets_manager.get_secret_value(SecretId=os.environ["TOKEN_KEYS_SECRET_ID"])
        keys = json.loads(secret["SecretString"])
        key = b64decode(keys["keys"][keys["current"]])
    return key


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    stage = "/".join(event["methodArn"].split("/")[:2])
    token = event["authorizationToken"].partition(" ")[2]
    try:
        claims = jwt.decode(
            token, signing_key(), algorithms=["HS256"], issuer=os.environ["TOKEN_ISSUER"], audience="healthcare-api"
        )
    except jwt.InvalidTokenError:
        return policy("nobody", "Deny", stage)
    context_of_caller = {"user_id": claims["sub"], "role": claims["role"], "exp": str(claims["exp"])}
    return policy(claims["sub"], "Allow", stage) | {"context": context_of_caller}


def policy(principal: str, effect: str, stage: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{stage}/*"}
    return {"principalId": principal, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
