"""Closing an account: what goes, what stays, and how much of it a request does."""

from collections.abc import Callable

from healthcare.database.operations import broken_audit_links
from tests.booking import book, free_times, later, let_pass, new_doctor, new_patient
from tests.conftest import Database, Post
from tests.gateway import Client
from tests.integration.test_documents_in_s3 import NEW


def _close(client: Client) -> None:
    client.post("/api/auth/close", {"current_password": client.user["password"]}).expect(204)


def _left_after_each_run(post: Post, database: Database, table: str) -> list[object]:
    """How many rows the request has left, and then each run of the sender until all is erased."""
    left = [database.value(f"SELECT count(*) FROM {table}")]
    while database.value("SELECT count(*) FROM closings"):
        post.send()
        left.append(database.value(f"SELECT count(*) FROM {table}"))
    return left


def test_it_takes_the_password_and_a_code_where_there_is_a_second_factor(ann: Client, database: Database) -> None:
    ann.post("/api/auth/close", {"current_password": "wrong horse"}).refuse(403, "forbidden")
    with database.connect() as connection:
        connection.execute("UPDATE users SET second_factor = true")
        connection.execute("INSERT INTO authenticators VALUES (%s, '')", [ann.user["id"]])
    body = {"current_password": ann.user["password"]}
    ann.post("/api/auth/close", body).refuse(403, "wrong-code")
    ann.post("/api/auth/close", body | {"code": "ABCD"}).refuse(403, "wrong-code")
    assert database.value("SELECT closed_at FROM users") is None


def test_the_account_is_gone_and_its_address_free(
    ann: Client, bob: Client, anonymous: Client, post: Post, database: Database
) -> None:
    doctor = new_doctor(bob)
    with database.connect() as connection:
        connection.execute("UPDATE doctors SET account_id = %s", [ann.user["id"]])
        for pair in ((ann, bob), (bob, ann)):
            connection.execute(
                "INSERT INTO delegates (owner_id, user_id, access) VALUES (%s, %s, 'read')",
                [c.user["id"] for c in pair],
            )
    ann.post("/api/webhooks", {"url": "https://example.com/", "events": ["record.created"]}).expect(201)
    ann.post("/api/invitations", {"kind": "delegate", "access": "read"}).expect(201)
    _close(ann)
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).refuse(401, "unauthenticated")
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    ann.get("/api/auth/me").refuse(401, "unauthenticated")
    ann.patch("/api/auth/me", {"name": "Ann"}).refuse(401, "unauthenticated")
    ann.post("/api/auth/close", {"current_password": ann.user["password"]}).refuse(401, "unauthenticated")
    for table in ("delegates", "invitations", "webhooks", "closings"):
        assert database.value(f"SELECT count(*) FROM {table}") == 0, table
    assert bob.get(f"/api/doctors/{doctor}").expect(200)["has_account"] is False
    row = str(database.value("SELECT u::text FROM users u WHERE id = %s", ann.user["id"]))
    assert ann.user["email"] not in row
    assert "Ann" not in row
    assert {mail["To"] for mail in post.send()} == {bob.user["email"]}
    assert database.value("SELECT count(*) FROM audit_events WHERE owner_id = %s", ann.user["id"])
    account = login | {"name": "Ann"}
    assert anonymous.post("/api/auth/register", account).expect(201)["id"] != ann.user["id"]


def test_patients_with_history_stay_and_what_is_booked_is_cancelled(
    ann: Client, bob: Client, post: Post, database: Database
) -> None:
    doctor = new_doctor(bob)
    visited, noted, booked, plain = (new_patient(ann, name) for name in ("Visited", "Noted", "Booked", "Plain"))
    times = free_times(ann, doctor)
    past = book(ann, visited, doctor, times[0])["id"]
    let_pass(database, past, days=2)
    with database.connect() as connection:
        for status in ("arrived", "fulfilled"):
            connection.execute("UPDATE appointments SET status = %s WHERE id = %s", [status, past])
    ann.post(f"/api/patients/{noted}/records", {"kind": "note", "content": {"text": "x"}}).expect(201)
    open_ones = [book(ann, patient, doctor, later(times[-1], days=n))["id"] for n, patient in ((1, noted), (2, booked))]
    _close(ann)
    assert database.value("SELECT array_agg(id ORDER BY id) FROM patients") == [visited, noted]
    assert plain not in (visited, noted)
    assert database.value("SELECT array_agg(id) FROM appointments WHERE status = 'cancelled'") == open_ones[:1]
    assert database.value("SELECT status FROM appointments WHERE id = %s", past) == "fulfilled"
    assert post.send() == [] or {mail["To"] for mail in post.mails()} == {bob.user["email"]}


