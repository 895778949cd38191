"""docs/requests.http: every request of the API, for the HTTP client of an editor."""

import json
import re
from pathlib import Path

from local.settings import PROJECT
from tools.openapi.declared import Json, answer_of, routes
from tools.openapi.document import document, named_by
from tools.openapi.events import day, events

COLLECTION = PROJECT / "docs" / "requests.http"
HEAD = """\
# Every request that the API answers, in an order that works from top to bottom.
#
# Open it in an IDE of JetBrains (the HTTP client is built in) or in Visual Studio Code with the extension httpYac,
# start `make run`, and send one request after the other, or all of them. Each run registers somebody new; the tokens
# and ids that an answer brings are sent by those that follow.

@host = http://127.0.0.1:3000
"""

# What an answer gives and later requests send, by the name of the field, and as which variable.
CARRIED = {"access_token": "token", "refresh_token": "refresh_token"}


def collection() -> str:
    by_name, paths = dict(events()), document()["paths"]
    requests = [by_name[name] for name in day() if by_name[name]["path"] != "/docs/page.css"]
    return HEAD + "".join(_request(request, paths) for request in requests)


def _request(event: Json, paths: Json) -> str:
    method, path = event["httpMethod"], event["resource"]
    operation = paths[path][method.lower()]
    route = next((route for _, route in routes() if (route.method, route.path) == (method, path)), None)
    if route is None:  # of the documentation, where a path has no id
        return f"\n### {operation['summary']}\n{method} {{{{host}}}}{event['path']}\n"
    url = re.sub(r"{(\w+)}", lambda match: f"{{{{{named_by(route, match[1])}}}}}", path)
    query = "&".join(f"{name}={value}" for name, value in (event["queryStringParameters"] or {}).items())
    lines = [f"\n### {operation['summary']}", f"{method} {{{{host}}}}{url}{'?' if query else ''}{query}"]
    if not route.open:
        lines.append("Authorization: Bearer {{token}}")
    if route.takes_key:
        lines.append("Idempotency-Key: {{$uuid}}")
    if route.body:
        lines += ["Content-Type: application/json", "", _body(path, json.loads(event["body"]))]
    answer = answer_of(route)
    fields = answer.model_fields if answer else {}
    carried = {variable: field for field, variable in CARRIED.items() if field in fields}
    if path == "/api/auth/register":
        carried["email"] = "email"
    if path.endswith("/slots"):
        carried["starts_at"] = "items[0].starts_at"
    if route.status == 201 and not route.open and "id" in fields:
        carried[route.path.rpartition("/")[2].removesuffix("s")] = "id"
    if "upload" in fields:
        carried["document"] = "document.id"
    if carried:
        statements = [
            f'response.body.{field} && client.global.set("{name}", response.body.{field});'
            for name, field in carried.items()
        ]
        lines += ["", f"> {{% {' '.join(statements)} %}}"]
    return "\n".join(lines) + "\n"


def _body(path: str, body: Json) -> str:
    """The sample, with what earlier answers gave in the place of its ids and secrets."""
    if "email" in body and path.startswith("/api/auth/"):
        body["email"] = "ada-{{$uuid}}@example.org" if path.endswith("/register") else "{{email}}"
    body |= {field: f"{{{{{CARRIED[field]}}}}}" for field in body.keys() & CARRIED.keys()}
    if "starts_at" in body and path.startswith("/api/appointments"):
        body["starts_at"] = "{{starts_at}}"
    text = json.dumps(body, indent=2, ensure_ascii=False)
    return re.sub(r'"(\w+)_id": 1\b', r'"\1_id": {{\1}}', text)


def files() -> dict[Path, str]:
    return {COLLECTION: collection()}
