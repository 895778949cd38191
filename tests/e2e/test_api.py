"""Over HTTP, through the real gateway: what must hold when several environments of a function run at once."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import httpx

from tests.e2e.conftest import PASSWORD, Person

DOZEN = 12
SignUp = Callable[[], Person]


def _at_once(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    start = Barrier(len(calls))

    def call(this: Callable[[], httpx.Response]) -> httpx.Response:
        start.wait()
        return this()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_a_dozen_identical_registrations_make_one_account(base_url: str) -> None:
    account = {"name": "Ann", "email": "a-dozen-times@example.org", "password": PASSWORD}
    answers = _at_once([lambda: httpx.post(f"{base_url}/api/auth/register", json=account, timeout=60)] * DOZEN)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: DOZEN - 1}
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json", "application/problem+json"}


def test_a_dozen_identical_mappings_make_one(sign_up: SignUp) -> None:
    ann = sign_up().client
    patient = ann.post("/api/patients", json={"name": "Zoë"}).json()["id"]
    doctor = ann.post("/api/doctors", json={"name": "Who", "specialty": "Time"}).json()["id"]
    body = {"patient_id": patient, "doctor_id": doctor}
    answers = _at_once([lambda: ann.post("/api/mappings", json=body)] * DOZEN)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: DOZEN - 1}
    assert len(ann.get("/api/mappings").json()["items"]) == 1


def test_a_dozen_creations_with_one_key_make_one_row(sign_up: SignUp) -> None:
    ann = sign_up().client
    for url, body in (("/api/patients", {"name": "Zoë"}), ("/api/doctors", {"name": "Who", "specialty": "Time"})):
        creation = partial(ann.post, url, json=body, headers={"Idempotency-Key": f"a-dozen-times-at-{url}"})
        answers = _at_once([creation] * DOZEN)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.text for answer in answers}) == len({answer.headers["Location"] for answer in answers}) == 1
    assert len(ann.get("/api/patients").json()["items"]) == 1


def test_a_foreign_mapping_is_not_found_and_still_there(sign_up: SignUp) -> None:
    """The system that this one follows answered 403 and had deleted it."""
    ann, bob = sign_up().client, sign_up().client
    patient = ann.post("/api/patients", json={"name": "Zoë"}).json()["id"]
    doctor = ann.post("/api/doctors", json={"name": "Who", "specialty": "Time"}).json()["id"]
    mapping = ann.post("/api/mappings", json={"patient_id": patient, "doctor_id": doctor}).json()
    answer = bob.delete(f"/api/mappings/{mapping['id']}")
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/not-found"
    assert [item["id"] for item in ann.get("/api/mappings").json()["items"]] == [mapping["id"]]


def test_a_token_that_was_tampered_with_is_refused_at_the_gate(sign_up: SignUp, base_url: str) -> None:
    ann = sign_up()
    token = ann.tokens["access_token"]
    for bad in (token[:-2], token + "x", token.rsplit(".", 1)[0] + ".AAAA", "a.b.c", ann.tokens["refresh_token"]):
        answer = httpx.get(f"{base_url}/api/auth/me", headers={"Authorization": f"Bearer {bad}"}, timeout=30)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["type"] == "/problems/unauthenticated"
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_errors_of_gateway_and_functions_carry_the_cors_headers(sign_up: SignUp, base_url: str) -> None:
    origin = {"Origin": "https://app.example.org"}
    answers = [
        httpx.get(f"{base_url}/api/patients", headers=origin, timeout=30),
        httpx.get(f"{base_url}/nowhere", headers=origin, timeout=30),
        sign_up().client.get("/api/patients/0", headers=origin),
    ]
    assert [answer.status_code for answer in answers] == [401, 404, 422]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "application/problem+json"
