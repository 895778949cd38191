"""What a cold start asks of AWS, signed by Signature Version 4.

The SDK would do it too, but loading it takes longer than the rest of a cold start; tests compare with what it makes.
Source: "Create a signed AWS API request" in the user guide of AWS IAM.
"""

import json
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from os import environ
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_ATTEMPTS = 2
_PATIENCE = 1  # second, to connect and for each part of an answer


class AwsError(Exception):
    """AWS did not do what it was asked for. The text says why, and nothing of what was asked."""


class _Credentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None


def secret(secret_id: str) -> Any:
    """The current value of a secret of Secrets Manager that is JSON. Raises AwsError."""
    default = f"https://secretsmanager.{environ['AWS_REGION']}.amazonaws.com"
    url = environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER") or environ.get("AWS_ENDPOINT_URL") or default
    body = json.dumps({"SecretId": secret_id, "VersionStage": "AWSCURRENT"}).encode()
    who, time = _credentials(), _now()
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": urlsplit(url).netloc,
        "x-amz-date": time,
        "x-amz-target": "secretsmanager.GetSecretValue",
    }
    if who.token:
        headers["x-amz-security-token"] = who.token
    signature = _signature(who, "secretsmanager", time, "POST", "", headers, body)
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={who.access_key}/{_scope('secretsmanager', time)}, "
        f"SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
    )
    return json.loads(json.loads(_ask("POST", url, headers, body))["SecretString"])


def database_token() -> str:
    """In place of a password, for PGHOST, PGPORT and PGUSER: a request to `rds-db:connect` that is signed and not sent.

    Valid for 15 minutes as a password; a connection that was opened with it lives on.
    """
    host = f"{environ['PGHOST']}:{environ.get('PGPORT', '5432')}"
    who, time = _credentials(), _now()
    parameters = {
        "Action": "connect",
        "DBUser": environ["PGUSER"],
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{who.access_key}/{_scope('rds-db', time)}",
        "X-Amz-Date": time,
        "X-Amz-Expires": "900",
        "X-Amz-SignedHeaders": "host",
    }
    if who.token:
        parameters["X-Amz-Security-Token"] = who.token
    query = urlencode(sorted(parameters.items()), quote_via=quote)
    return f"{host}/?{query}&X-Amz-Signature={_signature(who, 'rds-db', time, 'GET', query, {'host': host}, b'')}"


def _credentials() -> _Credentials:
    """The function's own. One that was started from a snapshot has no lasting ones and asks for them."""
    if "AWS_ACCESS_KEY_ID" in environ:
        return _Credentials(
            environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN")
        )
    headers = {"authorization": environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
    answer = json.loads(_ask("GET", environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers))
    return _Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _scope(service: str, time: str) -> str:
    return f"{time[:8]}/{environ['AWS_REGION']}/{service}/aws4_request"


def _signature(
    who: _Credentials, service: str, time: str, method: str, query: str, headers: dict[str, str], body: bytes
) -> str:
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = "\n".join([method, "/", query, lines, ";".join(names), sha256(body).hexdigest()])
    scope = _scope(service, time)
    text = "\n".join([_ALGORITHM, time, scope, sha256(request.encode()).hexdigest()])
    key = f"AWS4{who.secret_key}".encode()
    for part in scope.split("/"):
        key = digest(key, part.encode(), "sha256")
    return digest(key, text.encode(), "sha256").hex()


def _ask(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Once more after no answer, or one that blames the other side."""
    scheme, host, path, query, _ = urlsplit(url)
    connect = HTTPConnection if scheme == "http" else HTTPSConnection
    problem = ""
    for _ in range(_ATTEMPTS):
        connection = connect(host, timeout=_PATIENCE)
        try:
            connection.request(method, (path or "/") + (query and f"?{query}"), body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            problem = type(error).__name__
            continue
        finally:
            connection.close()
        if answer.status == 200:
            return content
        problem = f"status {answer.status}"
        if answer.status < 500 and b"Throttling" not in content:
            break
    raise AwsError(f"{host}: {problem}")
