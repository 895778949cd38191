"""One local run for all end-to-end tests that only need the API, and people to use it."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e import leaks
from tests.e2e.local_run import LocalRun, running

PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Person:
    id: int
    email: str
    client: httpx.Client
    tokens: dict[str, str]


@pytest.fixture(scope="session", autouse=True)
def nothing_personal_in_logs_and_errors() -> Iterator[None]:
    """Looks at everything that all these tests have sent over HTTP, and at all that was said meanwhile."""
    send = httpx.Client.send

    def watched(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(self, request, **options)
        if not options.get("stream"):
            leaks.session.watch(request, response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", watched)
        yield
    assert leaks.session.leaks() == []


@pytest.fixture(scope="session")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    with running(tmp_path_factory.mktemp("local")) as run:
        yield run


@pytest.fixture(scope="session")
def base_url(local_run: LocalRun) -> str:
    return local_run.base_url


@pytest.fixture
def sign_up(base_url: str) -> Iterator[Callable[[], Person]]:
    """Each call registers somebody new and logs them in."""
    clients: list[httpx.Client] = []

    def sign_up() -> Person:
        email = f"{secrets.token_hex(6)}@example.org"
        client = httpx.Client(base_url=base_url, timeout=30)
        clients.append(client)
        user = client.post("/api/auth/register", json={"name": "Somebody", "email": email, "password": PASSWORD})
        assert user.status_code == 201, user.text
        tokens = client.post("/api/auth/login", json={"email": email, "password": PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        return Person(user.json()["id"], email, client, tokens)

    yield sign_up
    for client in clients:
        client.close()
