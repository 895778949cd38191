"""What people read: the interactive page, openapi.json, and what each problem means.

Imports neither pydantic nor psycopg, so that a cold start is short. Swagger UI is the copy inside Powertools.
"""

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from healthcare.platform.logs import logger
from healthcare.web.headers import common_headers
from healthcare.web.problems import problem

Content = tuple[str, str]  # media type and text

HERE = Path(__file__).parent
HTML, CSS, SCRIPT = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"

# Everything comes from where the page came from, but for the icons inside Swagger UI's style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class NotFound(Exception):
    pass


def read_page(parameters: Mapping[str, str]) -> Content:
    return HTML, (HERE / "page.html").read_text("utf-8")


def read_asset(parameters: Mapping[str, str]) -> Content:
    match parameters["file"]:
        case "page.css" as file:
            return CSS, (HERE / file).read_text("utf-8")
        case "page.js" as file:
            return SCRIPT, (HERE / file).read_text("utf-8")
        case "swagger-ui.min.css" as file:
            return CSS, (_swagger_ui() / file).read_text("utf-8")
        case "swagger-ui-bundle.min.js" as file:
            return SCRIPT, (_swagger_ui() / file).read_text("utf-8")
    raise NotFound("There is no such file.")


def read_openapi(parameters: Mapping[str, str]) -> Content:
    return "application/json", (HERE / "openapi.json").read_text("utf-8")


def read_problem(parameters: Mapping[str, str]) -> Content:
    problem = json.loads((HERE / "problems.json").read_text("utf-8")).get(parameters["slug"])
    if problem is None:
        raise NotFound("There is no such kind of problem.")
    page = Template((HERE / "problem.html").read_text("utf-8"))
    return HTML, page.substitute({name: _html(str(text)) for name, text in problem.items()}, slug=parameters["slug"])


ROUTES: Mapping[str, Callable[[Mapping[str, str]], Content]] = {
    "/docs": read_page,
    "/docs/{file}": read_asset,
    "/openapi.json": read_openapi,
    "/problems/{slug}": read_problem,
}


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    request_id = event["requestContext"]["requestId"]
    try:
        status = 200
        content_type, body = ROUTES[event["resource"]](event["pathParameters"] or {})
    except NotFound as error:
        status = 404
        content_type = "application/problem+json"
        details = problem("not-found", "Not found", status, str(error), event["path"], request_id)
        body = json.dumps(details, separators=(",", ":"))
    logger.info(f"{event['httpMethod']} {event['resource']}", status=status, request_id=request_id)
    headers = {
        "Content-Type": content_type,
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Referrer-Policy": "no-referrer",
        **common_headers(request_id),
    }
    return {"statusCode": status, "headers": headers, "body": body}


def _swagger_ui() -> Path:
    """The copy inside Powertools."""
    package = find_spec("aws_lambda_powertools")
    assert package
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0], "event_handler", "openapi", "swagger_ui")


def _html(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
