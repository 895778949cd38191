"""The headers that every answer has, whichever function gives it."""

from os import environ

EXPOSED = "ETag, Location, Link, Retry-After, X-Request-Id"


def common_headers(request_id: str) -> dict[str, str]:
    origin = environ.get("CORS_ALLOWED_ORIGIN", "*")
    return {
        "X-Request-Id": request_id,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": EXPOSED,
        **({} if origin == "*" else {"Vary": "Origin"}),
    }
