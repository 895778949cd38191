"""Many users at once on the real local API, with each answer checked.

    python -m tests.benchmarks.load --users 50 --seconds 600

Starts a local run with a PostgreSQL of its own, through PgBouncer in transaction mode where that is installed, as RDS
Proxy would pool; `--url` names a run that is there already. Exits with 1 when an answer was wrong.

A user is one device, which does one thing after the other. Nobody else may change or see what it has, so that each of
its answers is known beforehand: its own patients and mappings exactly, the directory of doctors by who made them, and
404 for everybody else's.
"""

import argparse
import asyncio
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from local.database.postgres import EmbeddedPostgres, free_port
from tests.e2e.local_run import LocalRun

ROLES = ("healthcare_api", "healthcare_auth")
POOLED = 4  # connections to PostgreSQL for each role
NOT_NOW = (429, 503, 504)
MOST_PATIENTS = 25


class Wrong(Exception):
    """An answer that is not what it has to be."""


class NotNow(Exception):
    """Refused for the moment: what was asked for has been done or not."""


class Report:
    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.leaks = 0

    def note(self, route: str, status: int, seconds: float) -> None:
        self.seconds[route].append(seconds)
        self.statuses[route, status] += 1

    def print(self, users: int, seconds: float) -> None:
        print(f"{'route':<38} {'requests':>8} {'p50':>7} {'p95':>7} {'p99':>7} {'most':>7}  statuses")
        for route in [*sorted(self.seconds), "all"]:
            times = sorted(self.seconds[route] if route != "all" else chain(*self.seconds.values()))
            at = [times[min(len(times) - 1, int(len(times) * part))] * 1000 for part in (0.5, 0.95, 0.99, 1)]
            of_route = Counter[int]()
            for (name, status), number in self.statuses.items():
                of_route[status] += number if route in (name, "all") else 0
            statuses = " ".join(f"{status}:{number}" for status, number in sorted(of_route.items()) if number)
            print(f"{route:<38} {len(times):>8} " + " ".join(f"{ms:>7.1f}" for ms in at) + f"  {statuses}")
        total = sum(self.statuses.values())
        refused = sum(number for (_, status), number in self.statuses.items() if status in NOT_NOW)
        failed = sum(number for (_, status), number in self.statuses.items() if status in (500, 502))
        print(f"\n{users} users for {seconds:.0f} s: {total} requests, {total / seconds:.0f} a second; times are in ms")
        print(f"errors: {refused} refused for the moment, {failed} failed")
        print(f"wrong answers: {len(self.wrong)}, of which leaks: {self.leaks}")
        for text, number in Counter(self.wrong).most_common(20):
            print(f"  {number} x {text}")


class World:
    """What all users have made, for each to try in vain, or to use as far as it is everybody's."""

    def __init__(self) -> None:
        self.patients: dict[int, int] = {}  # id: the number of the user
        self.mappings: dict[int, int] = {}
        self.doctors: dict[int, int] = {}


