"""What CodeDeploy asks before traffic moves, put to the real handlers. moto has neither its targets nor this Lambda."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.gateway import Environment, Gateway, template

DEPLOYMENT = {"DeploymentId": "d-ABCDEF123", "LifecycleEventHookExecutionId": "execution"}

Answer = tuple[dict[str, str], Any]


class Aws:
    """As much of CodeDeploy and Lambda as the hook asks."""

    def __init__(self, function: str, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.function = function
        self.answer = answer
        self.versions: list[str] = []
        self.status = ""

    def called(self, target: str, path: str, body: dict[str, Any]) -> Answer:
        match target.partition(".")[2]:
            case "ListDeploymentTargets":
                return {}, {"targetIds": ["target"]}
            case "BatchGetDeploymentTargets":
                assert body == {"deploymentId": DEPLOYMENT["DeploymentId"], "targetIds": ["target"]}
                info = {"functionName": self.function, "currentVersion": "6", "targetVersion": "7"}
                return {}, {"deploymentTargets": [{"lambdaTarget": {"lambdaFunctionInfo": info}}]}
            case "PutLifecycleEventHookExecutionStatus":
                assert body["lifecycleEventHookExecutionId"] == DEPLOYMENT["LifecycleEventHookExecutionId"]
                self.status = body["status"]
                return {}, {}
        url = urlsplit(path)
        assert url.path == f"/2015-03-31/functions/{self.function}/invocations"
        self.versions += parse_qs(url.query)["Qualifier"]
        return self.answer(body)


@pytest.fixture
def ask(environments: dict[str, Environment], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Aws], str]]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers, content = aws.called(self.headers.get("X-Amz-Target", ""), self.path, body)
            payload = json.dumps(content).encode()
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    for service in ("CODEDEPLOY", "LAMBDA"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", f"http://127.0.0.1:{server.server_port}")
    hook = environments["traffic_hook"].app
    monkeypatch.setattr(hook, "_PAUSE", 0)
    aws: Aws

    def ask(new: Aws) -> str:
        nonlocal aws
        aws = new
        hook.lambda_handler(DEPLOYMENT, None)
        return aws.status

    yield ask
    server.shutdown()
    server.server_close()


def hooked() -> list[str]:
    """The folders of functions whose traffic CodeDeploy moves."""
    functions = [found["Properties"] for found in template()["Resources"].values() if "CodeUri" in found["Properties"]]
    return [Path(found["CodeUri"]).name for found in functions if "DeploymentPreference" not in found]


def test_every_function_answers_the_question(gateway: Gateway, ask: Callable[[Aws], str]) -> None:
    assert len(hooked()) >= 8
    for folder in hooked():
        name = f"healthcare-api-{folder.title()}Function-AbC"
        answers: list[Any] = []

        def answer(event: dict[str, Any], folder: str = folder, answers: list[Any] = answers) -> Answer:
            answers.append(gateway.environments[folder].invoke(event))
            return {}, answers[-1]

        aws = Aws(name, answer)
        assert (ask(aws), aws.versions) == ("Succeeded", ["7"]), folder
        if folder == "authorizer":
            assert answers[0]["policyDocument"]["Statement"][0]["Effect"] == "Deny"
        else:
            assert answers[0]["statusCode"] == (200 if folder in ("docs", "health") else 404), folder


def test_a_version_that_crashes_gets_no_traffic(ask: Callable[[Aws], str]) -> None:
    crashed = ({"X-Amz-Function-Error": "Unhandled"}, {"errorType": "Runtime.ImportModuleError", "errorMessage": "no"})
    aws = Aws("healthcare-api-PatientsFunction-AbC", lambda event: crashed)
    assert ask(aws) == "Failed"


def test_a_version_that_answers_5xx_gets_no_traffic(ask: Callable[[Aws], str]) -> None:
    aws = Aws("healthcare-api-HealthFunction-AbC", lambda event: ({}, {"statusCode": 503}))
    assert ask(aws) == "Failed"
    assert len(aws.versions) == 5


def test_a_database_may_need_time_to_wake_up(ask: Callable[[Aws], str]) -> None:
    statuses = iter([503, 503, 200])
    aws = Aws("healthcare-api-HealthFunction-AbC", lambda event: ({}, {"statusCode": next(statuses)}))
    assert ask(aws) == "Succeeded"


def test_codedeploy_is_told_whatever_happens(ask: Callable[[Aws], str]) -> None:
    def broken(event: dict[str, Any]) -> Answer:
        return {}, "no object"

    aws = Aws("healthcare-api-PatientsFunction-AbC", broken)
    with pytest.raises(AttributeError):
        ask(aws)
    assert aws.status == "Failed"
