"""What holds for every request, whichever resource it is for."""

import json
from base64 import b64encode
from typing import Any

import pytest

from tests.conftest import Database, LogLines
from tests.gateway import Client, Environment


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '[{"name": "x"}]', "null", '"x"', "5", "true", "{'name': 'x'}", "[" * 50_000, "\ufeff{}", "{}x"],
)
def test_a_body_that_is_no_json_object_is_malformed(ann: Client, body: str) -> None:
    ann.post("/api/patients", body).refuse(400, "malformed-body")


def test_a_missing_body_is_malformed(ann: Client) -> None:
    ann.request("POST", "/api/patients").refuse(400, "malformed-body")


def test_an_empty_object_lacks_what_is_required(ann: Client) -> None:
    ann.post("/api/patients", "{}").refuse(422, "validation")


def test_half_a_surrogate_pair_is_no_name_of_a_field_either(ann: Client) -> None:
    problem = ann.post("/api/patients", r'{"name": "x", "a/\ud800": 1}').refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/a~1?"]


@pytest.mark.parametrize("url", ["/api/patients/1", "/api/auth/me", "/health"])
def test_a_query_parameter_that_a_route_does_not_know_is_refused(ann: Client, url: str) -> None:
    problem = ann.get(f"{url}?limt=5").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["query/limt"]


@pytest.mark.parametrize("url", ["/api/patients", "/api/doctors"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "key"}])
def test_a_token_that_outlives_its_account_is_worth_nothing(
    ann: Client, database: Database, url: str, headers: dict[str, str]
) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM users")
    ann.post(url, {"name": "x"} | ({"specialty": "y"} if "doctors" in url else {}), headers=headers).refuse(
        401, "unauthenticated"
    )
    ann.get("/api/auth/me").refuse(401, "unauthenticated")


def test_the_servers_log_holds_nobodys_data(ann: Client, anonymous: Client, database: Database) -> None:
    account = {"name": "Unmistakable", "email": ann.user["email"], "password": "correct horse"}
    anonymous.post("/api/auth/register", account).refuse(409, "email-taken")
    log = (database.server.folder / "postgres.log").read_text()
    assert "users_email_key" in log
    assert not any(secret in log for secret in ("Unmistakable", ann.user["email"], "$2b$"))


@pytest.mark.parametrize("text", [r"a\ud800b", r"\udc00", r"\ud800\u0041"])
def test_half_a_surrogate_pair_is_no_text(ann: Client, text: str) -> None:
    problem = ann.post("/api/patients", f'{{"name": "{text}"}}').refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/name"]


def test_a_whole_surrogate_pair_is(ann: Client) -> None:
    assert ann.post("/api/patients", r'{"name": "Zo \ud83d\ude00"}').expect(201)["name"] == "Zo 😀"


def test_a_body_has_100_kib_at_most(ann: Client) -> None:
    filler = " " * (100 * 1024 - len('{"name":"x"}'))
    ann.post("/api/patients", f'{{"name":"x"{filler}}}').expect(201)
    ann.post("/api/patients", f'{{"name":"x"{filler} }}').refuse(413, "body-too-large")
    ann.post("/api/patients", "é" * (51 * 1024)).refuse(413, "body-too-large")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "x"]
)
def test_another_content_type_is_refused(ann: Client, content_type: str) -> None:
    answer = ann.post("/api/patients", {"name": "Zoë"}, headers={"Content-Type": content_type})
    answer.refuse(415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"]
)
def test_json_is_json_with_parameters_and_in_any_case(ann: Client, content_type: str) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers={"Content-Type": content_type}).expect(201)


def test_many_errors_are_not_all_listed(ann: Client) -> None:
    problem = ann.post("/api/patients", {f"field{n}": 1 for n in range(5000)}).refuse(422, "validation")
    assert len(problem["errors"]) == 100


def test_a_body_may_come_base64_encoded(ann: Client) -> None:
    event = _event(b64encode('{"name": "Zoë"}'.encode()).decode())
    event["requestContext"]["authorizer"] = {"user_id": str(ann.user["id"]), "role": "user", "exp": "9999999999"}
    answer = ann.gateway.environments["patients"].invoke(event | {"isBase64Encoded": True})
    assert json.loads(answer["body"])["name"] == "Zoë"
    answer = ann.gateway.environments["patients"].invoke(event | {"isBase64Encoded": True, "body": "gP8="})
    assert answer["statusCode"] == 400