class User:
    def __init__(self, number: int, url: str, world: World, report: Report) -> None:
        self.number = number
        self.random = random.Random(number)
        self.world = world
        self.report = report
        self.client = httpx.AsyncClient(base_url=url, timeout=60)
        self.mark = f"Owner{number}x"  # in all that nobody else may see
        self.directory_mark = f"Listed{number}x"
        self.password = f"password of {self.mark}"
        self.email = f"{self.mark.lower()}-{secrets.token_hex(4)}@example.org"
        self.me: dict[str, Any] = {}
        self.refresh_token = ""
        self.patients: dict[int, dict[str, Any]] = {}
        self.etags: dict[int, str] = {}
        self.doctors: dict[int, dict[str, Any]] = {}
        self.mappings: dict[int, tuple[int, int]] = {}
        self.ever: dict[str, set[int]] = {"patient": set(), "mapping": set(), "doctor": set()}

    async def ask(
        self, method: str, route: str, expected: int | tuple[int, ...], body: object = None, **options: Any
    ) -> httpx.Response:
        """`route` with its variables, which `path` fills in."""
        path = options.pop("path", route)
        started = time.perf_counter()
        try:
            answer = await self.client.request(method, path, json=body, **options)
        except httpx.HTTPError as error:
            self.report.note(f"{method} {route}", 0, time.perf_counter() - started)
            raise Wrong(f"{method} {path}: {error!r}") from None
        self.report.note(f"{method} {route}", answer.status_code, time.perf_counter() - started)
        others = {mark for mark in re.findall(r"[Oo]wner\d+x", answer.text) if mark.lower() != self.mark.lower()}
        if others:
            self.report.leaks += 1
            raise Wrong(f"{method} {path} shows {self.mark} what belongs to {others}")
        if answer.status_code in NOT_NOW and answer.headers["Content-Type"] == "application/problem+json":
            raise NotNow
        if answer.status_code not in (expected if isinstance(expected, tuple) else (expected,)):
            raise Wrong(f"{method} {path}: {answer.status_code} and not {expected}: {answer.text[:300]}")
        return answer

    def check(self, given: object, right: object, what: str) -> None:
        if given != right:
            raise Wrong(f"{what} of {self.mark}: {str(given)[:300]} and not {str(right)[:300]}")

    # Accounts ---------------------------------------------------------------------------------------------------------

    async def sign_up(self) -> None:
        account = {"name": self.mark, "email": self.email, "password": self.password}
        self.me = (await self.ask("POST", "/api/auth/register", 201, account)).json()
        while True:
            with suppress(NotNow):
                return await self.log_in()
            await asyncio.sleep(1)

    async def log_in(self) -> None:
        credentials = {"email": self.email, "password": self.password}
        self._take((await self.ask("POST", "/api/auth/login", 200, credentials)).json())

    async def refresh(self) -> None:
        body = {"refresh_token": self.refresh_token}
        self._take((await self.ask("POST", "/api/auth/refresh", 200, body)).json())

    async def log_out(self) -> None:
        spent = self.refresh_token
        await self.ask("POST", "/api/auth/logout", 204, {"refresh_token": spent})
        await self.ask("POST", "/api/auth/refresh", 401, {"refresh_token": spent})
        await self.log_in()

    async def change_password(self) -> None:
        new = f"{self.mark} {secrets.token_hex(4)}"
        body = {"current_password": self.password, "new_password": new}
        await self.ask("POST", "/api/auth/password", 204, body)
        self.password = new
        self.me["updated_at"] = (await self.ask("GET", "/api/auth/me", 200)).json()["updated_at"]
        await self.ask("POST", "/api/auth/refresh", 401, {"refresh_token": self.refresh_token})
        await self.log_in()

    async def register_again(self) -> None:
        account = {"name": self.mark, "email": self.email.upper(), "password": self.password}
        await self.ask("POST", "/api/auth/register", 409, account)

    async def read_me(self) -> None:
        self.check((await self.ask("GET", "/api/auth/me", 200)).json(), self.me, "account")

    async def rename_me(self) -> None:
        body = {"name": f"{self.mark} {self.random.randrange(1000)}"}
        self.me = (await self.ask("PATCH", "/api/auth/me", 200, body)).json()
        self.check(self.me["name"], body["name"], "new name")

    def _take(self, tokens: dict[str, Any]) -> None:
        self.check(tokens["user"], self.me, "account at login")
        self.refresh_token = tokens["refresh_token"]
        self.client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    # Patients ---------------------------------------------------------------------------------------------------------

    async def create_patient(self) -> None:
        if len(self.patients) >= MOST_PATIENTS:
            return await self.delete_patient()
        body = self._patient()
        headers = {"Idempotency-Key": secrets.token_hex(8)} if self.random.random() < 0.5 else {}
        answer = await self.ask("POST", "/api/patients", 201, body, headers=headers)
        self._has_patient(answer)
        self.check({name: answer.json()[name] for name in body}, body, "new patient")
        if headers:
            again = await self.ask("POST", "/api/patients", 201, body, headers=headers)
            self.check(again.json(), answer.json(), "repeated creation")
        return None

    async def list_patients(self) -> None:
        found = await self._walk("/api/patients", {"limit": "10"})
        self.check(found, [self.patients[id] for id in sorted(self.patients)], "patients")

    async def search_patients(self) -> None:
        word = self.random.choice(["alpha", "beta", "gamma"])
        found = await self._walk("/api/patients", {"q": f"{word[:3]} {self.mark}", "limit": "100"})
        right = [patient for _, patient in sorted(self.patients.items()) if word in patient["name"]]
        self.check(found, right, f"patients with {word}")

    async def read_patient(self) -> None:
        if id := self._own_patient():
            route, path = "/api/patients/{id}", f"/api/patients/{id}"
            answer = await self.ask("GET", route, 200, path=path)
            self.check(answer.json(), self.patients[id], "patient")
            await self.ask("GET", route, 304, path=path, headers={"If-None-Match": self.etags[id]})

    async def replace_patient(self) -> None:
        if id := self._own_patient():
            await self._write_patient("PUT", id, self._patient())

    async def change_patient(self) -> None:
        if id := self._own_patient():
            await self._write_patient("PATCH", id, {"address": f"{self.mark} street {self.random.randrange(1000)}"})

    async def _write_patient(self, method: str, id: int, body: dict[str, Any]) -> None:
        route, path = "/api/patients/{id}", f"/api/patients/{id}"
        await self.ask(method, route, 412, body, path=path, headers={"If-Match": '"999999"'})
        answer = await self.ask(method, route, 200, body, path=path, headers={"If-Match": self.etags[id]})
        right = {**self.patients[id], **({"address": None} if method == "PUT" else {}), **body}
        right["updated_at"] = answer.json()["updated_at"]
        self.check(answer.json(), right, "changed patient")
        self._has_patient(answer)

    async def delete_patient(self) -> None:
        if id := self._own_patient():
            await self.ask("DELETE", "/api/patients/{id}", 204, path=f"/api/patients/{id}")
            del self.patients[id]
            self.mappings = {of: pair for of, pair in self.mappings.items() if pair[0] != id}
            await self.ask("GET", "/api/patients/{id}", 404, path=f"/api/patients/{id}")

    async def try_a_foreign_patient(self) -> None:
        foreign = [id for id, number in list(self.world.patients.items())[-500:] if number != self.number]
        if foreign:
            path = f"/api/patients/{self.random.choice(foreign)}"
            await self.ask("GET", "/api/patients/{id}", 404, path=path)
            await self.ask("PATCH", "/api/patients/{id}", 404, {"name": self.mark}, path=path)
            await self.ask("DELETE", "/api/patients/{id}", 404, path=path)
            await self.ask("GET", "/api/patients/{id}/doctors", 404, path=f"{path}/doctors")

    def _patient(self) -> dict[str, Any]:
        word = self.random.choice(["alpha", "beta", "gamma"])
        gender = self.random.choice(["male", "female", "other", "unknown"])
        return {
            "name": f"{self.mark} {word}",
            "gender": gender,
            "date_of_birth": "1990-02-03",
            "phone": "+44 20 7946 0000",
        }

    def _has_patient(self, answer: httpx.Response) -> None:
        patient = answer.json()
        self.patients[patient["id"]] = patient
        self.etags[patient["id"]] = answer.headers["ETag"]
        self.world.patients[patient["id"]] = self.number
        self.ever["patient"].add(patient["id"])

    def _own_patient(self) -> int | None:
        return self.random.choice(sorted(self.patients)) if self.patients else None

    # Doctors ----------------------------------------------------------------------------------------------------------

    async def create_doctor(self) -> None:
        if len(self.doctors) >= 5:
            return await self.delete_doctor()
        body = {"name": f"Doctor {self.directory_mark}", "specialty": f"Specialty {self.directory_mark}"}
        doctor = (await self.ask("POST", "/api/doctors", 201, body)).json()
        self.check(doctor["created_by"], self.me["id"], "creator of a doctor")
        self.doctors[doctor["id"]] = doctor
        self.world.doctors[doctor["id"]] = self.number
        self.ever["doctor"].add(doctor["id"])
        return None

    async def list_own_doctors(self) -> None:
        query = {"specialty": f"SPECIALTY {self.directory_mark}", "q": f"doc {self.directory_mark}"}
        found = await self._walk("/api/doctors", query)
        self.check(found, [doctor for _, doctor in sorted(self.doctors.items())], "doctors")

    async def list_doctors(self) -> None:
        for doctor in (await self.ask("GET", "/api/doctors", 200, params={"limit": 100})).json()["items"]:
            self._is_listed_right(doctor)

    async def read_doctor(self) -> None:
        if self.world.doctors:
            id = self.random.choice(list(self.world.doctors))
            own = id in self.doctors
            answer = await self.ask("GET", "/api/doctors/{id}", 200 if own else (200, 404), path=f"/api/doctors/{id}")
            if own:
                self.check(answer.json(), self.doctors[id], "doctor")
            elif answer.status_code == 200:
                self._is_listed_right(answer.json())

    async def change_doctor(self) -> None:
        if self.doctors:
            id = self.random.choice(sorted(self.doctors))
            method = self.random.choice(["PUT", "PATCH"])
            body = {"phone": f"+44 20 {self.random.randrange(10**6):06}"}
            if method == "PUT":
                body |= {name: self.doctors[id][name] for name in ("name", "specialty")}
            answer = await self.ask(method, "/api/doctors/{id}", 200, body, path=f"/api/doctors/{id}")
            right = self.doctors[id] | body | {"updated_at": answer.json()["updated_at"]}
            self.check(answer.json(), right, "changed doctor")
            self.doctors[id] = answer.json()

    async def change_a_foreign_doctor(self) -> None:
        foreign = [id for id, number in self.world.doctors.items() if number != self.number]
        if foreign:
            path = f"/api/doctors/{self.random.choice(foreign)}"
            await self.ask("PATCH", "/api/doctors/{id}", (403, 404), {"name": "Mine"}, path=path)
            await self.ask("DELETE", "/api/doctors/{id}", (403, 404), path=path)

    async def delete_doctor(self) -> None:
        if self.doctors:
            id = self.random.choice(sorted(self.doctors))
            answer = await self.ask("DELETE", "/api/doctors/{id}", (204, 409), path=f"/api/doctors/{id}")
            if answer.status_code == 204:
                del self.doctors[id]
                self.world.doctors.pop(id)
                self.mappings = {of: pair for of, pair in self.mappings.items() if pair[1] != id}

    def _is_listed_right(self, doctor: dict[str, Any]) -> None:
        number = self.world.doctors.get(doctor["id"])  # None when its creator has not heard of it yet, or it is gone
        if number is not None:
            self.check(doctor["name"], f"Doctor Listed{number}x", "name of a doctor")
        self.check(doctor["specialty"].split()[-1], doctor["name"].split()[-1], "specialty of a doctor")

    # Mappings ---------------------------------------------------------------------------------------------------------

    async def create_mapping(self) -> None:
        patient = self._own_patient()
        if patient is None or not self.world.doctors:
            return
        doctor = self.random.choice(list(self.world.doctors))
        body = {"patient_id": patient, "doctor_id": doctor}
        if (patient, doctor) in self.mappings.values():
            await self.ask("POST", "/api/mappings", 409, body)
            return
        answer = await self.ask("POST", "/api/mappings", 201 if doctor in self.doctors else (201, 404), body)
        if answer.status_code == 201:
            mapping = answer.json()
            self.mappings[mapping["id"]] = patient, doctor
            self.world.mappings[mapping["id"]] = self.number
            self.ever["mapping"].add(mapping["id"])

    async def list_mappings(self) -> None:
        found = await self._walk("/api/mappings", {"limit": "50"})
        given = [(item["id"], item["patient_id"], item["patient_name"], item["doctor_id"]) for item in found]
        right = [(of, id, self.patients[id]["name"], doctor) for of, (id, doctor) in sorted(self.mappings.items())]
        self.check(given, right, "mappings")

    async def list_doctors_of_patient(self) -> None:
        if id := self._own_patient():
            right = sorted(doctor for patient, doctor in self.mappings.values() if patient == id)
            for route in ("/api/mappings/{id}", "/api/patients/{id}/doctors"):
                found = await self._walk(route, {"limit": "50"}, route.replace("{id}", str(id)))
                self.check([doctor["id"] for doctor in found], right, "doctors of a patient")

    async def delete_mapping(self) -> None:
        if self.mappings:
            id = self.random.choice(sorted(self.mappings))
            await self.ask("DELETE", "/api/mappings/{id}", 204, path=f"/api/mappings/{id}")
            del self.mappings[id]

    async def delete_a_foreign_mapping(self) -> None:
        foreign = [id for id, number in list(self.world.mappings.items())[-500:] if number != self.number]
        if foreign:
            await self.ask("DELETE", "/api/mappings/{id}", 404, path=f"/api/mappings/{self.random.choice(foreign)}")

    # The rest ---------------------------------------------------------------------------------------------------------

    async def list_audit(self) -> None:
        events = (await self.ask("GET", "/api/audit", 200, params={"limit": 50})).json()["items"]
        own = {**self.ever, "user": {self.me["id"]}}
        for event in events:
            # What was tried and never answered may be there as well, but then nobody else has it.
            self.check(event["actor_id"], self.me["id"], "actor of an event")
            if (
                self.world.patients.get(event["resource_id"], self.number) != self.number
                and event["resource"] == "patient"
            ):
                self.report.leaks += 1
            self.check(event["resource_id"] in own[event["resource"]], True, f"event {event['id']}")

    async def look_around(self) -> None:
        self.check((await self.ask("GET", "/health", 200)).json(), {"status": "ok"}, "health")
        await self.ask("GET", "/docs", 200)
        await self.ask("GET", "/docs/{file}", 200, path="/docs/page.css")
        await self.ask("GET", "/openapi.json", 200)
        await self.ask("GET", "/problems/{slug}", 200, path="/problems/stale")

    async def come_without_a_token(self) -> None:
        await self.ask("GET", "/api/patients", 401, headers={"Authorization": "Bearer none"})

    async def _walk(self, route: str, query: dict[str, str], path: str | None = None) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.ask("GET", route, 200, path=path or route, params=query | cursor)
            items += answer.json()["items"]
            if answer.json()["next_cursor"] is None:
                return items
            cursor = {"cursor": answer.json()["next_cursor"]}

    async def look_again(self) -> None:
        """After a write whose outcome is not known."""
        self.me = (await self.ask("GET", "/api/auth/me", 200)).json()
        await self.log_in()
        patients = await self._walk("/api/patients", {"limit": "100"})
        self.patients = {patient["id"]: patient for patient in patients}
        for patient in patients:
            self._has_patient(await self.ask("GET", "/api/patients/{id}", 200, path=f"/api/patients/{patient['id']}"))
        doctors = await self._walk("/api/doctors", {"specialty": f"Specialty {self.directory_mark}", "limit": "100"})
        self.doctors = {doctor["id"]: doctor for doctor in doctors}
        mappings = await self._walk("/api/mappings", {"limit": "100"})
        self.mappings = {item["id"]: (item["patient_id"], item["doctor_id"]) for item in mappings}
        for kind, own in (("patient", self.patients), ("doctor", self.doctors), ("mapping", self.mappings)):
            self.ever[kind] |= own.keys()

    def actions(self) -> list[Callable[[], Awaitable[None]]]:
        often = [self.list_patients, self.read_patient, self.create_patient, self.list_mappings, self.create_mapping]
        now_and_then = [
            *(self.search_patients, self.replace_patient, self.change_patient, self.try_a_foreign_patient),
            *(self.create_doctor, self.list_own_doctors, self.list_doctors, self.read_doctor, self.change_doctor),
            *(self.change_a_foreign_doctor, self.list_doctors_of_patient, self.delete_mapping, self.list_audit),
            *(self.delete_a_foreign_mapping, self.delete_patient, self.read_me),
        ]
        seldom = [
            *(self.rename_me, self.refresh, self.log_out, self.change_password, self.register_again),
            *(self.look_around, self.come_without_a_token, self.delete_doctor),
        ]
        return often * 6 + now_and_then * 2 + seldom

    async def work(self, until: float) -> None:
        actions = self.actions()
        unsure = False
        while time.monotonic() < until:
            try:
                await (self.look_again() if unsure else self.random.choice(actions)())
                unsure = False
                continue
            except NotNow:
                pass
            except Wrong as wrong:
                self.report.wrong.append(str(wrong))
            unsure = True
            await asyncio.sleep(1)


