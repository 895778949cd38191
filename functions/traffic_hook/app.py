"""Calls the new version of a function before any client does: CodeDeploy's BeforeAllowTraffic, for every function.

A version that cannot be imported, crashes, or answers with 5xx gets no traffic, and the deployment is rolled back.
"""

import json
import time
from typing import Any

import boto3

from healthcare.platform.logs import logger

_ATTEMPTS = 5
_PAUSE = 10  # seconds; a database that sleeps needs 15 to wake up


def lambda_handler(event: dict[str, str], context: object) -> None:
    codedeploy = boto3.client("codedeploy")
    status = "Failed"
    try:
        if all(_answers(*version) for version in _new_versions(codedeploy, event["DeploymentId"])):
            status = "Succeeded"
    finally:
        codedeploy.put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status=status,
        )


def _new_versions(codedeploy: Any, deployment: str) -> list[tuple[str, str]]:
    """Name and version of the functions of a deployment."""
    ids = codedeploy.list_deployment_targets(deploymentId=deployment)["targetIds"]
    targets = codedeploy.batch_get_deployment_targets(deploymentId=deployment, targetIds=ids)["deploymentTargets"]
    functions = [target["lambdaTarget"]["lambdaFunctionInfo"] for target in targets]
    return [(function["functionName"], function["targetVersion"]) for function in functions]


def _answers(function: str, version: str) -> bool:
    lambda_client = boto3.client("lambda")
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        answer = lambda_client.invoke(FunctionName=function, Qualifier=version, Payload=json.dumps(_event(function)))
        status = (json.loads(answer["Payload"].read()) or {}).get("statusCode", 200)
        if "FunctionError" not in answer and status < 500:
            return True
        logger.error(
            "no good answer", function=function, version=version, status=status, error=answer.get("FunctionError")
        )
    return False


def _event(function: str) -> dict[str, Any]:
    """What every function answers: health asks its database, docs serves a file, the authorizer denies, others 404."""
    path = "/health" if "HealthFunction" in function else "/openapi.json"
    return {
        "httpMethod": "GET",
        "path": path,
        "resource": path,
        "headers": {},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "requestContext": {"requestId": "traffic-hook", "identity": {"sourceIp": "127.0.0.1"}},
        "body": None,
        "isBase64Encoded": False,
        "type": "TOKEN",
        "authorizationToken": "Bearer no.token.atall",
        "methodArn": "arn:aws:execute-api:region:account:api/v1/GET/openapi.json",
    }
