"""Several warm environments at once, each with a connection of its own, against one database."""

import itertools
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest

from healthcare.database.migrate import ROLES
from local.database.postgres import free_port
from tests.conftest import Database
from tests.gateway import Answer, Client, Environment, Gateway
from tests.integration.test_sharing import invite, link, opened

DOZEN = 12


def _at_once(calls: Iterable[Callable[[], Answer]]) -> list[Answer]:
    """Their answers, in the order of the calls."""
    waiting = list(calls)
    start = threading.Barrier(len(waiting))

    def call(this: Callable[[], Answer]) -> Answer:
        start.wait()
        return this()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(call, waiting))


@pytest.fixture(scope="module")
def many_environments() -> Callable[[str, int], list[Environment]]:
    made: dict[str, list[Environment]] = {}

    def environments(function: str, number: int) -> list[Environment]:
        of_this = made.setdefault(function, [])
        while len(of_this) < number:
            of_this.append(Environment(Path("functions", function)))
        return of_this[:number]

    return environments


@pytest.fixture
def several(
    gateway: Gateway, many_environments: Callable[[str, int], list[Environment]]
) -> Iterator[Callable[[Client, str, int], list[Client]]]:
    """One client's app, on so many devices: each meets an environment of its own of that function."""
    used: list[Environment] = []

    def several(client: Client, function: str, number: int) -> list[Client]:
        environments = many_environments(function, number)
        used.extend(environments)
        return [
            Client(Gateway({**gateway.environments, function: environment}), client.token, client.user)
            for environment in environments
        ]

    yield several
    for environment in used:
        environment.disconnect()


Several = Callable[[Client, str, int], list[Client]]


def test_a_dozen_identical_registrations_make_one_account(
    anonymous: Client, several: Several, database: Database
) -> None:
    spellings = itertools.product(*((letter.lower(), letter.upper()) for letter in "ann"))
    emails = itertools.cycle(f"{''.join(spelling)}@example.org" for spelling in spellings)
    account = {"name": "Ann", "password": "correct horse"}
    answers = _at_once(
        partial(app.post, "/api/auth/register", account | {"email": email})
        for app, email in zip(several(anonymous, "auth", DOZEN), emails, strict=False)
    )
    assert Counter(answer.status for answer in answers) == {201: 1, 409: DOZEN - 1}
    assert database.value("SELECT count(*) FROM users") == 1


def test_a_dozen_identical_mappings_make_one(ann: Client, several: Several, database: Database) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    body = {"patient_id": patient["id"], "doctor_id": doctor["id"]}
    answers = _at_once(partial(app.post, "/api/mappings", body) for app in several(ann, "mappings", DOZEN))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: DOZEN - 1}
    assert database.value("SELECT count(*) FROM mappings") == 1


def test_a_dozen_creations_with_one_key_make_one_patient_and_get_the_same_answer(
    ann: Client, several: Several, database: Database
) -> None:
    headers = {"Idempotency-Key": "one"}
    apps = several(ann, "patients", DOZEN)
    answers = _at_once(partial(app.post, "/api/patients", {"name": "Zoë"}, headers=headers) for app in apps)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == len({answer.headers["Location"] for answer in answers}) == 1
    assert database.value("SELECT count(*) FROM patients") == 1


def test_of_a_dozen_updates_of_one_version_one_wins(ann: Client, several: Several) -> None:
    url = f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}"
    answers = _at_once(
        partial(app.patch, url, {"name": f"Zoë {number}"}, headers={"If-Match": '"1"'})
        for number, app in enumerate(several(ann, "patients", DOZEN))
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 412: DOZEN - 1}
    (winner,) = (answer for answer in answers if answer.status == 200)
    assert ann.get(url).json == winner.json
    assert ann.get(url).headers["ETag"] == '"2"'


def test_a_dozen_uses_of_one_refresh_token_at_once_give_one_successor(
    ann: Client, several: Several, database: Database
) -> None:
    body = {"refresh_token": ann.tokens["refresh_token"]}
    apps = several(Client(ann.gateway), "auth", DOZEN)
    answers = _at_once(partial(app.post, "/api/auth/refresh", body) for app in apps)
    assert len({answer.expect(200)["refresh_token"] for answer in answers}) == 1
    assert database.value("SELECT count(*) FROM sessions") == 1


