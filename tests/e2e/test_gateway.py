"""The local gateway answers as API Gateway does. Functions made for this, with the real local run around them."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.e2e.local_run import PROJECT, LocalRun

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Origin:
    Type: String
    Default: https://app.example.org
Globals:
  Function:
    Runtime: python3.13
    Handler: app.lambda_handler
    Timeout: 2
    Layers: [!Ref CommonLayer]
    Environment:
      Variables:
        ORIGIN: !Ref Origin
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Cors:
        AllowOrigin: !Sub "'${Origin}'"
        AllowMethods: "'GET, POST, OPTIONS'"
        AllowHeaders: "'Authorization, If-Match'"
        MaxAge: "'7200'"
      Auth:
        DefaultAuthorizer: JwtAuthorizer
        AddDefaultAuthorizerToCorsPreflight: false
        Authorizers:
          JwtAuthorizer:
            FunctionArn: !GetAtt AuthorizerFunction.Arn
            FunctionPayloadType: TOKEN
            Identity: {Header: Authorization, ValidationExpression: "^Bearer [a-z-]+$"}
      GatewayResponses:
        UNAUTHORIZED:
          StatusCode: "401"
          ResponseParameters:
            Headers: {WWW-Authenticate: "'Bearer'", X-Request-Id: context.requestId}
          ResponseTemplates: &problem
            application/problem+json: >-
              {"title": "$context.error.message", "kind": "$context.error.responseType",
               "instance": "$context.path", "request_id": "$context.requestId"}
        MISSING_AUTHENTICATION_TOKEN:
          StatusCode: "404"
          ResponseParameters:
            Headers: {X-Request-Id: context.requestId, Access-Control-Allow-Origin: !Sub "'${Origin}'"}
          ResponseTemplates: *problem
        DEFAULT_4XX: {ResponseTemplates: *problem}
        DEFAULT_5XX: {ResponseTemplates: *problem}
  CommonLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/common}
  AuthorizerFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: functions/authorizer}
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/echo
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Api, Path: "/echo/{id}", Method: get}}
        Post: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /echo, Method: post, Auth: {Authorizer: NONE}}}
        Health: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /health, Method: get, Auth: {Authorizer: NONE}}}
  MisbehavingFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/misbehaving
      Events:
        Post: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /misbehave, Method: post, Auth: {Authorizer: NONE}}}
  BrokenFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/broken
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /broken, Method: get, Auth: {Authorizer: NONE}}}
"""

FUNCTIONS = {
    "authorizer": """
def lambda_handler(event, context):
    said = event["authorizationToken"].removeprefix("Bearer ")
    if said == "nobody":
        raise Exception("Unauthorized")
    if said == "crash":
        raise ValueError("the authorizer is broken")
    if said == "nonsense":
        return {"principalId": "me"}
    stage = "/".join(event["methodArn"].split("/")[:2])
    effect = "Allow" if said == "me" else "Deny"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": stage + "/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return {"principalId": "me", "policyDocument": policy, "context": {"user_id": 7, "admin": True, "role": "user"}}
""",
    "echo": """
import json, os
def lambda_handler(event, context):
    headers = {"Set-Cookie": ["a=1", "b=2"]}
    left = context.get_remaining_time_in_millis()
    body = {"event": event, "origin": os.environ["ORIGIN"], "folder": os.getcwd(), "left": left}
    return {"statusCode": 200, "multiValueHeaders": headers, "body": json.dumps(body)}
""",
    "misbehaving": """
import json, os, time
def lambda_handler(event, context):
    match json.loads(event["body"]):
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"exit": status}:
            os._exit(status)
        case {"answer": answer}:
            return answer
        case {"raise": message}:
            raise ValueError(message)
    return {"statusCode": 204}
""",
    "broken": "import no_such_module\n",
}


