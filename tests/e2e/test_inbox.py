"""Mail in the local run: a scheduler starts the sender, and what it sends is in the inbox."""

import time

import httpx

from tests.e2e.local_run import LocalRun


def _mails(base_url: str, to: str, wanted: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    deadline = time.monotonic() + 20
    while len(found) < wanted and time.monotonic() < deadline:
        found = [mail for mail in httpx.get(f"{base_url}/inbox.json").json() if mail["to"] == to]
        time.sleep(0.2)
    return found


def test_a_registration_and_a_reset_by_mail(base_url: str, local_run: LocalRun) -> None:
    email = f"ada-{time.time_ns()}@example.org"
    account = {"name": "Ada", "email": email, "password": "seven green kettles"}
    httpx.post(f"{base_url}/api/auth/register", json=account).raise_for_status()
    (verification,) = _mails(base_url, email, 1)
    assert verification.keys() == {"to", "subject", "text", "at"}
    assert f"{base_url}/verify#token=" in verification["text"].replace("localhost", "127.0.0.1")
    httpx.post(f"{base_url}/api/auth/forgot", json={"email": email}).raise_for_status()
    reset = _mails(base_url, email, 2)[-1]
    token = reset["text"].partition("#token=")[2].split()[0]
    body = {"token": token, "new_password": "eight blue kettles"}
    assert httpx.post(f"{base_url}/api/auth/reset", json=body).status_code == 204
    assert _mails(base_url, email, 3)[-1]["subject"] == "Your password has been changed"
    assert token not in local_run.output
    assert email not in local_run.output


def test_the_inbox_is_a_page_to_look_at(base_url: str) -> None:
    page = httpx.get(f"{base_url}/inbox")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "/inbox.json" in page.text