def test_many_guesses_at_once_get_no_more_tries_than_one_after_the_other(ann: Client, several: Several) -> None:
    body = {"email": ann.user["email"], "password": "wrong horse"}
    apps = several(Client(ann.gateway), "auth", DOZEN)
    started = time.monotonic()
    answers = _at_once(partial(app.post, "/api/auth/login", body) for app in apps)
    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() == {401, 429}
    # Five are free; each further one has waited for a second at least.
    assert 5 <= statuses[401] <= 5 + int(time.monotonic() - started)


def test_right_logins_at_once_from_one_address_are_all_let_in(several: Several, anonymous: Client) -> None:
    apps = several(anonymous, "auth", DOZEN)
    for turn in range(5):
        accounts = [{"email": f"{turn}-{number}@example.org", "password": "correct horse"} for number in range(DOZEN)]
        for account in accounts:
            anonymous.post("/api/auth/register", account | {"name": "Somebody"}).expect(201)
        answers = _at_once(
            partial(app.post, "/api/auth/login", account) for app, account in zip(apps, accounts, strict=True)
        )
        assert Counter(answer.status for answer in answers) == {200: DOZEN}


def test_a_doctor_is_not_deleted_while_somebody_assigns_it(ann: Client, bob: Client) -> None:
    patient = bob.create("/api/patients", name="Zoë")
    for _ in range(10):
        doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
        assigned, deleted = _at_once(
            [
                partial(bob.post, "/api/mappings", {"patient_id": patient["id"], "doctor_id": doctor}),
                partial(ann.delete, f"/api/doctors/{doctor}"),
            ]
        )
        assert (assigned.status, deleted.status) in {(201, 409), (404, 204)}


def test_two_admins_who_delete_doctors_of_the_same_users_do_not_wait_for_each_other(
    sign_up: Callable[..., Client], several: Several, database: Database
) -> None:
    ann, bob, admin = sign_up("Ann"), sign_up("Bob"), sign_up("Eve", admin=True)
    patients = [(client, client.create("/api/patients", name="Zoë")["id"]) for client in (ann, bob)]
    apps = several(admin, "doctors", 2)
    for turn in range(15):
        doctors = [ann.create("/api/doctors", name="Who", specialty="Time")["id"] for _ in range(2)]
        for number, doctor in enumerate(doctors):
            for client, patient in patients if number else reversed(patients):
                client.create("/api/mappings", patient_id=patient, doctor_id=doctor)
        answers = _at_once(partial(app.delete, f"/api/doctors/{d}") for app, d in zip(apps, doctors, strict=True))
        assert [answer.status for answer in answers] == [204, 204], turn
    assert database.value("SELECT count(*) FROM mappings") == 0


def test_one_of_many_who_accept_an_invitation_at_once_wins(
    ann: Client, sign_up: Callable[..., Client], several: Several
) -> None:
    code = ann.create("/api/invitations", kind="delegate", access="read")["code"]
    clients = [sign_up(f"User{number}") for number in range(6)]
    apps = [Client(app.gateway, client.token) for client, app in zip(clients, several(ann, "sharing", 6), strict=True)]
    answers = _at_once(partial(app.post, "/api/invitations/accept", {"code": code}) for app in apps)
    assert sorted(answer.status for answer in answers) == [200, 404, 404, 404, 404, 404]
    assert len(ann.walk("/api/delegates")) == 1


def test_whoever_opens_a_patient_and_whoever_unlinks_the_doctor_take_turns(
    ann: Client, bob: Client, several: Several, database: Database
) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    patient = ann.create("/api/patients", name="Zoë")["id"]
    mapping = ann.create("/api/mappings", patient_id=patient, doctor_id=doctor)["id"]
    (opening,), (unlinking,) = several(ann, "mappings", 1), several(ann, "doctors", 1)
    for _ in range(8):
        link(ann, doctor, bob)
        opened, unlinked = _at_once(
            [
                partial(opening.patch, f"/api/mappings/{mapping}", {"access": "read"}),
                partial(unlinking.delete, f"/api/doctors/{doctor}/account"),
            ]
        )
        assert (opened.status, unlinked.status) in {(200, 204), (409, 204)}
        assert database.value("SELECT access FROM mappings") == "none"


