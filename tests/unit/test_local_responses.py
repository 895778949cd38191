import json

import pytest

from local.gateway.responses import GatewayResponses

CONTEXT = {"path": "/api/patients", "requestId": "an-id"}


def test_the_response_of_the_case_comes_before_the_default() -> None:
    responses = GatewayResponses(
        {
            "UNAUTHORIZED": {"StatusCode": 401, "ResponseTemplates": {"application/problem+json": '{"a": 1}'}},
            "DEFAULT_4XX": {"ResponseTemplates": {"application/problem+json": '{"b": 2}'}},
        }
    )
    assert responses.answer("UNAUTHORIZED", CONTEXT).body == '{"a": 1}'
    assert responses.answer("ACCESS_DENIED", CONTEXT).body == '{"b": 2}'
    assert responses.answer("ACCESS_DENIED", CONTEXT).status == 403


def test_a_default_without_a_status_keeps_that_of_the_case() -> None:
    without, with_status = (
        GatewayResponses({"DEFAULT_5XX": {}}),
        GatewayResponses({"DEFAULT_5XX": {"StatusCode": "500"}}),
    )
    assert without.answer("AUTHORIZER_FAILURE", CONTEXT, status=504).status == 504
    assert without.answer("DEFAULT_5XX", CONTEXT).status == 502
    assert without.answer("DEFAULT_5XX", CONTEXT, status=505).status == 505
    assert with_status.answer("AUTHORIZER_FAILURE", CONTEXT, status=504).status == 500


def test_headers_are_literals_or_context_variables() -> None:
    headers = {"Retry-After": "'1'", "X-Request-Id": "context.requestId", "X-None": "context.nothing"}
    responses = GatewayResponses({"THROTTLED": {}, "DEFAULT_4XX": {"ResponseParameters": {"Headers": headers}}})
    answer = responses.answer("UNAUTHORIZED", CONTEXT)
    assert answer.headers == {
        "Content-Type": "application/json",
        "Retry-After": "1",
        "X-Request-Id": "an-id",
        "X-None": "",
    }


@pytest.mark.parametrize("path", ['/"', "/\\", "/\n", "/$context.requestId"])
def test_no_request_breaks_the_json_of_a_body(path: str) -> None:
    template = {"application/json": '{"instance": "$context.path", "text": $context.error.messageString}'}
    responses = GatewayResponses({"DEFAULT_4XX": {"ResponseTemplates": template}})
    answer = responses.answer("DEFAULT_4XX", {"path": path}, message='a "message"')
    assert json.loads(answer.body) == {"instance": path, "text": 'a "message"'}


def test_without_a_template_it_is_problem_json_all_the_same() -> None:
    answer = GatewayResponses({}).answer("MISSING_AUTHENTICATION_TOKEN", CONTEXT)
    assert (answer.status, answer.headers["Content-Type"]) == (403, "application/problem+json")
    assert json.loads(answer.body) == {"title": "Missing Authentication Token"}