@pytest.mark.parametrize(
    "authorizer", [None, {}, {"principalId": "1"}, {"user_id": "1", "role": "user", "exp": "1000000000"}]
)
def test_without_the_authorizers_word_or_after_the_tokens_end_nothing_answers(
    environments: dict[str, Environment], authorizer: dict[str, str] | None
) -> None:
    event = _event('{"name": "Zoë"}')
    event["requestContext"]["authorizer"] = authorizer
    answer = environments["patients"].invoke(event)
    assert answer["statusCode"] == 401
    assert answer["headers"]["WWW-Authenticate"] == "Bearer"
    assert json.loads(answer["body"])["type"] == "/problems/unauthenticated"


def _event(body: str) -> dict[str, Any]:
    return {
        "httpMethod": "POST",
        "resource": "/api/patients",
        "path": "/api/patients",
        "headers": None,
        "pathParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"requestId": "r", "path": "/v1/api/patients", "identity": {"sourceIp": "203.0.113.7"}},
        "body": body,
        "isBase64Encoded": False,
    }


def test_every_answer_carries_the_common_headers(ann: Client, anonymous: Client) -> None:
    answers = [
        anonymous.get("/health"),
        anonymous.post("/api/auth/login", {}),
        ann.get("/api/auth/me"),
        ann.get("/api/auth/me", headers={"If-None-Match": "*"}),
        ann.get("/api/patients"),
        ann.get("/api/patients/99"),
        ann.delete(f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}"),
    ]
    assert [answer.status for answer in answers] == [200, 422, 200, 304, 200, 404, 204]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == len(answers)
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed == {"ETag", "Location", "Link", "Retry-After", "X-Request-Id"}


def test_the_allowed_origin_is_a_setting(anonymous: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = anonymous.gateway.environments["health"].modules["healthcare.platform.settings"].settings
    monkeypatch.setenv("CORS_ALLOWED_ORIGIN", "https://app.example.org")
    settings.cache_clear()
    answer = anonymous.get("/health")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert answer.headers["Vary"] == "Origin"
    monkeypatch.undo()
    settings.cache_clear()


def test_the_access_log_has_ids_and_nothing_personal(ann: Client, log_lines: LogLines) -> None:
    patient = ann.create("/api/patients", name="Zoë Secret", phone="+44 20 7946 0000")
    answer = ann.get(f"/api/patients/{patient['id']}")
    ann.get("/api/patients/Zo%C3%AB").refuse(422, "validation")
    ann.get("/api/patients?q=secret").expect(200)
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    ann.get("/api/mappings").expect(200)
    lines = log_lines()
    read, refused, searched = (line for line in lines if line["message"].startswith("GET /api/patients"))
    assert read["message"] == "GET /api/patients/{id}"
    assert (read["status"], read["user_id"], read["resource_id"]) == (200, str(ann.user["id"]), patient["id"])
    assert read["patients"] == [patient["id"]]
    assert read["request_id"] == answer.headers["X-Request-Id"]
    assert read["duration_ms"] >= 0
    assert (refused["status"], refused.get("resource_id")) == (422, None)
    assert (searched["message"], searched["patients"]) == ("GET /api/patients", [patient["id"]])
    assert (lines[-1]["message"], lines[-1]["patients"]) == ("GET /api/mappings", [patient["id"]])
    text = json.dumps(lines, ensure_ascii=False).lower()
    assert not any(secret in text for secret in ("zoë", "secret", "7946", "example.org", str(ann.token).lower()))


def test_a_bug_is_a_500_that_says_nothing_and_a_log_line_that_says_where(
    ann: Client, database: Database, log_lines: LogLines
) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE patients RENAME COLUMN phone TO telephone")
    problem = ann.get("/api/patients").refuse(500, "internal-error")
    assert "column" not in json.dumps(problem)
    (bug,) = (line for line in log_lines() if line["message"] == "unexpected error")
    assert bug["exception_name"] == "psycopg.errors.UndefinedColumn 42703"
    assert "in search" in bug["exception"]
    assert bug["request_id"] == problem["request_id"]