@pytest.fixture(scope="module", params=["emulator", "process"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    project = tmp_path_factory.mktemp("project")
    for name in ("layers", "local", "tools"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "template.yaml").write_text(TEMPLATE)
    for name, code in FUNCTIONS.items():
        (project / "functions" / name).mkdir(parents=True)
        (project / "functions" / name / "app.py").write_text(code)
    run = LocalRun(project / "state", project=project, LOCAL_RUNTIME=request.param)
    with run:
        yield run
    run.clean()


@pytest.fixture
def client(run: LocalRun) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=run.base_url, timeout=30) as client:
        yield client


def misbehave(client: httpx.Client, **how: Any) -> httpx.Response:
    return client.post("/misbehave", json=how)


def appears(run: LocalRun, text: str) -> bool:
    """On the console; soon, since the functions' output comes through pipes."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if any(text in line for line in run.lines):
            return True
        time.sleep(0.02)
    return False


def echoed(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    event: dict[str, Any] = answer.json()["event"]
    return event


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, str]:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, str] = answer.json()
    assert problem["kind"] == kind
    UUID(problem["request_id"])
    return problem


ME = {"Authorization": "Bearer me"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("DELETE", "/echo/1"),
        ("BREW", "/echo/1"),
        ("POST", "/"),
        ("GET", "/echo//1"),
        ("OPTIONS", "/no"),
    ],
)
def test_a_route_that_does_not_exist(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path, headers=ME)
    problem = assert_problem(answer, 404, "MISSING_AUTHENTICATION_TOKEN")
    assert problem["title"] == "Missing Authentication Token"
    assert problem["instance"] == path
    assert answer.headers["X-Request-Id"] == problem["request_id"]
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"


def test_a_browser_at_the_root_is_sent_to_the_documentation(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


def test_head_has_the_headers_of_an_answer_and_no_body(client: httpx.Client) -> None:
    answer = client.head("/echo/1")
    assert (answer.status_code, answer.content) == (404, b"")
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic me"}, {"Authorization": "Bearer nobody"}])
def test_no_token_or_none_that_is_one(client: httpx.Client, headers: dict[str, str]) -> None:
    answer = client.get("/echo/1", headers=headers)
    assert_problem(answer, 401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("says", "status", "kind"),
    [
        ("stranger", 403, "ACCESS_DENIED"),
        ("crash", 500, "AUTHORIZER_FAILURE"),
        ("nonsense", 500, "AUTHORIZER_CONFIGURATION_ERROR"),
    ],
)
def test_what_the_authorizer_says(client: httpx.Client, says: str, status: int, kind: str) -> None:
    """The template has no response of its own for these; then its DEFAULT_4XX or DEFAULT_5XX counts."""
    assert_problem(client.get("/echo/1", headers={"Authorization": f"Bearer {says}"}), status, kind)


def test_what_a_function_is_told(client: httpx.Client, run: LocalRun) -> None:
    answer = client.get(
        "/echo/caf%C3%A9%20%ff?q=a&q=b%2Bc&odd=%ff&empty",
        headers=[*ME.items(), ("X-Twice", "1"), ("X-Twice", "2"), ("User-Agent", "a test")],
    )
    event = echoed(answer)
    assert event["resource"] == "/echo/{id}"
    assert event["pathParameters"] == {"id": "café �"}
    assert event["queryStringParameters"] == {"q": "b+c", "odd": "%FF", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"q": ["a", "b+c"], "odd": ["%FF"], "empty": [""]}
    assert event["headers"]["X-Twice"] == "2"
    assert event["multiValueHeaders"]["X-Twice"] == ["1", "2"]
    context = event["requestContext"]
    UUID(context["requestId"])
    assert context["authorizer"] == {"principalId": "me", "user_id": "7", "admin": "true", "role": "user"}
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "a test"
    assert context["httpMethod"] == "GET"
    assert answer.json()["origin"] == "https://app.example.org"
    assert Path(answer.json()["folder"]) == run.project / "functions" / "echo"
    assert 0 < answer.json()["left"] <= 2000
    assert answer.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_each_request_has_an_id_of_its_own(client: httpx.Client) -> None:
    ids = {echoed(client.get("/health"))["requestContext"]["requestId"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("path", ["/echo/%0A", "/echo/%00", "/echo/%22%5C", "/echo/1?x=%0d%0a&&=;", "/echo/1/"])
def test_odd_paths_reach_the_function(client: httpx.Client, path: str) -> None:
    echoed(client.get(path, headers=ME))


def test_an_odd_path_in_a_problem_is_still_json(client: httpx.Client) -> None:
    assert (
        assert_problem(client.get("/%22%0A%ff"), 404, "MISSING_AUTHENTICATION_TOKEN")["instance"] == "/%22%0A%EF%BF%BD"
    )


def test_a_body_that_is_not_utf_8_is_passed_on_with_replacement_characters(client: httpx.Client) -> None:
    assert echoed(client.post("/echo", content=b'{"name": "\xff\x00"}'))["body"] == '{"name": "�\x00"}'
    assert echoed(client.post("/echo", content="{café}".encode()))["body"] == "{café}"
    assert echoed(client.post("/echo"))["body"] in (None, "")


def test_a_body_in_chunks(client: httpx.Client) -> None:
    assert echoed(client.post("/echo", content=iter([b"one ", b"two"])))["body"] == "one two"


def test_a_preflight_is_answered_from_the_template(client: httpx.Client) -> None:
    asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
    answer = client.options("/echo/1", headers=asked)
    assert answer.status_code == 200
    assert answer.content == b""
    assert {name: value for name, value in answer.headers.items() if name.startswith("access-control-")} == {
        "access-control-allow-origin": "https://app.example.org",
        "access-control-allow-methods": "GET,OPTIONS,POST",
        "access-control-allow-headers": "Authorization, If-Match",
        "access-control-max-age": "7200",
    }


@pytest.mark.parametrize("size", [6 * 1024 * 1024, 11 * 1024 * 1024])
def test_too_large_a_body(client: httpx.Client, size: int) -> None:
    """6 MB is Lambda's limit of an event, 10 MB API Gateway's of a body."""
    assert_problem(client.post("/echo", content=b"x" * size), 413, "REQUEST_TOO_LARGE")
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "how",
    [
        {"raise": "a secret of the function"},
        {"exit": 3},
        {"answer": "no dict"},
        {"answer": {"statusCode": "many"}},
        {"answer": {"statusCode": 200, "unknown": "key"}},
        {"answer": {"statusCode": 200, "headers": {"X-Split": "a\nb"}}},
    ],
)
def test_a_function_that_fails(client: httpx.Client, how: dict[str, Any]) -> None:
    answer = misbehave(client, **how)
    problem = assert_problem(answer, 502, "DEFAULT_5XX")
    assert problem["title"] == "Internal server error"
    assert "secret" not in answer.text
    assert misbehave(client).status_code == 204


def test_a_function_that_can_not_be_imported(client: httpx.Client, run: LocalRun) -> None:
    assert_problem(client.get("/broken"), 502, "DEFAULT_5XX")
    assert appears(run, "no_such_module")


def test_a_function_that_takes_longer_than_its_time_limit_is_ended(client: httpx.Client) -> None:
    started = time.monotonic()
    assert_problem(misbehave(client, sleep=20), 502, "DEFAULT_5XX")
    assert 1.9 < time.monotonic() - started < 4
    assert misbehave(client).status_code == 204


def test_requests_run_side_by_side(client: httpx.Client) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: misbehave(client, sleep=0.1), range(4)))
        started = time.monotonic()
        answers = list(threads.map(lambda _: misbehave(client, sleep=1), range(4)))
    assert [answer.status_code for answer in answers] == [204] * 4
    assert time.monotonic() - started < 3


def test_what_is_not_http_gets_a_problem_too(run: LocalRun) -> None:
    with socket.create_connection(("127.0.0.1", run.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["title"] == "Bad Request"


def test_what_functions_and_gateway_log(client: httpx.Client, run: LocalRun) -> None:
    misbehave(client, **{"raise": "something to find"})
    client.get("/nowhere")
    assert appears(run, "MisbehavingFunction failed: something to find")
    assert appears(run, "GET /nowhere 404")
    assert not any(line.startswith(("START ", "END ", "REPORT ")) for line in run.lines)
    assert "something to find" in (run.folder / "log" / "misbehaving.log").read_text()
