"""`make demo`: fills the running API with invented people, through the API, and says what to try with them.

What is there already stays as it is: run again, it adds what is missing.
"""

import os
import sys
import time
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from local.settings import CannotStart, read
from tools.demo import care
from tools.demo.people import USERS, Person, assigned, doctors, patients
from tools.progress import Advance, progress

DOCTORS = 60
PATIENTS_OF_A_USER = 80
LOCAL_PASSWORD = "green apples, quiet rivers"
TRIES = 10

TO_TRY = """\
  The password of all three is: {password}

  {emails_of[0]}
      owns patients; one has records, a document and a visit by video, three more have visits
  {emails_of[1]}
      acts for {owner}, with the header Acting-For: {owner_id}
  {emails_of[2]}
      is {doctor} in the directory: sees those visits, and the one patient that is opened to her

`make webhooks`, in another terminal, shows each event of {owner}'s account as a webhook: book or cancel a visit,
or write a record.

Nine things to try, in the browser at {api}/docs or here:

  export API={api}
  log_in() {{
      curl -s $API/api/auth/login --json '{{"email": "'$1'", "password": "{password}"}}' |
          python3 -c 'import json, sys; print("Authorization: Bearer", json.load(sys.stdin)["access_token"])'
  }}
  AUTH="$(log_in {emails_of[0]})"

  # 1. Patients by the beginnings of their names
  curl -s "$API/api/patients?q={beginning}" -H "$AUTH"
  # 2. Doctors by what they are good at
  curl -s "$API/api/doctors?specialty=cardiology" -H "$AUTH"
  # 3. Who looks after a patient
  curl -s $API/api/patients/{patient_id}/doctors -H "$AUTH"
  # 4. A change, unless somebody else was faster; a second time it is refused
  curl -s -X PATCH $API/api/patients/{patient_id} -H "$AUTH" -H 'If-Match: "1"' --json '{{"phone": "+44 20 7946 0999"}}'
  # 5. What was done to that patient, and by whom
  curl -s "$API/api/audit?patient_id={patient_id}" -H "$AUTH"
  # 6. The same patient, as a colleague who acts for the owner
  curl -s $API/api/patients/{patient_id} -H "$(log_in {emails_of[1]})" -H "Acting-For: {owner_id}"
  # 7. The patients that are opened to a doctor
  curl -s $API/api/practice/patients -H "$(log_in {emails_of[2]})"
  # 8. That doctor's visits, as the doctor sees them
  curl -s $API/api/practice/appointments -H "$(log_in {emails_of[2]})"
  # 9. What is known of the patient, newest first
  curl -s $API/api/patients/{patient_id}/records -H "$AUTH"
"""


class Failed(Exception):
    """One sentence that tells a person why the API could not be filled."""


class User:
    """Signed in."""

    def __init__(self, api: httpx.Client, advance: Advance, *, name: str, email: str, password: str) -> None:
        self.advance = advance
        self._api = api
        self._headers: dict[str, str] = {}
        self.added = 0
        account = {"name": name, "email": email, "password": password}
        registered = self.send("POST", "/api/auth/register", account, also=(409, 422))
        if "errors" in registered:
            raise Failed(f"DEMO_PASSWORD is refused: {registered['errors'][0]['detail']}.")
        login = self.send("POST", "/api/auth/login", {"email": email, "password": password}, also=(401,))
        if "access_token" not in login:
            raise Failed(f"There is an account {email} with another password already.")
        self._headers = {"Authorization": f"Bearer {login['access_token']}"}
        self.id: int = login["user"]["id"]
        advance()

    def add(self, path: str, body: Person) -> Any:
        self.added += 1
        return self.send("POST", path, body)

    def all_of(self, path: str) -> Iterator[Any]:
        cursor: str | None = ""
        while cursor is not None:
            page = self.send("GET", f"{path}?limit=100" + (f"&cursor={cursor}" if cursor else ""))
            yield from page["items"]
            cursor = page["next_cursor"]

    def send(self, method: str, path: str, body: object = None, *, also: Container[int] = ()) -> Any:
        """Waits and tries again when the API asks for it; the key keeps a creation from being done twice."""
        headers = self._headers | ({"Idempotency-Key": str(uuid4())} if method == "POST" and self._headers else {})
        for _ in range(TRIES):
            response = self._api.request(method, path, json=body, headers=headers)
            if response.is_success or response.status_code in also:
                return response.json() if response.content else None
            if response.status_code not in (429, 503, 504):
                break
            time.sleep(int(response.headers.get("Retry-After", 1)))
        raise Failed(f"{method} {path} was answered with {response.status_code}: {response.text}")