def test_a_large_account_is_closed_at_once_and_erased_by_the_sender(
    ann: Client, post: Post, database: Database, sign_up: Callable[..., Client]
) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO patients (owner_id, name) SELECT %s, 'Patient ' || n FROM generate_series(1, 1250) AS n",
            [ann.user["id"]],
        )
    ann.post(
        f"/api/patients/{database.value('SELECT max(id) FROM patients')}/records",
        {"kind": "note", "content": {"text": "x"}},
    ).expect(201)
    other = new_patient(sign_up("Eve"))
    _close(ann)
    assert _left_after_each_run(post, database, "patients") == [1151, 651, 151, 2]
    assert database.value("SELECT id FROM patients WHERE owner_id <> %s", ann.user["id"]) == other


def test_of_a_hundred_thousand_patients_the_request_and_each_run_of_the_sender_erase_a_few(
    ann: Client, post: Post, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # without triggers, which take a minute
        connection.execute(
            "INSERT INTO patients (owner_id, name) SELECT %s, 'Patient ' || n FROM generate_series(1, 100000) AS n",
            [ann.user["id"]],
        )
    _close(ann)
    left = [database.value("SELECT count(*) FROM patients")]
    for _ in range(2):
        post.send()
        left.append(database.value("SELECT count(*) FROM patients"))
    assert left == [99900, 99400, 98900]


def test_an_account_of_many_mappings_is_erased_a_few_of_them_at_a_time(
    ann: Client, bob: Client, post: Post, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # without triggers, which take their time
        connection.execute(
            "INSERT INTO doctors (created_by, name, specialty) SELECT %s, 'Who', 'Time' FROM generate_series(1, 30)",
            [bob.user["id"]],
        )
        connection.execute(
            "INSERT INTO patients (owner_id, name) SELECT %s, 'Patient' FROM generate_series(1, 100)", [ann.user["id"]]
        )
        connection.execute(
            "INSERT INTO mappings (owner_id, patient_id, doctor_id)"
            " SELECT owner_id, p.id, d.id FROM patients AS p, doctors AS d"
        )
    _close(ann)
    assert _left_after_each_run(post, database, "mappings") == [2800, 1800, 800, 0]
    assert database.value("SELECT count(*) FROM patients") == 0
    assert broken_audit_links(database.conninfo("healthcare_owner")) == []


def test_a_token_that_outlives_its_account_makes_nothing_that_lasts(
    ann: Client, bob: Client, database: Database
) -> None:
    doctor, unlinked = new_doctor(ann), new_doctor(ann)
    patient = new_patient(bob)
    bob.create(f"/api/patients/{patient}/records", kind="note", content={"text": "x"})  # so that it stays
    codes = [
        ann.create("/api/invitations", **invitation)["code"]
        for invitation in ({"kind": "delegate", "access": "read"}, {"kind": "doctor", "doctor_id": unlinked})
    ]
    booking = {
        "patient_id": patient,
        "doctor_id": doctor,
        "visit": bob.get(f"/api/doctors/{doctor}/hours").expect(200)["visits"][0]["code"],
        "starts_at": free_times(bob, doctor)[0],
        "modality": "in_person",
    }
    _close(bob)
    for path, body in (
        *(("/api/invitations/accept", {"code": code}) for code in codes),
        ("/api/invitations", {"kind": "delegate", "access": "write"}),
        ("/api/patients", {"name": "After"}),
        ("/api/doctors", {"name": "Who", "specialty": "Time"}),
        ("/api/mappings", {"patient_id": patient, "doctor_id": doctor}),
        ("/api/webhooks", {"url": "https://example.com/", "events": ["record.created"]}),
        ("/api/appointments", booking),
    ):
        bob.post(path, body).refuse(401, "unauthenticated")
    assert ann.walk("/api/delegates") == []
    assert ann.get(f"/api/doctors/{unlinked}").expect(200)["has_account"] is False
    assert database.value("SELECT count(*) FROM patients") == 1


def test_a_document_that_was_never_uploaded_keeps_no_patient(ann: Client, database: Database) -> None:
    patient = new_patient(ann)
    ann.create(f"/api/patients/{patient}/documents", **NEW)
    _close(ann)
    assert database.value("SELECT count(*) FROM patients") == database.value("SELECT count(*) FROM closings") == 0


def test_nobody_closes_an_account_but_by_the_route(ann: Client, bob: Client, database: Database) -> None:
    """The function closes the account of who calls it, and no other role may call it."""
    with database.connect("healthcare_auth") as connection, connection.transaction():
        connection.execute("SELECT act_as(%s, 'user', 'test')", [bob.user["id"]])
        connection.execute("SELECT close_account()")
    assert database.value("SELECT array_agg(id) FROM users WHERE closed_at IS NOT NULL") == [bob.user["id"]]
    for role in ("healthcare_api", "healthcare_doctor", "healthcare_sender"):
        assert database.value("SELECT has_function_privilege(%s, 'close_account()', 'EXECUTE')", role) is False
        assert (
            database.value("SELECT has_function_privilege(%s, 'erase_some(bigint, integer)', 'EXECUTE')", role) is False
        )
