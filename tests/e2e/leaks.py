"""What has been sent and what has been said in this session, to look for the one in the other."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx

PERSONAL = {"name", "email", "phone", "address", "date_of_birth"}
SECRET = {"password", "current_password", "new_password", "access_token", "refresh_token"}
# What nobody sends by that name, as a search or through curl: an e-mail address, the beginning of a JWT, a refresh
# token, a hash of a password.
ALWAYS = re.compile(r"[\w.+-]+@[\w-]+\.\w+|eyJ[\w-]{10,}|(?<![\w-])[\w-]{64}(?![\w-])|\$2[aby]\$\d\d\$")


class Session:
    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.error_bodies: list[str] = []
        self.logs: list[str] = []

    def watch(self, request: httpx.Request, response: httpx.Response) -> None:
        if isinstance(request.stream, httpx.ByteStream):  # and none that is gone once it is sent
            self.sent.update(_values(request.content))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if len(token) >= 20:
            self.sent.add(token)
        if response.status_code >= 400:
            self.error_bodies.append(response.text)
        else:
            self.sent.update(_values(response.content, SECRET))

    def keep_logs_of(self, folder: Path) -> None:
        """Those of the functions and of PostgreSQL."""
        for file in (*folder.glob("log/*"), folder / "postgres" / "postgres.log"):
            if file.is_file():
                self.logs += file.read_text(errors="replace").splitlines()

    def leaks(self) -> list[str]:
        """Each line of a log and each error that says something of what was sent."""
        return [text for text in (*self.logs, *self.error_bodies) if says(text, self.sent)]


def says(text: str, values: Iterable[str]) -> bool:
    """As a word of its own: some of the names are short."""
    return bool(ALWAYS.search(text)) or any(
        value in text and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) for value in values
    )


def _values(content: bytes, names: set[str] = PERSONAL | SECRET) -> Iterator[str]:
    try:
        yield from _of(json.loads(content), names)
    except ValueError:
        return


def _of(value: Any, names: set[str]) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in names and isinstance(inner, str) and len(inner.strip()) >= 3:
                yield inner.strip()
            yield from _of(inner, names)
    elif isinstance(value, list):
        for inner in value:
            yield from _of(inner, names)


session = Session()
