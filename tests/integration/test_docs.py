import json
import re
import subprocess
import sys
from collections.abc import Mapping
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import LogLines
from tests.gateway import Answer, Client, Environment, Gateway

DOCS = Path("functions/docs")


@pytest.fixture
def reader(environments: dict[str, Environment]) -> Client:
    """Without a database: none of this needs one."""
    return Client(Gateway(environments))


class Page(HTMLParser):
    """What a page refers to, and the scripts and styles that stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.operations: list[str] = []
        self.inline = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.addresses += [value for name in ("src", "href") if (value := given.get(name))]
        self.operations += [value for name, value in attributes if name == "data-operation" and value]
        self.inline += tag == "style" or (tag == "script" and "src" not in given)
        self.inline += any(name == "style" or name.startswith("on") for name in given)


def policy(answer: Answer) -> Mapping[str, list[str]]:
    directives = [directive.split() for directive in answer.headers["Content-Security-Policy"].split(";")]
    return {name: sources for name, *sources in directives}


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        ("/docs", 200, "text/html; charset=utf-8"),
        ("/docs/page.css", 200, "text/css; charset=utf-8"),
        ("/docs/page.js", 200, "text/javascript; charset=utf-8"),
        ("/docs/swagger-ui.min.css", 200, "text/css; charset=utf-8"),
        ("/docs/swagger-ui-bundle.min.js", 200, "text/javascript; charset=utf-8"),
        ("/openapi.json", 200, "application/json"),
        ("/problems/stale", 200, "text/html; charset=utf-8"),
        ("/problems/unknown", 404, "application/problem+json"),
        ("/docs/unknown.js", 404, "application/problem+json"),
    ],
)
def test_every_answer_has_the_headers_of_the_whole_api(
    reader: Client, path: str, status: int, content_type: str
) -> None:
    answer = reader.get(path)
    assert answer.status == status
    assert answer.text
    assert answer.headers["Content-Type"] == content_type
    assert re.fullmatch("[0-9a-f-]{36}", answer.headers["X-Request-Id"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in answer.headers


def test_the_allowed_origin_is_the_deployments(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGIN", "https://app.example.com")
    answer = reader.get("/openapi.json")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert answer.headers["Vary"] == "Origin"


def test_the_page_loads_all_it_needs_from_beside_itself(reader: Client) -> None:
    page = Page(reader.get("/docs").text)
    assets = [address for address in page.addresses if address.startswith("docs/")]
    assert len(assets) == 4
    for asset in assets:
        assert reader.get(f"/{asset}").status == 200
    others = set(page.addresses) - set(assets)
    # Relative, so that it works under a stage too; of another host there is nothing.
    assert {address for address in others if not address.startswith(("#", "data:"))} == {
        "docs",
        "health",
        "openapi.json",
    }


def test_the_page_has_no_script_and_no_style_but_the_files_of_its_own(reader: Client) -> None:
    answer = reader.get("/docs")
    assert Page(answer.text).inline == 0
    assert policy(answer)["default-src"] == ["'none'"]
    for kind in ("script-src", "style-src", "connect-src"):
        assert policy(answer)[kind] == ["'self'"]


def test_the_page_keeps_the_token_and_takes_its_routes_from_the_document(reader: Client) -> None:
    script = reader.get("/docs/page.js").text
    assert "persistAuthorization: true" in script
    assert 'url: "openapi.json"' in script
    assert "http" not in script


def test_the_links_of_the_page_lead_to_operations_that_exist(reader: Client) -> None:
    described = {
        f"{operation['tags'][0]} {operation['operationId']}"
        for methods in reader.get("/openapi.json").expect(200)["paths"].values()
        for operation in methods.values()
    }
    linked = Page(reader.get("/docs").text).operations
    assert linked == ["auth register", "auth logIn", "auth refresh"]
    assert set(linked) <= described


def test_openapi_json_is_what_is_checked_in(reader: Client) -> None:
    assert reader.get("/openapi.json").text == (DOCS / "openapi.json").read_text("utf-8")


@pytest.mark.parametrize("slug", json.loads((DOCS / "problems.json").read_text("utf-8")))
def test_a_kind_of_problem_has_a_page_that_explains_it(reader: Client, slug: str) -> None:
    problem = json.loads((DOCS / "problems.json").read_text("utf-8"))[slug]
    page = reader.get(f"/problems/{slug}").text
    text = unescape(re.sub("<[^>]+>", "", page))
    assert f"<h1>{escape(problem['title'])}</h1>" in page
    assert problem["meaning"].replace("`", "") in text
    assert problem["remedy"].replace("`", "") in text
    assert f"With status {problem['status']}" in text
    assert f"/problems/{slug}" in text
    assert Page(page).inline == 0
    assert all(address.startswith(("../docs", "data:")) for address in Page(page).addresses)


@pytest.mark.parametrize("slug", ["unknown", "Stale", "%3Cscript%3E", "..%2Fopenapi", "title"])
def test_an_unknown_kind_of_problem_is_not_found(reader: Client, slug: str) -> None:
    problem = reader.get(f"/problems/{slug}").refuse(404, "not-found")
    assert problem["instance"] == f"/problems/{slug}"


@pytest.mark.parametrize("file", ["app.py", "..%2Fapp.py", "page.html", "problems.json", "%2Fetc%2Fpasswd"])
def test_only_the_files_of_the_page_are_served(reader: Client, file: str) -> None:
    reader.get(f"/docs/{file}").refuse(404, "not-found")


def test_each_request_is_logged(reader: Client, log_lines: LogLines) -> None:
    answer = reader.get("/problems/unknown")
    (line,) = log_lines()
    assert line["message"] == "GET /problems/{slug}"
    assert (line["service"], line["status"]) == ("tests", 404)
    assert line["request_id"] == answer.headers["X-Request-Id"]


def test_neither_models_nor_the_database_are_imported() -> None:
    script = """
import json, sys
import app
event = json.load(open(sys.argv[1]))
for file in ("swagger-ui-bundle.min.js", "swagger-ui.min.css"):
    assert app.lambda_handler(event | {"pathParameters": {"file": file}}, None)["statusCode"] == 200
print(sorted({"pydantic", "psycopg", "jwt", "boto3"} & sys.modules.keys()), file=sys.stderr)
"""
    event = Path("events/docs/read_asset.json").absolute()
    layer = {"PYTHONPATH": str(Path("layers/common").absolute()), "POWERTOOLS_LOG_LEVEL": "CRITICAL"}
    command = [sys.executable, "-c", script, event]
    ran = subprocess.run(command, cwd=DOCS, env=layer, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