async def drive(url: str, number: int, seconds: float) -> Report:
    world, report = World(), Report()
    users = [User(index, url, world, report) for index in range(number)]
    for start in range(0, number, 5):  # so that they do not look like an attack
        await asyncio.gather(*(user.sign_up() for user in users[start : start + 5]))
    until = time.monotonic() + seconds
    await asyncio.gather(*(user.work(until) for user in users))
    for user in users:
        await user.client.aclose()
    return report


@contextmanager
def local_run(folder: Path) -> Iterator[str]:
    """Its address."""
    passwords = {role: secrets.token_hex(16) for role in (*ROLES, "load_owner")}
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(folder / "postgres", {"fsync": "off", "max_connections": "150"}))
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            create = sql.SQL("CREATE ROLE load_owner LOGIN CREATEROLE PASSWORD {}")
            connection.execute(create.format(passwords["load_owner"]))
            connection.execute("CREATE DATABASE load OWNER load_owner")
        state = folder / "state"
        state.mkdir()
        for role in ROLES:
            (state / f"password-{role}").write_text(passwords[role])
        environ = {"DATABASE_URL": f"postgresql://load_owner:{passwords['load_owner']}@127.0.0.1:{server.port}/load"}
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program:
            port = stack.enter_context(_pgbouncer(program, folder, server.port, passwords))
            environ["DATABASE_POOLER"] = f"127.0.0.1:{port}"
        print(f"PostgreSQL {'through PgBouncer' if program else 'directly: PgBouncer is not installed'}", flush=True)
        run = LocalRun(state, **environ)
        stack.callback(run.clean)
        stack.enter_context(run)
        if run.process.poll() is not None:
            sys.exit(run.output)
        yield run.base_url


@contextmanager
def _pgbouncer(program: str, folder: Path, server_port: int, passwords: dict[str, str]) -> Iterator[int]:
    port = free_port()
    configuration, users = folder / "pgbouncer.ini", folder / "userlist.txt"
    users.write_text("".join(f'"{role}" "{passwords[role]}"\n' for role in ROLES))
    configuration.write_text(
        f"""
        [databases]
        load = host=127.0.0.1 port={server_port}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = scram-sha-256
        auth_file = {users}
        pool_mode = transaction
        default_pool_size = {POOLED}
        max_client_conn = 500
        """
    )
    as_root = os.geteuid() == 0
    if as_root:
        for path in (configuration, users):
            shutil.chown(path, "nobody")
    with subprocess.Popen([program, "-q", *(["-u", "nobody"] if as_root else []), str(configuration)]) as process:
        try:
            yield port
        finally:
            process.kill()  # what is gentler waits for clients, or is ignored below a shell in the background


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--url", help="of a run that is there already")
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url
        if not url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o711)
            url = stack.enter_context(local_run(folder))
        report = asyncio.run(drive(url, given.users, given.seconds))
    report.print(given.users, given.seconds)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
