import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

from healthcare.errors import Refusal
from healthcare.fields import CURSOR
from tests.gateway import CONTEXT
from tools.openapi.declared import Json, gateway_functions, load, routes, template
from tools.openapi.document import document, files
from tools.openapi.events import events
from tools.openapi.problems import described, kinds, pages

OF_EVERY_ROUTE = {"400", "403", "429", "500", "503", "504"}
EVERYWHERE = {"X-Request-Id", "Access-Control-Allow-Origin"}
OF_A_BODY = {"400", "413", "415", "422"}


@cache
def openapi() -> Json:
    """As a reader of the file sees it."""
    content: Json = json.loads(json.dumps(document()))
    return content


def operations() -> dict[str, Json]:
    return {
        operation["operationId"]: operation | {"method": method, "path": path}
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    }


def resolved(value: Json) -> Json:
    for name in value.get("$ref", "#").split("/")[1:]:
        value = openapi()[name] if name == "components" else value[name]
    return value


def responses(operation: Json) -> dict[str, Json]:
    return {status: resolved(response) for status, response in operation["responses"].items()}


def parameters(operation: Json) -> dict[str, Json]:
    return {parameter["name"]: parameter for parameter in map(resolved, operation.get("parameters", []))}


def everything(value: object) -> Iterator[Json]:
    """All objects of the document, its examples left out."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name not in ("example", "examples"):
                yield from everything(inner)
    if isinstance(value, list):
        for inner in value:
            yield from everything(inner)


def examples(medium: Json) -> list[Any]:
    single = [medium["example"]] if "example" in medium else []
    return single + [example["value"] for example in medium.get("examples", {}).values()]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_what_is_checked_in_is_what_the_functions_declare(path: Path) -> None:
    assert path.read_text("utf-8") == files()[path], f"{path.name} is stale: run `make openapi`"


def test_the_document_is_valid_openapi() -> None:
    validate(openapi())


def test_handlers_template_and_document_have_the_same_routes_and_the_same_of_them_are_open() -> None:
    in_template = {
        (event["Properties"]["Method"].upper(), event["Properties"]["Path"]): "Auth" in event["Properties"]
        for _, _, function_events in gateway_functions()
        for event in function_events.values()
    }
    in_handlers = {(route.method, route.path): route.open for _, route in routes()}
    in_handlers |= {("GET", path): True for path in load("docs").ROUTES}
    in_document = {
        (operation["method"].upper(), operation["path"]): operation.get("security") == []
        for operation in operations().values()
    }
    assert in_handlers == in_template
    assert in_document | {("GET", "/docs/{file}"): True} == in_template


def test_every_function_that_has_routes_is_behind_the_gateway() -> None:
    folders = {path.parent.name for path in Path("functions").glob("*/app.py")}
    behind_gateway = {folder for folder, _, _ in gateway_functions()}
    assert folders - behind_gateway == {"authorizer", "migrate", "outbox", "rotate_keys", "sender", "traffic_hook"}
    assert [tag["name"] for tag in openapi()["tags"]] == [folder for folder, _, _ in gateway_functions()]
    assert all(tag["description"] for tag in openapi()["tags"])


def test_every_operation_has_a_name_a_tag_and_a_summary_of_its_own() -> None:
    described = [operation for methods in openapi()["paths"].values() for operation in methods.values()]
    assert len(operations()) == len(described)
    for operation in described:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)*", operation["operationId"])
        assert operation["summary"]
        assert len(operation["tags"]) == 1


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("register", {"201", "409"} | OF_A_BODY),
        ("logIn", {"200", "401"} | OF_A_BODY),
        ("logOut", {"204"} | OF_A_BODY),
        ("readMe", {"200", "304", "401", "422"}),
        ("changeMe", {"200", "401", "412"} | OF_A_BODY),
        ("changePassword", {"204", "401", "403"} | OF_A_BODY),
        ("createPatient", {"201", "401"} | OF_A_BODY),
        ("listPatients", {"200", "401", "422"}),
        ("readPatient", {"200", "304", "401", "404", "422"}),
        ("replacePatient", {"200", "401", "404", "412"} | OF_A_BODY),
        ("deletePatient", {"204", "401", "404", "409", "412", "422"}),
        ("changeDoctor", {"200", "401", "403", "404", "412"} | OF_A_BODY),
        ("deleteDoctor", {"204", "401", "403", "404", "409", "412", "422"}),
        ("createMapping", {"201", "401", "404", "409"} | OF_A_BODY),
        ("listDoctorsOfMappedPatient", {"200", "401", "404", "422"}),
        ("readHealth", {"200", "422"}),
        ("readProblem", {"200", "404"}),
    ],
)
def test_an_operation_has_every_status_that_it_can_answer(operation: str, statuses: set[str]) -> None:
    assert operations()[operation]["responses"].keys() == statuses | OF_EVERY_ROUTE


@pytest.mark.parametrize(
    ("operation", "status", "slugs"),
    [
        ("register", "409", {"email-taken"}),
        ("deleteDoctor", "409", {"doctor-in-use"}),
        ("createMapping", "409", {"already-assigned", "doctor-has-no-account"}),
        ("createMapping", "403", {"not-delegated", "read-only", "refused"}),
        ("listMappings", "403", {"not-delegated", "refused"}),
        ("createInvitation", "403", {"forbidden", "refused"}),
        ("createPatient", "422", {"validation", "idempotency-key-reused"}),
        ("register", "422", {"validation"}),
        ("readPatient", "404", {"not-found"}),
        ("changePatient", "412", {"stale"}),
        ("listDoctors", "504", {"timeout"}),
    ],
)
def test_a_response_names_the_kinds_of_problems_that_it_may_be(operation: str, status: str, slugs: set[str]) -> None:
    response = responses(operations()[operation])[status]
    medium = response["content"]["application/problem+json"]
    assert medium["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {example["type"] for example in examples(medium)} == {f"/problems/{slug}" for slug in slugs}
    assert all(f"/problems/{slug}" in response["description"] for slug in slugs)


def test_every_response_has_its_headers() -> None:
    for name, operation in operations().items():
        for status, response in responses(operation).items():
            headers = set(EVERYWHERE)
            headers |= {"WWW-Authenticate"} if status == "401" else set()
            headers |= {"Retry-After"} if status in ("429", "503", "504") else set()
            headers |= {"Retry-After"} if status == "409" and name.startswith("join") else set()  # before it opens
            headers |= {"ETag"} if status == "304" else set()
            headers |= {"Retry-After"} & response["headers"].keys() if status == "409" else set()
            if status.startswith("2"):
                continue
            assert response["headers"].keys() == headers, (name, status)
            assert all(resolved(header)["schema"] for header in response["headers"].values())


@pytest.mark.parametrize(
    ("operation", "status", "headers"),
    [
        ("register", "201", {"Location", "ETag"}),
        ("logIn", "200", set()),
        ("readMe", "200", {"ETag"}),
        ("createMapping", "201", {"Location", "ETag"}),
        ("changePatient", "200", {"ETag"}),
        ("listMappings", "200", {"Link"}),
        ("listDoctorsOfPatient", "200", {"Link"}),
        ("deleteDoctor", "204", set()),
    ],
)
def test_a_success_has_its_headers(operation: str, status: str, headers: set[str]) -> None:
    assert responses(operations()[operation])[status]["headers"].keys() == headers | EVERYWHERE


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("register", set()),
        ("createPatient", {"Idempotency-Key", "Acting-For"}),
        ("createMapping", {"Idempotency-Key", "Acting-For"}),
        ("changePassword", set()),
        ("createInvitation", set()),
        ("listOpenedPatients", {"limit", "cursor", "q"}),
        ("readPractice", {"If-None-Match", "Acting-For"}),
        ("readMe", {"If-None-Match"}),
        ("changeMe", {"If-Match"}),
        ("readDoctor", {"id", "If-None-Match", "Acting-For"}),
        ("replaceDoctor", {"id", "If-Match", "Acting-For"}),
        ("deleteMapping", {"id", "If-Match", "Acting-For"}),
        ("listDoctors", {"limit", "cursor", "q", "specialty", "Acting-For"}),
        ("listDoctorsOfPatient", {"id", "limit", "cursor", "Acting-For"}),
        ("listAuditEvents", {"limit", "cursor", "patient_id", "Acting-For"}),
    ],
)
def test_an_operation_has_its_parameters(operation: str, names: set[str]) -> None:
    found = parameters(operations()[operation])
    assert found.keys() == names
    assert all(parameter["description"] for parameter in found.values())
    assert {name for name, parameter in found.items() if parameter.get("required")} == names & {"id"}


def test_constraints_are_part_of_parameters() -> None:
    found = parameters(operations()["listAuditEvents"])
    ids = {"type": "integer", "format": "int64", "exclusiveMinimum": 0, "maximum": 2**63 - 1}
    assert found["patient_id"]["schema"] == ids
    assert parameters(operations()["readPatient"])["id"]["schema"] == ids
    limits = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100, "default": 20}
    assert found["limit"]["schema"] == limits
    assert found["cursor"]["schema"] == {"type": "string", "pattern": CURSOR, "maxLength": 1000}


def test_null_is_allowed_where_it_clears_a_field_and_nowhere_else() -> None:
    schemas = openapi()["components"]["schemas"]
    change = schemas["PatientChange"]["properties"]
    assert change["name"]["type"] == "string"
    assert change["phone"]["type"] == change["date_of_birth"]["type"] == ["string", "null"]
    assert change["gender"] == {"anyOf": [{"$ref": "#/components/schemas/Gender"}, {"type": "null"}]}
    assert schemas["Gender"]["enum"] == ["male", "female", "other", "unknown"]
    assert "required" not in schemas["PatientChange"]
    assert schemas["NewPatient"]["required"] == ["name"]
    assert schemas["UserChange"]["properties"]["name"]["type"] == "string"
    assert schemas["PatientPage"]["properties"]["next_cursor"]["type"] == ["string", "null"]


def test_schemas_say_what_is_sent_and_nothing_else() -> None:
    schemas = openapi()["components"]["schemas"]
    bodies = [schema for name, schema in schemas.items() if name.startswith("New") and "oneOf" not in schema]
    assert all(schema["additionalProperties"] is False for schema in bodies)
    assert "version" not in schemas["Patient"]["properties"]
    assert set(schemas["Tokens"]["required"]) == schemas["Tokens"]["properties"].keys()
    assert schemas["NewPatient"]["properties"]["name"]["maxLength"] == 200
    assert all(re.fullmatch("[A-Z][A-Za-z]+", name) for name in schemas)
    for found in everything(openapi()["components"]["schemas"]):
        assert found.get("default", ...) is not None
        assert not isinstance(found.get("title"), str)


def test_patterns_mean_the_same_in_javascript() -> None:
    patterns = {found["pattern"] for found in everything(openapi()) if isinstance(found.get("pattern"), str)}
    assert len(patterns) > 3
    for pattern in patterns:
        assert re.compile(pattern)
        # Inline flags, named groups, conditions, possessive quantifiers and anchors that only Python knows.
        assert not re.search(r"\(\?[^:=!]|\\[AZ]|[*+?}]\+|\[\[:", pattern), pattern


def test_every_example_fits_its_schema() -> None:
    seen = 0
    for operation in operations().values():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for content in [*bodies, *responses(operation).values()]:
            for media_type, medium in content.get("content", {}).items():
                found = examples(medium)
                assert found or media_type == "text/html" or operation["path"] == "/openapi.json"
                schema = medium["schema"] | {"components": openapi()["components"]}
                for example in found:
                    Draft202012Validator(schema, format_checker=FormatChecker()).validate(example)
                    seen += 1
    assert seen > 200


def test_every_example_of_a_body_is_accepted_and_shows_its_model() -> None:
    for _, route in routes():
        if route.body:
            operation = openapi()["paths"][route.path][route.method.lower()]
            for medium in operation["requestBody"]["content"].values():
                assert route.body.model_validate_json(json.dumps(medium["example"])).model_fields_set


def test_a_change_may_be_sent_as_a_merge_patch() -> None:
    content = operations()["changePatient"]["requestBody"]["content"]
    assert list(content) == ["application/json", "application/merge-patch+json"]


def test_the_examples_of_what_is_not_valid_are_what_the_functions_answer() -> None:
    (event,) = (event for name, event in events() if name == "patients/create")
    answer = load("patients").api.handle(event | {"body": "{}"}, CONTEXT)
    examples = openapi()["components"]["responses"]["IdempotencyKeyReusedOrInvalid"]["content"]
    example = examples["application/problem+json"]["examples"]["Invalid"]["value"]
    assert json.loads(answer["body"]) | {"instance": ""} == example | {"instance": ""}


def test_every_kind_of_problem_of_the_layer_and_of_the_gateway_is_explained() -> None:
    def below(parent: type[Refusal]) -> Iterator[type[Refusal]]:
        for kind in parent.__subclasses__():
            yield kind
            yield from below(kind)

    slugs = {
        kind.slug: kind.title for kind in reversed(list(below(Refusal))) if kind.__module__.startswith("healthcare.")
    }
    responses_of_gateway = template()["Resources"]["Api"]["Properties"]["GatewayResponses"].values()
    gateway = [json.loads(r["ResponseTemplates"]["application/json"]) for r in responses_of_gateway]
    in_examples = {
        example["type"].removeprefix("/problems/"): example["status"]
        for operation in operations().values()
        for response in responses(operation).values()
        for example in examples(response.get("content", {}).get("application/problem+json", {}))
    }
    assert {"email-taken", "stale", "validation"} <= slugs.keys()
    assert kinds().keys() == slugs.keys() | {problem["type"].removeprefix("/problems/") for problem in gateway}
    assert in_examples.items() <= {slug: described(kind)["status"] for slug, kind in kinds().items()}.items()
    for slug, page in pages().items():
        assert page["meaning"].endswith(".")
        assert page["remedy"].endswith(".")
        assert page["title"] == slugs.get(slug, page["title"])
        assert f"(problems/{slug})" in openapi()["info"]["description"]
