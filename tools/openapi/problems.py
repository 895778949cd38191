"""Every kind of problem that a client may meet: the layer's refusals, and what only API Gateway answers."""

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache

from healthcare.errors import Refusal
from healthcare.web.answers import status_of
from tools.openapi.declared import Json, routes, template


class BadRequest(Refusal):
    """API Gateway could not make sense of the request and did not pass it on.

    Compare the address, the method and the headers with the documentation.
    """

    slug = "bad-request"


class Refused(Refusal):
    """The web application firewall in front of the API did not pass the request on: it looks like an attack, or too
    many requests came from your address.

    Wait a few minutes, and look at what your program really sends. If it is harmless, tell whoever runs the API the
    `request_id`.
    """

    slug = "refused"


class TimedOut(Refusal):
    """No answer came in time. Whether the request was carried out is not known.

    Wait for as many seconds as `Retry-After` says. Then look whether it was, or send it again with the same
    `Idempotency-Key`.
    """

    slug = "timeout"


@cache
def kinds() -> Mapping[str, type[Refusal]]:
    """The first refusal of each slug, by slug, in the order of their statuses."""
    routes()  # a kind exists once its module is loaded
    found: dict[str, type[Refusal]] = {}
    for kind in _below(Refusal):
        found.setdefault(kind.slug, kind)
    return dict(sorted(found.items(), key=lambda item: (described(item[1])["status"], item[0])))


def described(kind: type[Refusal]) -> Json:
    """What a problem of this kind has whatever the request: `type`, `title`, `status`, `detail`."""
    if kind in (BadRequest, Refused, TimedOut):
        return _of_gateway()[kind.slug]
    detail = getattr(kind, "detail", f"{kind.title}.")
    return {"type": f"/problems/{kind.slug}", "title": kind.title, "status": status_of(kind), "detail": detail}


def pages() -> Json:
    """What `/problems/<slug>` shows."""
    return {
        slug: {"title": described(kind)["title"], "status": described(kind)["status"], **_explained(kind)}
        for slug, kind in kinds().items()
    }


def _explained(kind: type[Refusal]) -> Json:
    meaning, _, remedy = (inspect.cleandoc(kind.__doc__ or "")).partition("\n\n")
    if not remedy:  # the refusal says nothing beyond its parent
        return _explained(kind.__bases__[0])
    return {"meaning": meaning.replace("\n", " "), "remedy": remedy.replace("\n", " ")}


def _below(parent: type[Refusal]) -> Iterator[type[Refusal]]:
    for kind in parent.__subclasses__():
        if kind.__module__.split(".")[0] in ("healthcare", "functions", "tools"):
            yield kind
            yield from _below(kind)


@cache
def _of_gateway() -> Mapping[str, Json]:
    responses = template()["Resources"]["Api"]["Properties"]["GatewayResponses"].values()
    found = [json.loads(response["ResponseTemplates"]["application/json"]) for response in responses]
    return {
        problem["type"].removeprefix("/problems/"): {
            name: problem[name] for name in ("type", "title", "status", "detail")
        }
        for problem in found
    }
