from typing import Any

from healthcare.platform import tokens


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Who a token proves the caller to be, as a policy for API Gateway.

    A bad token is an explicit Deny and no exception, so that the error metric stays clean. An Allow covers the whole
    stage: API Gateway caches it by token, for whichever route asks next.
    """
    stage = "/".join(event["methodArn"].split("/")[:2])
    try:
        claims = tokens.verify(event["authorizationToken"].partition(" ")[2].strip())
    except tokens.InvalidToken:
        return {"principalId": "nobody", "policyDocument": _policy("Deny", stage)}
    return {
        "principalId": str(claims.user_id),
        "policyDocument": _policy("Allow", stage),
        "context": {"user_id": str(claims.user_id), "role": claims.role, "exp": str(claims.expires_at)},
    }


def _policy(effect: str, stage: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{stage}/*"}
    return {"Version": "2012-10-17", "Statement": [statement]}