def main() -> int:
    try:
        address, password = _target()
        _fill(address, password)
    except (CannotStart, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"The API has stopped answering: {error}. Run it again to go on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run it again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _target() -> tuple[str, str]:
    """Where the API is, and the password for its new users: one that everybody knows only where nobody else comes."""
    address = os.environ.get("API") or f"http://127.0.0.1:{read(os.environ).port}"
    try:
        is_local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
        answer = httpx.get(f"{address}/health", timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        raise Failed(f"No API answers at {address}. `make run` starts one, in a terminal of its own.") from None
    if answer.status_code == 503:
        raise Failed(f"The API at {address} answers, but its database does not; the lines of `make run` say why.")
    if answer.status_code != 200 or "X-Request-Id" not in answer.headers:
        raise Failed(f"What answers at {address} is not this API. PORT= or API= name another address.")
    password = os.environ.get("DEMO_PASSWORD") or (LOCAL_PASSWORD if is_local else "")
    if not password:
        raise Failed("Others can reach this API: choose the password of the invented users with DEMO_PASSWORD=.")
    return address.rstrip("/"), password


def _fill(address: str, password: str) -> None:
    started = time.monotonic()
    directory = doctors(DOCTORS)
    theirs = [patients(number, PATIENTS_OF_A_USER) for number in range(len(USERS))]
    mappings = sum(len(assigned(patient, directory)) for people in theirs for patient in people)
    total = len(USERS) + DOCTORS + len(USERS) * PATIENTS_OF_A_USER + mappings
    print(f"Filling the API at {address} …", flush=True)
    with (
        progress("", total) as advance,
        httpx.Client(base_url=address, timeout=30) as api,
        ThreadPoolExecutor(len(USERS)) as threads,
    ):
        users = [User(api, advance, **user, password=password) for user in USERS]
        doctor_ids = _add_doctors(users, directory)
        add = partial(_add_patients, directory=directory, doctor_ids=doctor_ids)
        first_ids = list(threads.map(add, users, theirs))
        _share(users, doctor_ids[directory[0]["email"]], first_ids[0][0])
        care.keep_hours(users[2].send, doctor_ids[directory[0]["email"]])
        care.book(users[0].send, doctor_ids[directory[0]["email"]], first_ids[0])
        care.document(users[0].send, first_ids[0][0])
    seconds = time.monotonic() - started
    added = sum(user.added for user in users)
    print(
        f"There are {len(USERS)} users with {len(USERS) * PATIENTS_OF_A_USER} patients, {DOCTORS} doctors and "
        f"{mappings} assignments; {added} of these are new. It took {seconds:.0f} s.\n"
    )
    beginning = theirs[0][0]["name"].split()[-1][:3].lower()
    print(
        TO_TRY.format(
            api=address,
            emails_of=[user["email"] for user in USERS],
            owner=USERS[0]["name"],
            doctor=directory[0]["name"],
            owner_id=users[0].id,
            password=password,
            beginning=beginning,
            patient_id=first_ids[0][0],
        ),
        end="",
    )


def _add_doctors(users: list[User], directory: list[Person]) -> dict[str, int]:
    """Their ids by their e-mail addresses."""
    ids = {doctor["email"]: doctor["id"] for doctor in users[0].all_of("/api/doctors")}
    for number, doctor in enumerate(directory):
        if doctor["email"] not in ids:
            ids[doctor["email"]] = users[number % len(users)].add("/api/doctors", doctor)["id"]
        users[0].advance()
    return ids


def _add_patients(
    user: User,
    patients: list[Person],
    directory: list[Person],
    doctor_ids: dict[str, int],
) -> list[int]:
    """With whom they are assigned to. Returns their ids."""
    ids = {(patient["name"], patient["date_of_birth"]): patient["id"] for patient in user.all_of("/api/patients")}
    pairs = {(mapping["patient_id"], mapping["doctor_id"]) for mapping in user.all_of("/api/mappings")}
    for patient in patients:
        key = patient["name"], patient["date_of_birth"]
        if key not in ids:
            ids[key] = user.add("/api/patients", patient)["id"]
        user.advance()
        for doctor in assigned(patient, directory):
            pair = ids[key], doctor_ids[doctor["email"]]
            if pair not in pairs:
                user.add("/api/mappings", {"patient_id": pair[0], "doctor_id": pair[1]})
            user.advance()
    return [ids[patient["name"], patient["date_of_birth"]] for patient in patients]


def _share(users: list[User], doctor_id: int, patient_id: int) -> None:
    """The second user acts for the first; the third is a doctor to whom the first opens a patient."""
    owner, staff, doctor = users
    if all(delegate["user_id"] != staff.id for delegate in owner.all_of("/api/delegates")):
        _invite(owner, staff, {"kind": "delegate", "access": "write"})
    if "id" not in doctor.send("GET", "/api/practice", also=(404,)):
        _invite(owner, doctor, {"kind": "doctor", "doctor_id": doctor_id})
    pair = {"patient_id": patient_id, "doctor_id": doctor_id}
    (mapping,) = [m for m in owner.all_of("/api/mappings") if m | pair == m] or [
        owner.send("POST", "/api/mappings", pair)
    ]
    owner.send("PATCH", f"/api/mappings/{mapping['id']}", {"access": "read"})


def _invite(owner: User, guest: User, invitation: Person) -> None:
    code = owner.send("POST", "/api/invitations", invitation)["code"]
    guest.send("POST", "/api/invitations/accept", {"code": code})


if __name__ == "__main__":
    sys.exit(main())
