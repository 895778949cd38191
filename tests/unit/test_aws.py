"""What the layer signs by itself, beside what AWS's SDK signs."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from healthcare.platform.aws import AwsError, database_token, secret

Received = list[tuple[str, dict[str, str], bytes]]


class Server(HTTPServer):
    """Answers what it is told to, one after the other, and keeps what it was asked."""

    answers: list[tuple[int, object]]
    received: Received


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as server:
        server.answers, server.received = [], []
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


SECRET = (200, {"SecretString": json.dumps({"current": "first"})})


@pytest.mark.parametrize("session", ["session+/=", None])
def test_a_secret_is_asked_for_as_the_sdk_signs_it(
    server: Server, session: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if session:
        monkeypatch.setenv("AWS_SESSION_TOKEN", session)
    server.answers = [SECRET]
    assert secret("healthcare/token-keys") == {"current": "first"}
    ((path, headers, body),) = server.received
    assert json.loads(body) == {"SecretId": "healthcare/token-keys", "VersionStage": "AWSCURRENT"}
    assert headers.get("x-amz-security-token") == session
    signed = {name: headers[name] for name in ("content-type", "x-amz-date", "x-amz-target")}
    request = AWSRequest("POST", f"http://{headers['host']}{path}", headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("testing", "testing", session), "secretsmanager", "us-east-1")
    if session:
        request.headers["X-Amz-Security-Token"] = session
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert headers["authorization"].endswith(f"Signature={signer.signature(text, request)}")
    names = ";".join(sorted(signer.headers_to_sign(request).keys(), key=str.lower)).lower()
    scope = signer.scope(request)
    assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, ")


def test_a_function_that_starts_from_a_snapshot_asks_for_its_credentials(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/v1/credentials?a=b"
    )
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of the environment")
    server.answers = [(200, {"AccessKeyId": "fresh", "SecretAccessKey": "secret", "Token": "session"}), SECRET]
    secret("healthcare/token-keys")
    (asked, asking, _), (_, signed, _) = server.received
    assert (asked, asking["authorization"]) == ("/v1/credentials?a=b", "of the environment")
    assert signed["authorization"].startswith("AWS4-HMAC-SHA256 Credential=fresh/")
    assert signed["x-amz-security-token"] == "session"


def test_what_may_pass_is_asked_once_more_and_a_refusal_is_not(server: Server) -> None:
    server.answers = [(503, {}), SECRET]
    assert secret("healthcare/token-keys") == {"current": "first"}
    server.answers = [(400, {"__type": "AccessDeniedException"})]
    with pytest.raises(AwsError, match="status 400"):
        secret("healthcare/token-keys")
    assert len(server.received) == 3
    server.answers = [(400, {"__type": "ThrottlingException"}), SECRET]
    assert secret("healthcare/token-keys") == {"current": "first"}


def test_the_database_token_is_the_one_that_boto3_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "proxy.example.eu-west-1.rds.amazonaws.com")
    monkeypatch.setenv("PGPORT", "5432")
    monkeypatch.setenv("PGUSER", "healthcare_api")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session+/=")
    client = boto3.session.Session().client("rds", region_name="eu-west-1")

    def boto3_token() -> str:
        return str(client.generate_db_auth_token("proxy.example.eu-west-1.rds.amazonaws.com", 5432, "healthcare_api"))

    # They carry the second in which they were signed: the clock may tick between two, but not between each two.
    before, ours, after = _parts(boto3_token()), _parts(database_token()), _parts(boto3_token())
    assert ours in (before, after)


def _parts(token: str) -> tuple[str, dict[str, list[str]]]:
    address, _, query = token.partition("/?")
    return address, parse_qs(query, strict_parsing=True)
