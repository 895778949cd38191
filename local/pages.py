"""What the local run serves beside the API, for the person who runs it. At API Gateway these paths do not exist."""

from collections.abc import Callable, Mapping

from flask import redirect
from werkzeug import Response

Pages = Mapping[str, Callable[[], Response]]


def pages() -> Pages:
    """By path; each answers GET."""
    return {
        "/": lambda: redirect("/docs"),
    }
