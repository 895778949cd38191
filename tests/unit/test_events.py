import json
from pathlib import Path

from tools.openapi import collection
from tools.openapi.declared import gateway_functions, load
from tools.openapi.events import EVENTS, events, files


def test_the_events_are_those_that_the_template_and_the_examples_make() -> None:
    checked_in = {path: path.read_text("utf-8") for path in EVENTS.rglob("*") if path.is_file()}
    assert checked_in == files(), "events/ is stale: run `make openapi`"


def test_every_route_of_the_template_has_one_event_and_every_event_a_route() -> None:
    routes = sorted(
        (folder, event["Properties"]["Method"].upper(), event["Properties"]["Path"])
        for folder, _, function_events in gateway_functions()
        for event in function_events.values()
    )
    sent = {name: event for name, event in events() if "resource" in event}
    found = sorted((name.partition("/")[0], event["httpMethod"], event["resource"]) for name, event in sent.items())
    assert found == routes
    assert {name for name, _ in events()} - sent.keys() == {
        "authorizer/token",
        "migrate/delete_doctor",
        "migrate/grant_admin",
        "migrate/migrate",
        "migrate/verify_audit",
        "rotate_keys/create_secret",
        "traffic_hook/before_traffic",
    }


def test_the_collection_is_what_the_events_make() -> None:
    for path, text in collection.files().items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: run `make openapi`"


def test_every_function_has_an_event() -> None:
    functions = {path.parent.name for path in Path("functions").glob("*/app.py")}
    assert {name.partition("/")[0] for name, _ in events()} == functions


def test_the_events_of_the_documentation_are_answered() -> None:
    docs = load("docs")
    statuses = {name: docs.lambda_handler(event, None)["statusCode"] for name, event in events() if "docs/" in name}
    assert statuses == {
        "docs/read_page": 200,
        "docs/read_asset": 200,
        "docs/read_open_api": 200,
        "docs/read_problem": 200,
    }


def test_the_token_of_the_authorizers_event_proves_nothing() -> None:
    event = json.loads((EVENTS / "authorizer" / "token.json").read_text("utf-8"))
    answer = load("authorizer").lambda_handler(event, None)
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
