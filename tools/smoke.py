"""Whether a deployment works, seen from outside: `python -m tools.smoke https://...`.

Registers somebody invented, who does what every client does once. For a stack that is deleted afterwards: the account
and its patient stay.
"""

import secrets
import sys
import time

import httpx

WAKING_UP = 90  # seconds for a database that sleeps and for cold starts


def main(url: str) -> int:
    with httpx.Client(base_url=url, timeout=30) as client:
        try:
            _wait(client)
            for step in (_rejects_strangers, _serves_the_docs, _keeps_a_patient):
                step(client)
                print(f"ok: {step.__name__.strip('_').replace('_', ' ')}")
        except (AssertionError, httpx.HTTPError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    return 0


def _wait(client: httpx.Client) -> None:
    deadline = time.monotonic() + WAKING_UP
    while (answer := client.get("health")).status_code == 503 and time.monotonic() < deadline:
        time.sleep(int(answer.headers["Retry-After"]))
    _expect(answer, 200)


def _rejects_strangers(client: httpx.Client) -> None:
    answer = _expect(client.get("api/patients"), 401)
    assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
    _expect(client.get("api/patients", headers={"Authorization": "Bearer no.token.atall"}), 401)
    _expect(client.get("nowhere", headers={"Authorization": "Bearer no.token.atall"}), 404)


def _serves_the_docs(client: httpx.Client) -> None:
    _expect(client.get("docs"), 200)
    assert _expect(client.get("openapi.json"), 200).json()["openapi"].startswith("3.1")


def _keeps_a_patient(client: httpx.Client) -> None:
    email, password = f"{secrets.token_hex(8)}@example.org", secrets.token_urlsafe(24)
    _expect(client.post("api/auth/register", json={"name": "Smoke Test", "email": email, "password": password}), 201)
    tokens = _expect(client.post("api/auth/login", json={"email": email, "password": password}), 200).json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    patient = _expect(client.post("api/patients", json={"name": "Ada Lovelace"}), 201).json()
    read = _expect(client.get(f"api/patients/{patient['id']}"), 200)
    assert read.json() == patient, read.text
    _expect(client.get(f"api/patients/{patient['id']}", headers={"If-None-Match": read.headers["ETag"]}), 304)
    _expect(client.delete(f"api/patients/{patient['id']}"), 204)
    events = _expect(client.get("api/audit"), 200).json()["items"]
    assert [event["action"] for event in events if event["resource"] == "patient"] == ["delete", "create"], events


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    request = answer.request
    assert answer.status_code == status, f"{request.method} {request.url.path} gave {answer.status_code}, not {status}"
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
