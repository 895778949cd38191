"""No name, address, password or token of anybody gets into a log or into an error.

All that the end-to-end tests send is looked for at their end (conftest.py); here every field has a value of its own,
and meets every kind of error.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from tests.e2e import leaks
from tests.e2e.conftest import Person
from tests.e2e.local_run import LocalRun

SignUp = Callable[[], Person]


class Values:
    """Each a word that is nowhere else."""

    def __init__(self) -> None:
        self.all: set[str] = set()

    def word(self) -> str:
        word = "Quetzal" + secrets.token_hex(4)
        self.all.add(word)
        return word

    def email(self) -> str:
        return f"{self.word()}@example.org"

    def phone(self) -> str:
        phone = f"+99 {secrets.randbelow(10**9):09} {secrets.randbelow(10**9):09}"
        self.all.add(phone)
        return phone

    def patient(self) -> dict[str, str]:
        return {"name": self.word(), "phone": self.phone(), "email": self.email(), "address": self.word()}

    def doctor(self) -> dict[str, str]:
        return {"name": self.word(), "specialty": self.word(), "phone": self.phone(), "email": self.email()}


@pytest.fixture
def said(local_run: LocalRun) -> Callable[[httpx.Response], list[str]]:
    """Every line of the run so far: on the console, in the functions' logs and in PostgreSQL's."""

    def said(last: httpx.Response) -> list[str]:
        deadline = time.monotonic() + 10
        while not any(last.headers["X-Request-Id"] in line for line in local_run.lines):
            assert time.monotonic() < deadline, "the last request has to be in the log"
            time.sleep(0.02)
        session = leaks.Session()
        session.keep_logs_of(local_run.folder)
        return [*local_run.lines, *session.logs]

    return said


@pytest.fixture
def administrator(local_run: LocalRun) -> Iterator[psycopg.Connection]:
    folder = local_run.folder / "postgres"
    password = (folder / "superuser-password").read_text()
    port = (folder / "port").read_text()
    with psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", password=password, dbname="healthcare", autocommit=True
    ) as connection:
        yield connection


@contextmanager
def _renamed_table(administrator: psycopg.Connection) -> Iterator[None]:
    administrator.execute("ALTER TABLE patients RENAME TO people")
    yield
    administrator.execute("ALTER TABLE people RENAME TO patients")


@contextmanager
def _nobody_may_connect(administrator: psycopg.Connection) -> Iterator[None]:
    administrator.execute("ALTER DATABASE healthcare CONNECTION LIMIT 0")
    administrator.execute(
        """
        SELECT pg_terminate_backend(pid, 5000)
          FROM pg_stat_activity
         WHERE datname = 'healthcare' AND pid <> pg_backend_pid()
        """
    )
    yield
    administrator.execute("ALTER DATABASE healthcare CONNECTION LIMIT -1")


def test_no_route_and_no_error_says_what_was_sent(
    base_url: str,
    administrator: psycopg.Connection,
    said: Callable[[httpx.Response], list[str]],
) -> None:
    values = Values()
    password, other_password = values.word(), values.word()
    account = {"name": values.word(), "email": values.email(), "password": password}
    login = {"email": account["email"], "password": password}
    wrong = {"email": account["email"], "password": values.word()}
    unknown = {"email": values.email(), "password": values.word()}

    with httpx.Client(base_url=base_url, timeout=30) as client:
        answers: list[httpx.Response] = []

        def ask(method: str, path: str, status: int, body: object = None, **options: str) -> httpx.Response:
            text = options.pop("text", None) or (None if body is None else json.dumps(body))
            headers = {"Content-Type": "application/json", **options}
            answer = client.request(method, path, content=text, headers=headers)
            assert answer.status_code == status, (method, path, answer.text)
            answers.append(answer)
            return answer

        ask("POST", "/api/auth/register", 201, account)
        ask("POST", "/api/auth/register", 409, account)
        ask("POST", "/api/auth/register", 422, {**account, "password": account["email"]})
        ask("POST", "/api/auth/register", 422, {**account, "email": values.word()})
        ask("POST", "/api/auth/login", 401, wrong)
        ask("POST", "/api/auth/login", 401, unknown)
        tokens = ask("POST", "/api/auth/login", 200, login).json()
        values.all |= {tokens["access_token"], tokens["refresh_token"]}
        tokens = ask("POST", "/api/auth/refresh", 200, {"refresh_token": tokens["refresh_token"]}).json()
        values.all |= {tokens["access_token"], tokens["refresh_token"]}
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        ask("GET", "/api/auth/me", 200)
        ask("PATCH", "/api/auth/me", 200, {"name": values.word()})
        ask("PATCH", "/api/auth/me", 412, {"name": values.word()}, **{"If-Match": '"77"'})

        key = {"Idempotency-Key": values.word()}
        patient = ask("POST", "/api/patients", 201, values.patient(), **key).json()["id"]
        ask("POST", "/api/patients", 422, values.patient(), **key)
        ask("POST", "/api/patients", 422, {"name": values.word(), "gender": values.word(), "phone": values.word()})
        ask("POST", "/api/patients", 422, {"name": f"{values.word()}\0", "date_of_birth": values.word()})
        ask("POST", "/api/patients", 422, text=f'{{"name": "\\ud800{values.word()}"}}')
        ask("POST", "/api/patients", 400, text=f'{{"name": "{values.word()}')
        ask("POST", "/api/patients", 400, text=f'["{values.word()}"]')
        ask("POST", "/api/patients", 413, {"name": values.word() * 10_000})
        ask("POST", "/api/patients", 413, {"name": values.word() * 1_000_000})
        ask("POST", "/api/patients", 415, values.patient(), **{"Content-Type": f"text/{values.word()}"})
        url = f"/api/patients/{patient}"
        ask("PUT", url, 200, values.patient())
        ask("PATCH", url, 200, {"address": values.word()})
        ask("PATCH", url, 412, {"address": values.word()}, **{"If-Match": '"77"'})
        ask("PATCH", url, 422, {"address": values.word()}, **{"If-Match": values.word()})
        ask("PUT", "/api/patients/999999999", 404, values.patient())
        ask("GET", f"/api/patients?q={values.word()}", 200)
        ask("GET", f"/api/patients?limit={values.word()}", 422)
        ask("GET", f"/api/patients?cursor=~{values.word()}", 422)
        ask("GET", url, 200, **{"If-None-Match": f'"{values.word()}"'})

        doctor = ask("POST", "/api/doctors", 201, values.doctor()).json()["id"]
        ask("PATCH", f"/api/doctors/{doctor}", 200, {"phone": values.phone()})
        ask("GET", f"/api/doctors?specialty={values.word()}&q={values.word()}", 200)
        mapping = {"patient_id": patient, "doctor_id": doctor}
        made = ask("POST", "/api/mappings", 201, mapping).json()
        ask("POST", "/api/mappings", 409, mapping)
        ask("POST", "/api/mappings", 404, {**mapping, "doctor_id": 999999999})
        ask("GET", "/api/mappings", 200)
        ask("GET", f"/api/mappings/{patient}", 200)
        ask("GET", f"{url}/doctors", 200)
        ask("GET", f"/api/audit?patient_id={patient}", 200)

        bad_token = {"Authorization": f"Bearer {tokens['access_token'][:-4]}{values.word()}"}
        values.all.add(bad_token["Authorization"])
        ask("GET", f"/api/patients?q={values.word()}", 401, **bad_token)
        ask("POST", "/api/patients", 401, values.patient(), Authorization=values.word())
        ask("POST", f"/nowhere?name={values.word()}", 404, values.patient())
        ask("POST", "/api/auth/password", 403, {"current_password": values.word(), "new_password": other_password})

        with _renamed_table(administrator):
            ask("POST", "/api/patients", 500, values.patient())
            ask("POST", "/api/patients", 500, values.patient(), **{"Idempotency-Key": values.word()})
            ask("GET", f"/api/patients?q={values.word()}", 500)
        with _nobody_may_connect(administrator):
            ask("POST", "/api/patients", 503, values.patient())
            ask("POST", "/api/auth/login", 503, login)
        ask("DELETE", f"/api/mappings/{made['id']}", 204)
        ask("DELETE", f"/api/doctors/{doctor}", 204)
        ask("DELETE", url, 204)
        ask("POST", "/api/auth/password", 204, {"current_password": password, "new_password": other_password})
        ask("POST", "/api/auth/refresh", 401, {"refresh_token": tokens["refresh_token"]})
        ask("POST", "/api/auth/logout", 204, {"refresh_token": tokens["refresh_token"]})
        last = ask("GET", "/api/auth/me", 200)

    for answer in answers:
        if answer.status_code >= 400:
            assert not leaks.says(answer.text, values.all), (
                answer.request.method,
                answer.request.url.path,
                answer.text,
            )
    assert [line for line in said(last) if leaks.says(line, values.all)] == []


def test_what_a_doctor_of_somebody_else_refuses_says_nothing_of_them(sign_up: SignUp) -> None:
    ann, bob = sign_up(), sign_up()
    values = Values()
    doctor = ann.client.post("/api/doctors", json=values.doctor()).json()["id"]
    patient = ann.client.post("/api/patients", json=values.patient()).json()["id"]
    ann.client.post("/api/mappings", json={"patient_id": patient, "doctor_id": doctor})
    for method, path, status in (
        ("GET", f"/api/patients/{patient}", 404),
        ("DELETE", f"/api/patients/{patient}", 404),
        ("GET", f"/api/patients/{patient}/doctors", 404),
        ("DELETE", f"/api/doctors/{doctor}", 403),
    ):
        answer = bob.client.request(method, path)
        assert answer.status_code == status
        assert not leaks.says(answer.text, values.all | {ann.email})


@pytest.mark.parametrize(
    "line",
    [
        "login Ann status=200",
        'ERROR {"email": "ann@example.org"}',
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
        f"refresh {'a1_-' * 16}",
        "$2b$12$abcdefgh",
    ],
)
def test_what_is_looked_for_is_found(line: str) -> None:
    assert leaks.says(line, {"Ann"})
    assert not leaks.says("Annotations, planned: 12:00:41 patients INFO GET /api/patients status=200", {"Ann"})