@pytest.fixture
def pgbouncer(database: Database, passwords: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """The port of a pooler like RDS Proxy: each transaction takes one of its role's four connections to PostgreSQL."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    port = free_port()
    configuration, users = tmp_path / "pgbouncer.ini", tmp_path / "users.txt"
    users.write_text("".join(f'"{role}" "{passwords[role]}"\n' for role in ROLES))
    configuration.write_text(
        f"""
        [databases]
        {database.name} = host=127.0.0.1 port={database.server.port}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {users}
        pool_mode = transaction
        default_pool_size = 4
        max_client_conn = 100
        """
    )
    command = [program, "-q", *(["-u", "nobody"] if os.geteuid() == 0 else []), str(configuration)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    psycopg.connect(host="127.0.0.1", port=port, dbname=database.name, user=ROLES[1]).close()
                    break
                except psycopg.OperationalError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def test_forty_clients_on_four_pooled_connections_see_their_own_rows_only(
    sign_up: Callable[..., Client],
    several: Several,
    database: Database,
    pgbouncer: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients = [sign_up(f"User{number}") for number in range(40)]
    apps = [
        Client(app.gateway, client.token, client.user)
        for client, app in zip(clients, several(clients[0], "patients", 40), strict=True)
    ]
    clients[0].gateway.disconnect()
    monkeypatch.setenv("PGPORT", str(pgbouncer))
    used: set[int] = set()

    def work(app: Client) -> Answer:
        name = app.user["name"]
        made = []
        for step in range(15):
            headers = {"Idempotency-Key": f"{step}"} if step % 3 == 0 else {}
            patient = app.post("/api/patients", {"name": f"{name} patient {step}"}, headers=headers).expect(201)
            made.append(patient["id"])
            app.get(f"/api/patients/{patient['id']}").expect(200)
            app.get(f"/api/patients/{patient['id'] % 599 + 1}").expect(200 if patient["id"] % 599 + 1 in made else 404)
            found = app.get("/api/patients?q=patient&limit=100").expect(200)["items"]
            assert [patient["id"] for patient in found] == made
            assert {patient["name"].split()[0] for patient in found} == {name}
        used.add(int(str(database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'healthcare_api'"))))
        return app.get("/api/patients")

    _at_once(partial(work, app) for app in apps)
    assert max(used) == 4
    assert database.value("SELECT count(*) FROM patients") == 40 * 15


def test_owners_delegates_doctors_and_strangers_on_pooled_connections_see_no_row_of_others(
    sign_up: Callable[..., Client],
    several: Several,
    database: Database,
    pgbouncer: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten of each. Doctor n sees what owner n opened, delegate n acts for owner n, and stranger n tries to."""
    owners, delegates, doctors, strangers = ([sign_up(f"{kind}{n}") for n in range(10)] for kind in "ODPS")
    acting = [invite(owner, delegate, "read") for owner, delegate in zip(owners, delegates, strict=True)]
    of_owner: list[set[object]] = []
    for owner, account in zip(owners, doctors, strict=True):
        doctor = owner.create("/api/doctors", name="Who", specialty="Time")["id"]
        link(owner, doctor, account)
        of_owner.append({opened(owner, doctor, name=f"Patient {n}")[0]["id"] for n in range(5)})
    owners[0].gateway.disconnect()
    monkeypatch.setenv("PGPORT", str(pgbouncer))
    in_patients, in_practice = several(owners[0], "patients", 30), several(owners[0], "practice", 10)
    for app in (*in_patients, *in_practice):  # one after the other, since the role to log in as is the process's
        app.get("/api/patients" if app in in_patients else "/api/practice")

    def on(app: Client, client: Client) -> Client:
        return Client(app.gateway, client.token)

    def ask(app: Client, path: str, headers: dict[str, str], expected: set[object] | None) -> Answer:
        for step in range(25):
            answer = app.get(f"{path}?limit={5 + step}", headers=headers)
            if expected is None:
                answer.refuse(403, "not-delegated")
            else:
                assert {item["id"] for item in answer.expect(200)["items"]} == expected
        return answer

    calls = []
    for n in range(10):
        calls += [
            partial(ask, on(in_patients[n], owners[n]), "/api/patients", {}, of_owner[n]),
            partial(ask, on(in_patients[10 + n], delegates[n]), "/api/patients", acting[n], of_owner[n]),
            partial(ask, on(in_patients[20 + n], strangers[n]), "/api/patients", acting[n], None),
            partial(ask, on(in_practice[n], doctors[n]), "/api/practice/patients", {}, of_owner[n]),
        ]
    assert len(_at_once(calls)) == 40
    for role in ("healthcare_api", "healthcare_doctor"):
        pooled = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND datname = current_database()"
        assert 1 < int(str(database.value(pooled, role))) <= 4
