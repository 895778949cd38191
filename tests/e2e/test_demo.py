"""`make demo`: invented people in a run of their own, and the commands that it prints."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from local.database.postgres import free_port
from tests.e2e.local_run import PROJECT, LocalRun, running
from tools.demo.__main__ import DOCTORS, LOCAL_PASSWORD, PATIENTS_OF_A_USER
from tools.demo.care import RECORDS, VISITS
from tools.demo.people import USERS
from tools.demo.receiver import Receiver


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    with running(tmp_path_factory.mktemp("demo")) as run:
        yield run


def demo(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        cwd=PROJECT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def filled(own_run: LocalRun) -> str:
    """What the first time prints."""
    first = demo(PORT=str(own_run.port))
    assert (first.returncode, first.stderr) == (0, "")
    return first.stdout


def all_of(run: LocalRun, email: str, path: str) -> list[Any]:
    with httpx.Client(base_url=run.base_url, timeout=30) as client:
        login = client.post("/api/auth/login", json={"email": email, "password": LOCAL_PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {login['access_token']}"
        items: list[Any] = []
        page = {"next_cursor": ""}
        while (cursor := page["next_cursor"]) is not None:
            page = client.get(path, params={"limit": "100"} | ({"cursor": cursor} if cursor else {})).json()
            items += page["items"]
        return items


def counts(run: LocalRun) -> list[int]:
    of_users = [len(all_of(run, user["email"], path)) for user in USERS for path in ("/api/patients", "/api/mappings")]
    return [len(all_of(run, USERS[0]["email"], "/api/doctors")), *of_users]


def care(run: LocalRun) -> list[int]:
    """Visits, records and documents of the first user."""
    patient_id = all_of(run, USERS[0]["email"], "/api/appointments")[0]["patient_id"]
    of_patient = (f"/api/patients/{patient_id}/{what}" for what in ("records", "documents"))
    return [len(all_of(run, USERS[0]["email"], path)) for path in ("/api/appointments", *of_patient)]


def test_it_fills_the_api_and_a_second_time_changes_nothing(own_run: LocalRun, filled: str) -> None:
    before = counts(own_run)
    assert before[0] == DOCTORS
    assert before[1::2] == [PATIENTS_OF_A_USER] * len(USERS)
    assert all(count > PATIENTS_OF_A_USER for count in before[2::2])
    assert care(own_run) == [len(VISITS), len(RECORDS), 1]
    again = demo(PORT=str(own_run.port))
    assert (again.returncode, again.stderr) == (0, "")
    assert care(own_run) == [len(VISITS), len(RECORDS), 1]
    assert "; 0 of these are new." in again.stdout
    assert counts(own_run) == before


def test_it_goes_on_where_it_was_stopped(own_run: LocalRun, filled: str) -> None:
    email = USERS[1]["email"]
    before = counts(own_run)
    last = all_of(own_run, email, "/api/patients")[-1]
    login = httpx.post(
        f"{own_run.base_url}/api/auth/login", json={"email": email, "password": LOCAL_PASSWORD}, timeout=30
    )
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    httpx.delete(f"{own_run.base_url}/api/patients/{last['id']}", headers=headers, timeout=30)
    again = demo(API=own_run.base_url)
    assert re.search(r"; [1-4] of these are new\.", again.stdout)
    assert counts(own_run) == before


def test_the_commands_it_prints_do_what_they_say(own_run: LocalRun, filled: str) -> None:
    assert f"{own_run.base_url}/docs" in filled
    setup, *commands = re.split(r"^  # \d\. ", filled.partition("or here:")[2], flags=re.MULTILINE)
    script = [setup] + [f"# {command}\necho; echo ---" for command in commands]
    shell = subprocess.run(["sh", "-eu"], input="\n".join(script), capture_output=True, text=True, timeout=60)
    assert shell.returncode == 0, shell.stderr
    answers = (json.loads(text) for text in shell.stdout.split("---")[:9])
    found, specialists, doctors, changed, events, by_colleague, opened, visits, records = answers
    assert len(found["items"]) >= 1
    assert {doctor["specialty"] for doctor in specialists["items"]} == {"Cardiology"}
    assert len(doctors["items"]) >= 1
    assert changed["phone"] == "+44 20 7946 0999"
    assert events["items"][0]["action"] == "update"
    assert by_colleague == changed
    assert [(patient["id"], patient["access"]) for patient in opened["items"]] == [(changed["id"], "read")]
    assert [visit["modality"] for visit in visits["items"]].count("video") == 1
    assert len(visits["items"]) == len({visit["patient_id"] for visit in visits["items"]}) == len(VISITS)
    assert {record["kind"] for record in records["items"]} == {record["kind"] for record in RECORDS}


def test_the_people_come_from_everywhere_and_their_data_are_whole(own_run: LocalRun, filled: str) -> None:
    doctors = all_of(own_run, USERS[0]["email"], "/api/doctors")
    patients = [patient for user in USERS for patient in all_of(own_run, user["email"], "/api/patients")]
    assert all(person["email"].endswith("@example.org") for person in [*doctors, *patients] if person["email"])
    assert len({doctor["specialty"] for doctor in doctors}) > 15
    assert sum(not patient["name"].isascii() for patient in patients) > 30
    assert {patient["gender"] for patient in patients} == {"female", "male", None}
    assert len({(patient["name"], patient["date_of_birth"]) for patient in patients}) > 0.9 * len(patients)


def test_it_shows_how_far_it_is_on_a_terminal_only(own_run: LocalRun, filled: str) -> None:
    assert "\r" not in filled
    assert "\x1b" not in filled
    terminal, its_end = pty.openpty()
    environ = os.environ | {"PORT": str(own_run.port), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-m", "tools.demo"], cwd=PROJECT, env=environ, stdout=its_end) as process:
        os.close(its_end)
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(r"\r  +█{30} ([\d,]+) of \1\r", shown.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"PORT": "nine"}, "PORT must be a number from 1 to 65535, not 'nine'."),
        ({"API": "http://"}, "No API answers at http://. `make run` starts one, in a terminal of its own."),
    ],
)
def test_what_is_no_address_is_one_sentence(environ: dict[str, str], sentence: str) -> None:
    answer = demo(**environ)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", f"{sentence}\n")


def test_without_a_run_it_says_how_to_start_one() -> None:
    port = free_port()
    answer = demo(PORT=str(port))
    sentence = f"No API answers at http://127.0.0.1:{port}. `make run` starts one, in a terminal of its own.\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", sentence)


def test_accounts_with_a_password_that_everybody_knows_stay_on_this_machine(own_run: LocalRun, filled: str) -> None:
    """0.0.0.0 is this machine too, but might be any."""
    answer = demo(API=f"http://0.0.0.0:{own_run.port}")
    assert answer.returncode == 1
    assert (
        answer.stderr == "Others can reach this API: choose the password of the invented users with DEMO_PASSWORD=.\n"
    )
    answer = demo(API=own_run.base_url, DEMO_PASSWORD="another one of theirs")
    assert answer.returncode == 1
    assert answer.stderr == f"There is an account {USERS[0]['email']} with another password already.\n"


def test_a_password_that_the_api_refuses_is_one_sentence(own_run: LocalRun) -> None:
    answer = demo(API=own_run.base_url, DEMO_PASSWORD="password1")
    assert (answer.returncode, answer.stderr) == (
        1,
        "DEMO_PASSWORD is refused: Password should not be one of those that many people have.\n",
    )


def test_another_server_is_not_filled(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        try:
            answer = demo(PORT=str(port))
            while "No API answers" in answer.stderr and other.poll() is None:
                answer = demo(PORT=str(port))
        finally:
            other.kill()
    assert (
        answer.stderr
        == f"What answers at http://127.0.0.1:{port} is not this API. PORT= or API= name another address.\n"
    )


def test_webhooks_show_what_happens_as_it_happens(own_run: LocalRun, filled: str) -> None:
    command = [sys.executable, "-m", "tools.demo.receiver"]
    environ = os.environ | {"PORT": str(own_run.port)}
    with subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout
            assert "Listening" in receiver.stdout.readline()
            visit = all_of(own_run, USERS[0]["email"], "/api/appointments")[-1]
            credentials = {"email": USERS[0]["email"], "password": LOCAL_PASSWORD}
            login = httpx.post(f"{own_run.base_url}/api/auth/login", json=credentials, timeout=30).json()
            httpx.post(
                f"{own_run.base_url}/api/appointments/{visit['id']}/cancel",
                headers={"Authorization": f"Bearer {login['access_token']}"},
                json={},
                timeout=30,
            ).raise_for_status()
            assert "appointment.cancelled" in receiver.stdout.readline()
            receiver.send_signal(signal.SIGINT)
            assert receiver.wait(30) == 0
        finally:
            receiver.kill()
    assert all_of(own_run, USERS[0]["email"], "/api/webhooks") == []


def test_a_delivery_with_a_wrong_signature_or_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, now = Webhook("whsec_c2VjcmV0"), datetime.now(UTC)
    monkeypatch.setattr(Receiver, "secret", "whsec_c2VjcmV0")
    body = json.dumps({"type": "record.created", "timestamp": now.isoformat(), "data": {}})

    def headers(at: datetime) -> dict[str, str]:
        signature = signer.sign("msg_1", at, body)
        return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = [
            httpx.post(f"http://127.0.0.1:{server.server_port}/", content=content, headers=sent).status_code
            for content, sent in (
                (body, headers(now)),
                (f"{body} ", headers(now)),
                (body, headers(now - timedelta(minutes=10))),
                (body, {}),
            )
        ]
        server.shutdown()
    assert answers == [204, 401, 401, 401]
