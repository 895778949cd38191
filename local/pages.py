"""What the local run serves beside the API, for the person who runs it. At API Gateway these paths do not exist."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.request import urlopen

from flask import redirect
from werkzeug import Response

from local.aws.moto import Moto

Pages = Mapping[str, Callable[[], Response]]


def pages(moto: Moto) -> Pages:
    """By path; each answers GET."""
    return {
        "/": lambda: redirect("/docs"),
        "/inbox": lambda: Response(Path(__file__).with_name("inbox.html").read_text(), mimetype="text/html"),
        "/inbox.json": lambda: _mails(moto),
    }


def _mails(moto: Moto) -> Response:
    with urlopen(f"{moto.endpoint}/inbox.json", timeout=5) as answer:  # noqa: S310 - our own process
        return Response(answer.read(), mimetype="application/json")
