"""Delegates, invitations and doctors' accounts: who comes in, what they may do, and until when."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote

import psycopg
import pytest

from healthcare.database.operations import broken_audit_links
from tests.conftest import Database, LogLines, Post
from tests.gateway import Client

SignUp = Callable[..., Client]
OTHERS_CODE = "A" * 32


def invite(owner: Client, delegate: Client, access: str = "write") -> dict[str, str]:
    """Makes `delegate` one of `owner`; returns the header to act with."""
    code = owner.create("/api/invitations", kind="delegate", access=access)["code"]
    delegate.post("/api/invitations/accept", {"code": code}).expect(200)
    return {"Acting-For": str(owner.user["id"])}


def link(creator: Client, doctor_id: int, account: Client) -> None:
    """Makes `account` that of the doctor."""
    code = creator.create("/api/invitations", kind="doctor", doctor_id=doctor_id)["code"]
    account.post("/api/invitations/accept", {"code": code}).expect(200)


@pytest.fixture
def doctor(ann: Client, bob: Client) -> int:
    """An entry of Ann's that is linked to Bob's account."""
    id: int = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    link(ann, id, bob)
    return id


def opened(owner: Client, doctor: int, access: str = "read", name: str = "Zoë") -> tuple[dict[str, object], int]:
    """A new patient who is opened to the doctor, and the mapping's id."""
    patient = owner.create("/api/patients", name=name)
    mapping = owner.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor, access=access)
    return patient, mapping["id"]


def _open_many(database: Database, owner: Client, doctor: int, number: int) -> None:
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # without triggers, which take half a minute
        connection.execute(
            """
            WITH made AS (
                INSERT INTO patients (owner_id, name)
                SELECT %(owner)s, 'Zoë ' || n FROM generate_series(1, %(number)s) AS n
                RETURNING id
            )
            INSERT INTO mappings (owner_id, patient_id, doctor_id, access)
            SELECT %(owner)s, id, %(doctor)s, 'write' FROM made
            """,
            {"owner": owner.user["id"], "doctor": doctor, "number": number},
        )


# Delegates ----------------------------------------------------------------------------------------------------------


def test_a_delegate_acts_as_the_owner_and_the_audit_names_the_delegate(
    ann: Client, bob: Client, log_lines: LogLines
) -> None:
    for_ann = invite(ann, bob)
    patient = bob.post("/api/patients", {"name": "Zoë"}, headers=for_ann).expect(201)
    assert ann.get(f"/api/patients/{patient['id']}").expect(200) == patient
    assert bob.get("/api/patients").expect(200)["items"] == []
    event = ann.get("/api/audit").expect(200)["items"][0]
    assert (event["resource"], event["actor_id"]) == ("patient", bob.user["id"])
    (line,) = (line for line in log_lines() if line.get("acting_for"))
    assert (line["user_id"], line["acting_for"]) == (str(bob.user["id"]), ann.user["id"])


def test_a_delegate_changes_the_directory_in_the_owners_name(ann: Client, bob: Client) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    bob.patch(f"/api/doctors/{doctor['id']}", {"name": "Whom"}).refuse(403, "forbidden")
    for_ann = invite(ann, bob)
    bob.patch(f"/api/doctors/{doctor['id']}", {"name": "Whom"}, headers=for_ann).expect(200)
    made = bob.post("/api/doctors", {"name": "Who", "specialty": "Time"}, headers=for_ann).expect(201)
    assert made["created_by"] == ann.user["id"]


def test_access_read_changes_nothing_and_can_be_changed_by_the_owner(ann: Client, bob: Client) -> None:
    for_ann = invite(ann, bob, "read")
    path = f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}"
    bob.get(path, headers=for_ann).expect(200)
    for request in (
        partial(bob.post, "/api/patients", {"name": "Yan"}),
        partial(bob.put, path, {"name": "Yan"}),
        partial(bob.patch, path, {"name": "Yan"}),
        partial(bob.delete, path),
        partial(bob.delete, "/api/patients/999"),
    ):
        request(headers=for_ann).refuse(403, "read-only")
        request(headers=for_ann | {"If-Match": '"9"', "Idempotency-Key": "key"}).refuse(403, "read-only")
    (delegate,) = ann.get("/api/delegates").expect(200)["items"]
    assert delegate["access"] == "read"
    changed = ann.patch(f"/api/delegates/{delegate['id']}", {"access": "write"})
    assert changed.expect(200) == delegate | {"access": "write", "updated_at": changed.json["updated_at"]}
    assert changed.headers["ETag"] == '"2"'
    bob.patch(path, {"name": "Yan"}, headers=for_ann).expect(200)
    stale = {"If-Match": '"1"'}
    ann.patch(f"/api/delegates/{delegate['id']}", {"access": "read"}, headers=stale).refuse(412, "stale")
    ann.delete(f"/api/delegates/{delegate['id']}", headers=stale).refuse(412, "stale")
    ann.patch(f"/api/delegates/{delegate['id']}", {"access": "none"}).refuse(422, "validation")


def test_both_sides_see_each_other_and_either_ends_it_from_the_next_request_on(
    ann: Client, bob: Client, sign_up: SignUp
) -> None:
    eve = sign_up("Eve")
    for_ann = invite(ann, bob)
    (delegate,) = ann.get("/api/delegates").expect(200)["items"]
    assert {name: delegate[name] for name in ("user_id", "name", "email")} == {
        "user_id": bob.user["id"],
        "name": "Bob",
        "email": bob.user["email"],
    }
    (owner,) = bob.get("/api/owners").expect(200)["items"]
    assert owner == {
        "id": delegate["id"],
        "user_id": ann.user["id"],
        "name": "Ann",
        "access": "write",
        "created_at": delegate["created_at"],
    }
    for nobody in (bob, eve):
        nobody.patch(f"/api/delegates/{delegate['id']}", {"access": "read"}).refuse(404, "not-found")
        nobody.delete(f"/api/delegates/{delegate['id']}").refuse(404, "not-found")
    for nobody in (ann, eve):
        nobody.delete(f"/api/owners/{delegate['id']}").refuse(404, "not-found")
    bob.get("/api/patients", headers=for_ann).expect(200)
    ann.delete(f"/api/delegates/{delegate['id']}").expect(204)
    bob.get("/api/patients", headers=for_ann).refuse(403, "not-delegated")
    assert bob.get("/api/owners").json["items"] == []

    invite(ann, bob)
    (owner,) = bob.get("/api/owners").json["items"]
    bob.delete(f"/api/owners/{owner['id']}", headers={"If-Match": '"9"'}).refuse(412, "stale")
    bob.delete(f"/api/owners/{owner['id']}").expect(204)
    bob.get("/api/patients", headers=for_ann).refuse(403, "not-delegated")
    assert ann.get("/api/delegates").json["items"] == []


def test_an_invitation_that_is_accepted_again_changes_the_access(ann: Client, bob: Client) -> None:
    invite(ann, bob, "read")
    invite(ann, bob, "write")
    assert [delegate["access"] for delegate in ann.walk("/api/delegates")] == ["write"]


@pytest.mark.parametrize("owner", ["", "0", "-1", "01", "x", "1.0", "9223372036854775808", "1, 2", "\uff11"])
def test_what_is_no_id_is_no_owner(ann: Client, owner: str) -> None:
    problem = ann.get("/api/patients", headers={"Acting-For": owner}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["header/acting-for"]


def test_nobody_acts_for_themselves_for_nobody_or_the_other_way_round(ann: Client, bob: Client) -> None:
    invite(ann, bob)
    for client, owner in ((ann, bob), (ann, ann), (bob, bob)):
        client.get("/api/patients", headers={"Acting-For": str(owner.user["id"])}).refuse(403, "not-delegated")
    bob.get("/api/patients", headers={"Acting-For": "999999"}).refuse(403, "not-delegated")


def test_an_admins_role_is_left_behind_and_the_owners_is_not_lent(sign_up: SignUp) -> None:
    ann, admin, other = sign_up("Ann"), sign_up("Eve", admin=True), sign_up("Bob")
    doctor = f"/api/doctors/{other.create('/api/doctors', name='Who', specialty='Time')['id']}"
    for_ann, for_admin = invite(ann, admin), invite(admin, other)
    admin.patch(doctor, {"verified": True}, headers=for_ann).refuse(403, "forbidden")
    admin.delete(doctor, headers=for_ann).refuse(403, "forbidden")
    other.patch(doctor, {"verified": True}, headers=for_admin).refuse(403, "forbidden")
    other.delete(doctor, headers=for_admin).refuse(403, "forbidden")
    admin.patch(doctor, {"verified": True}).expect(200)


def test_a_key_is_one_persons_in_one_account(ann: Client, bob: Client) -> None:
    for_ann, key = invite(ann, bob), {"Idempotency-Key": "key"}
    by_ann = ann.post("/api/patients", {"name": "Zoë"}, headers=key).expect(201)
    by_bob = bob.post("/api/patients", {"name": "Zoë"}, headers=key).expect(201)
    for_ann_by_bob = bob.post("/api/patients", {"name": "Yan"}, headers=for_ann | key).expect(201)
    assert len({by_ann["id"], by_bob["id"], for_ann_by_bob["id"]}) == 3
    again = bob.post("/api/patients", {"name": "Yan"}, headers=for_ann | key).expect(201)
    assert again == for_ann_by_bob
    assert len(ann.walk("/api/patients")) == 2
    ann.delete(f"/api/delegates/{ann.walk('/api/delegates')[0]['id']}").expect(204)
    bob.post("/api/patients", {"name": "Yan"}, headers=for_ann | key).refuse(403, "not-delegated")


def test_a_server_that_is_read_only_is_unavailable_and_no_matter_of_access(
    ann: Client, bob: Client, database: Database
) -> None:
    for_ann = invite(ann, bob)
    with database.connect() as connection:
        connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    for client in (ann, bob):
        client.gateway.environments["patients"].disconnect()
    ann.post("/api/patients", {"name": "Zoë"}).refuse(503, "unavailable")
    bob.post("/api/patients", {"name": "Zoë"}, headers=for_ann).refuse(503, "unavailable")
    bob.get("/api/patients", headers=for_ann).expect(200)


def test_a_read_that_would_write_is_refused_by_postgresql_itself(ann: Client, bob: Client, database: Database) -> None:
    invite(ann, bob, "read")
    with database.connect("healthcare_api") as connection:
        for purpose, state in (("read", "25006"), ("write", "HC002")):
            with pytest.raises(psycopg.Error) as caught:
                psycopg.ClientCursor(connection).execute(
                    "SELECT act_for(%s, %s, %s, 'test'); DELETE FROM patients",
                    [bob.user["id"], ann.user["id"], purpose],
                )
            assert caught.value.sqlstate == state


# Invitations --------------------------------------------------------------------------------------------------------


def test_a_code_is_shown_once_is_good_once_and_is_not_stored(ann: Client, bob: Client, database: Database) -> None:
    invitation = ann.create("/api/invitations", kind="delegate", access="read")
    code = invitation.pop("code")
    assert len(code) * 5 >= 160
    assert invitation["doctor_id"] is None
    assert ann.get("/api/invitations").expect(200)["items"] == [invitation]
    assert database.value("SELECT count(*) FROM invitations WHERE invitations::text LIKE '%%' || %s || '%%'", code) == 0
    accepted = bob.post("/api/invitations/accept", {"code": f" {code}\n"}).expect(200)
    assert accepted == {"kind": "delegate", "owner": {"id": ann.user["id"], "name": "Ann"}, "access": "read"}
    assert ann.get("/api/invitations").json["items"] == []
    bob.post("/api/invitations/accept", {"code": code}).refuse(404, "not-found")


def test_a_code_is_not_kept_for_an_idempotency_key(ann: Client, database: Database) -> None:
    key = {"Idempotency-Key": "key"}
    body = {"kind": "delegate", "access": "read"}
    codes = {ann.post("/api/invitations", body, headers=key).expect(201)["code"] for _ in range(2)}
    assert len(codes) == 2
    assert database.value("SELECT count(*) FROM idempotency_keys") == 0


def test_a_mail_tells_the_owner_that_somebody_acts_for_them(ann: Client, bob: Client, post: Post) -> None:
    post.send()
    invite(ann, bob, "read")
    (mail,) = post.send()
    assert (mail["To"], mail["Subject"]) == (ann.user["email"], "Somebody acts for your account now")
    invite(ann, bob)  # they do already
    assert post.send() == []


def test_codes_that_are_unknown_spent_expired_withdrawn_or_ones_own_are_answered_alike(
    ann: Client, sign_up: SignUp, database: Database
) -> None:
    def invitation() -> dict[str, object]:
        made: dict[str, object] = ann.create("/api/invitations", kind="delegate", access="read")
        return made

    own, spent, withdrawn, expired = (invitation() for _ in range(4))
    sign_up("Bob").post("/api/invitations/accept", {"code": spent["code"]}).expect(200)
    ann.delete(f"/api/invitations/{withdrawn['id']}").expect(204)
    with database.connect() as connection:
        connection.execute("UPDATE invitations SET expires_at = now() WHERE id = %s", [expired["id"]])
    assert [item["id"] for item in ann.walk("/api/invitations")] == [own["id"]]
    problems = []
    for code in (OTHERS_CODE, spent["code"], withdrawn["code"], expired["code"]):
        answer = sign_up("Eve").post("/api/invitations/accept", {"code": code})
        problems.append(answer.refuse(404, "not-found") | {"request_id": ""})
    answer = ann.post("/api/invitations/accept", {"code": own["code"]})
    problems.append(answer.refuse(404, "not-found") | {"request_id": ""})
    assert problems == [problems[0]] * 5
    ann.delete(f"/api/invitations/{expired['id']}").expect(204)


def test_wrong_codes_are_slowed_and_a_right_one_ends_that(ann: Client, bob: Client, sign_up: SignUp) -> None:
    def guess(client: Client, code: str = OTHERS_CODE) -> object:
        return client.post("/api/invitations/accept", {"code": code}).status

    code = ann.create("/api/invitations", kind="delegate", access="read")["code"]
    assert [guess(bob) for _ in range(6)] == [404, 404, 404, 404, 404, 429]
    blocked = bob.post("/api/invitations/accept", {"code": code})
    assert (
        blocked.refuse(429, "too-many-requests")["detail"]
        == "There were too many wrong codes; wait before the next one."
    )
    assert int(blocked.headers["Retry-After"]) in (1, 2)
    eve = sign_up("Eve")
    assert [guess(eve) for _ in range(3)] + [guess(eve, code)] == [404, 404, 404, 200]
    assert [guess(eve) for _ in range(5)] == [404] * 5


def test_only_its_owner_sees_or_withdraws_an_invitation(ann: Client, bob: Client) -> None:
    invitation = ann.create("/api/invitations", kind="delegate", access="read")
    assert bob.get("/api/invitations").json["items"] == []
    bob.delete(f"/api/invitations/{invitation['id']}").refuse(404, "not-found")
    ann.delete(f"/api/invitations/{invitation['id']}", headers={"If-Match": '"2"'}).refuse(412, "stale")
    ann.delete(f"/api/invitations/{invitation['id']}", headers={"If-Match": '"1"'}).expect(204)


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "/kind", "Field required"),
        ({"kind": "friend"}, "/kind", "Input should be 'delegate' or 'doctor'"),
        ({"kind": "delegate"}, "/access", "Field required"),
        ({"kind": "delegate", "access": "none"}, "/access", "Input should be 'read' or 'write'"),
        ({"kind": "delegate", "access": "read", "doctor_id": 1}, "/doctor_id", "Unknown field"),
        ({"kind": "doctor"}, "/doctor_id", "Field required"),
        ({"kind": "doctor", "doctor_id": 1, "access": "read"}, "/access", "Unknown field"),
        ({"kind": "doctor", "doctor_id": 0}, "/doctor_id", "Input should be greater than 0"),
        ({"kind": "delegate", "access": "read", "code": "x"}, "/code", "Unknown field"),
    ],
)
def test_an_invitation_has_what_its_kind_needs(ann: Client, body: object, pointer: str, detail: str) -> None:
    problem = ann.post("/api/invitations", body).refuse(422, "validation")
    assert problem["errors"] == [{"pointer": pointer, "detail": detail}]


def test_everything_is_audited_for_the_owner_without_the_code(ann: Client, bob: Client) -> None:
    invite(ann, bob, "read")
    (delegate,) = ann.walk("/api/delegates")
    ann.patch(f"/api/delegates/{delegate['id']}", {"access": "write"}).expect(200)
    bob.delete(f"/api/owners/{delegate['id']}").expect(204)
    events = ann.get("/api/audit").json["items"][:-1]
    assert [(event["action"], event["resource"], event["actor_id"]) for event in reversed(events)] == [
        ("create", "invitation", ann.user["id"]),
        ("delete", "invitation", bob.user["id"]),
        ("create", "delegate", bob.user["id"]),
        ("update", "delegate", ann.user["id"]),
        ("delete", "delegate", bob.user["id"]),
    ]
    assert events[-1]["changes"]["code_hash"] == {"from": None, "to": None}
    assert events[1]["changes"] == {"access": {"from": "read", "to": "write"}}


# Doctors with an account --------------------------------------------------------------------------------------------


def test_a_doctors_account_is_linked_by_invitation(ann: Client, bob: Client, sign_up: SignUp) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    assert (doctor["has_account"], doctor["verified"]) == (False, False)
    body = {"kind": "doctor", "doctor_id": doctor["id"]}
    bob.post("/api/invitations", body).refuse(403, "forbidden")
    bob.post("/api/invitations", body | {"doctor_id": 999}).refuse(404, "not-found")
    sign_up("Eve", admin=True).create("/api/invitations", **body)
    invitation = ann.create("/api/invitations", **body)
    accepted = bob.post("/api/invitations/accept", {"code": invitation["code"]}).expect(200)
    assert accepted["kind"] == "doctor"
    assert accepted.keys() == {"kind", "doctor"}
    assert accepted["doctor"] == ann.get(f"/api/doctors/{doctor['id']}").expect(200)
    assert accepted["doctor"]["has_account"]
    assert bob.get("/api/practice").expect(200) == accepted["doctor"]
    ann.get("/api/practice").refuse(404, "not-found")
    ann.get("/api/practice/patients").refuse(404, "not-found")
    patient = ann.create("/api/patients", name="Zoë")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    assert ann.get(f"/api/patients/{patient['id']}/doctors").json["items"] == [accepted["doctor"]]


def test_an_account_is_one_doctor_and_a_refused_link_leaves_the_code_good(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp
) -> None:
    other = ann.create("/api/doctors", name="Whom", specialty="Time")["id"]
    code = ann.create("/api/invitations", kind="doctor", doctor_id=other)["code"]
    bob.post("/api/invitations/accept", {"code": code}).refuse(409, "already-linked")
    sign_up("Eve").post("/api/invitations/accept", {"code": code}).expect(200)
    link(ann, doctor, bob)  # again
    assert bob.get("/api/practice").json["id"] == doctor


def test_whoever_made_an_entry_may_be_that_doctor(ann: Client) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    link(ann, doctor, ann)
    patient, _ = opened(ann, doctor, "write")
    assert ann.get("/api/practice/patients").json["items"] == [{**patient, "access": "write"}]


def test_an_admin_verifies_and_a_change_of_what_was_verified_takes_it_back(
    ann: Client, bob: Client, sign_up: SignUp
) -> None:
    admin = sign_up("Eve", admin=True)
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    path = f"/api/doctors/{doctor}"
    for value in (True, False):
        ann.patch(path, {"verified": value}).refuse(403, "forbidden")
    ann.patch("/api/doctors/999", {"verified": True}).refuse(404, "not-found")
    ann.put(path, {"name": "Who", "specialty": "Time", "verified": True}).refuse(422, "validation")
    ann.patch(path, {"verified": None}).refuse(422, "validation")

    def verified_after(change: Callable[[], object]) -> object:
        assert admin.patch(path, {"verified": True}).expect(200)["verified"]
        change()
        return ann.get(path).json["verified"]

    assert verified_after(lambda: ann.patch(path, {"phone": "+1 555 0100"}))
    assert verified_after(lambda: ann.put(path, {"name": "Who", "specialty": "Time"}))
    assert not verified_after(lambda: ann.patch(path, {"name": "Whom"}))
    assert not verified_after(lambda: ann.patch(path, {"specialty": "Space"}))
    assert not verified_after(lambda: link(ann, doctor, bob))
    assert not verified_after(lambda: ann.delete(f"{path}/account"))
    assert not verified_after(lambda: admin.patch(path, {"verified": False}))


@pytest.mark.parametrize("who", ["creator", "account", "admin"])
def test_unlinking_closes_every_patient_in_every_account_at_once(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp, who: str, database: Database
) -> None:
    eve, admin = sign_up("Eve"), sign_up("Root", admin=True)
    opened(ann, doctor, "read")
    opened(eve, doctor, "write", "Yan")
    opened(eve, doctor, "write", "Xi")
    assert len(bob.walk("/api/practice/patients")) == 3
    eve.delete(f"/api/doctors/{doctor}/account").refuse(403, "forbidden")
    path = f"/api/doctors/{doctor}/account"
    version = ann.get(f"/api/doctors/{doctor}").headers["ETag"]
    client = {"creator": ann, "account": bob, "admin": admin}[who]
    client.delete(path, headers={"If-Match": '"99"'}).refuse(412, "stale")
    client.delete(path, headers={"If-Match": version}).expect(204)
    bob.get("/api/practice").refuse(404, "not-found")
    bob.get("/api/practice/patients").refuse(404, "not-found")
    for owner in (ann, eve):
        assert {mapping["access"] for mapping in owner.walk("/api/mappings")} == {"none"}
    closed = [
        event for event in eve.walk("/api/audit") if event["resource"] == "mapping" and event["action"] == "update"
    ]
    assert [event["changes"] for event in closed] == [{"access": {"from": "write", "to": "none"}}] * 2
    assert {event["actor_id"] for event in closed} == {client.user["id"]}
    assert broken_audit_links(database.conninfo("healthcare_owner")) == []
    ann.delete(path).refuse(404, "not-found")
    eve.delete(path).refuse(403, "forbidden")
    ann.delete("/api/doctors/999/account").refuse(404, "not-found")
    link(ann, doctor, bob)
    assert bob.walk("/api/practice/patients") == []


def test_another_account_finds_no_patient_that_was_opened_to_the_one_before(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp
) -> None:
    eve = sign_up("Eve")
    opened(bob, doctor)
    opened(ann, doctor)
    link(ann, doctor, eve)
    assert eve.get("/api/practice").json["id"] == doctor
    assert eve.walk("/api/practice/patients") == []
    bob.get("/api/practice").refuse(404, "not-found")
    assert {mapping["access"] for mapping in ann.walk("/api/mappings")} == {"none"}


def test_of_more_patients_than_one_request_closes_the_account_sees_none_and_the_sender_closes_the_rest(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp, post: Post, database: Database
) -> None:
    eve = sign_up("Eve")
    _open_many(database, ann, doctor, 12000)
    patient = f"/api/practice/patients/{database.value('SELECT max(id) FROM patients')}"
    bob.get(patient).expect(200)
    still_open = "SELECT count(*) FROM mappings WHERE access <> 'none'"
    code = ann.create("/api/invitations", kind="doctor", doctor_id=doctor)["code"]
    eve.post("/api/invitations/accept", {"code": code}).refuse(409, "patients-still-open")
    bob.get(patient).expect(200)
    ann.delete(f"/api/doctors/{doctor}/account").expect(204)
    bob.get(patient).refuse(404, "not-found")
    assert database.value(still_open) == 7000
    for account in (bob, eve):
        account.post("/api/invitations/accept", {"code": code}).refuse(409, "patients-still-open")
    post.send()
    assert database.value(still_open) == 2000
    eve.post("/api/invitations/accept", {"code": code}).expect(200)  # which closes what little is left
    assert database.value(still_open) == database.value("SELECT count(*) FROM unlinkings") == 0
    assert eve.walk("/api/practice/patients") == []
    opened(eve, doctor)
    post.send()
    assert len(eve.walk("/api/practice/patients")) == 1
    assert broken_audit_links(database.conninfo("healthcare_owner")) == []


def test_a_mapping_that_somebody_deletes_meanwhile_leaves_no_other_open(
    ann: Client, bob: Client, post: Post, database: Database
) -> None:
    doctor = bob.create("/api/doctors", name="Who", specialty="Time")["id"]
    link(bob, doctor, bob)
    _open_many(database, ann, doctor, 5001)
    with ThreadPoolExecutor(1) as pool, database.connect("healthcare_api") as connection:
        with connection.transaction():
            connection.execute("SELECT act_as(%s, 'user', 'test')", [ann.user["id"]])
            connection.execute("DELETE FROM mappings WHERE id = (SELECT min(id) FROM mappings)")
            unlinking = pool.submit(bob.delete, f"/api/doctors/{doctor}/account")
            database.wait_for_a_lock()
        unlinking.result().expect(204)
    post.send()
    assert database.value("SELECT count(*) FROM mappings WHERE access <> 'none'") == 0
    assert database.value("SELECT count(*) FROM unlinkings") == 0


def test_whoever_changes_a_mapping_or_assigns_the_doctor_meanwhile_does_not_wait(
    ann: Client, bob: Client, doctor: int, database: Database
) -> None:
    _, first = opened(ann, doctor)
    opened(ann, doctor)
    patient = bob.create("/api/patients", name="Yan")["id"]
    code = ann.create("/api/invitations", kind="doctor", doctor_id=doctor)["code"]
    with database.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM mappings WHERE id = %s FOR UPDATE", [first])
        ann.delete(f"/api/doctors/{doctor}/account").expect(204)
        assert [mapping["access"] for mapping in ann.walk("/api/mappings")] == ["read", "none"]
        ann.post("/api/invitations/accept", {"code": code}).refuse(409, "patients-still-open")
    with database.connect("healthcare_sender") as connection, connection.transaction():
        connection.execute("SELECT close_unlinked()")
        bob.create("/api/mappings", patient_id=patient, doctor_id=doctor)
    ann.post("/api/invitations/accept", {"code": code}).expect(200)
    assert {mapping["access"] for mapping in ann.walk("/api/mappings")} == {"none"}


def test_a_patient_is_opened_to_an_account_only(ann: Client, bob: Client) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    patient = ann.create("/api/patients", name="Zoë")["id"]
    pair = {"patient_id": patient, "doctor_id": doctor}
    ann.post("/api/mappings", pair | {"access": "read"}).refuse(409, "doctor-has-no-account")
    ann.post("/api/mappings", pair | {"access": "all"}).refuse(422, "validation")
    ann.post("/api/mappings", pair | {"doctor_id": 999, "access": "read"}).refuse(404, "not-found")
    bob.post("/api/mappings", pair | {"access": "read"}).refuse(404, "not-found")
    mapping = ann.create("/api/mappings", **pair)
    assert mapping["access"] == "none"
    path = f"/api/mappings/{mapping['id']}"
    ann.patch(path, {"access": "write"}).refuse(409, "doctor-has-no-account")
    link(ann, doctor, bob)
    bob.patch(path, {"access": "write"}).refuse(404, "not-found")
    ann.patch(path, {"access": "write"}, headers={"If-Match": '"9"'}).refuse(412, "stale")
    answer = ann.patch(path, {"access": "write"}, headers={"If-Match": '"1"'})
    assert answer.expect(200) == mapping | {"access": "write", "updated_at": answer.json["updated_at"]}
    assert answer.headers["ETag"] == '"2"'
    ann.patch("/api/mappings/999", {"access": "none"}).refuse(404, "not-found")
    assert ann.patch(path, {}).expect(200)["access"] == "write"


def test_a_doctor_sees_what_is_opened_until_it_is_closed(ann: Client, bob: Client, doctor: int) -> None:
    patient, mapping = opened(ann, doctor)
    path = f"/api/practice/patients/{patient['id']}"
    first = bob.get(path)
    assert first.expect(200) == {**patient, "access": "read"}
    bob.get(path, headers={"If-None-Match": first.headers["ETag"]}).expect(304)
    ann.patch(f"/api/mappings/{mapping}", {"access": "write"}).expect(200)
    again = bob.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert again.expect(200)["access"] == "write"
    ann.patch(f"/api/patients/{patient['id']}", {"phone": "+1 555 0100"}).expect(200)
    bob.get(path, headers={"If-None-Match": again.headers["ETag"]}).expect(200)
    bob.get(f"/api/patients/{patient['id']}").refuse(404, "not-found")
    ann.patch(f"/api/mappings/{mapping}", {"access": "none"}).expect(200)
    bob.get(path).refuse(404, "not-found")
    assert bob.walk("/api/practice/patients") == []
    ann.patch(f"/api/mappings/{mapping}", {"access": "read"}).expect(200)
    ann.delete(f"/api/mappings/{mapping}").expect(204)
    bob.get(path).refuse(404, "not-found")


def test_a_doctors_patients_are_walked_through_and_searched(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp
) -> None:
    eve = sign_up("Eve")
    names = ["Zoë Brown", "Zoe Brownlee", "Åsa Öberg", "Yan Brown"]
    patients = [opened(owner, doctor, name=name)[0] for name in names for owner in (ann, eve)]
    ann.create("/api/patients", name="Zoë Closed Brown")
    assert [item["id"] for item in bob.walk("/api/practice/patients?limit=3")] == [item["id"] for item in patients]

    def found(q: str) -> list[str]:
        return sorted({item["name"] for item in bob.walk(f"/api/practice/patients?limit=1&q={q}")})

    assert found("brown") == ["Yan Brown", "Zoe Brownlee", "Zoë Brown"]
    assert found("ZOË bro") == ["Zoë Brown"]
    assert found("ÖBERG å") == ["Åsa Öberg"]
    assert found("closed") == found("zoe öberg") == found("...") == []
    ann.patch(f"/api/patients/{patients[0]['id']}", {"name": "Ada"}).expect(200)
    ann.delete(f"/api/patients/{patients[2]['id']}").expect(204)
    assert [item["id"] for item in bob.walk("/api/practice/patients?q=ada")] == [patients[0]["id"]]
    assert [item["id"] for item in bob.walk("/api/practice/patients?q=zoe")] == [patients[3]["id"]]
    eve.delete(f"/api/mappings/{eve.walk('/api/mappings')[1]['id']}").expect(204)
    assert found("zoe") == []


def test_a_delegate_of_a_doctors_account_is_its_reception_and_sees_no_opened_patient(
    bob: Client, ann: Client, doctor: int, sign_up: SignUp
) -> None:
    eve = sign_up("Eve")
    patient, _ = opened(ann, doctor, "write")
    for_bob = invite(bob, eve)
    assert eve.get("/api/practice", headers=for_bob).expect(200)["id"] == doctor
    eve.get("/api/practice/patients", headers=for_bob).refuse(422, "validation")
    eve.get(f"/api/practice/patients/{patient['id']}", headers=for_bob).refuse(422, "validation")
    eve.get(f"/api/patients/{patient['id']}", headers=for_bob).refuse(404, "not-found")
    eve.get("/api/practice").refuse(404, "not-found")


# However many patients there are --------------------------------------------------------------------------------------


def _rows_read_so_far(database: Database, connection: psycopg.Connection) -> int:
    """Of tables and indexes, by PostgreSQL's own count; `connection` is who reads."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    counted = """
        SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)
             + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)
    """
    return int(str(database.value(counted)))


def rows_read(client: Client, url: str, headers: dict[str, str], database: Database) -> int:
    """How many rows and entries of indexes PostgreSQL reads for a GET, by its own count."""
    folder = url.split("/")[2].split("?")[0]
    client.get(url, headers=headers).expect(200)
    connection = client.gateway.environments[folder].modules["healthcare.database.connection"].connect()
    before = _rows_read_so_far(database, connection)
    client.get(url, headers=headers).expect(200)
    return _rows_read_so_far(database, connection) - before


def test_a_doctors_and_a_delegates_requests_read_as_much_among_20_000_patients_as_among_ten(
    sign_up: SignUp, database: Database
) -> None:
    many, few, doctor_of_many, doctor_of_few, delegate = (sign_up(name) for name in ("Ann", "Bob", "Eve", "Dan", "Zoe"))
    for owner, doctor in ((many, doctor_of_many), (few, doctor_of_few)):
        link(owner, owner.create("/api/doctors", name="Who", specialty="Time")["id"], doctor)
    for_many, for_few = invite(many, delegate, "read"), invite(few, delegate, "read")
    with database.connect() as connection:
        connection.execute(
            """
            ALTER TABLE patients DISABLE TRIGGER audit;
            ALTER TABLE mappings DISABLE TRIGGER audit;
            INSERT INTO users (id, name, email, password_hash)
            SELECT 100 + n, 'User', n || '@example.org', 'none' FROM generate_series(1, 2000) n;
            INSERT INTO doctors (created_by, name, specialty, account_id)
            SELECT id, 'Who', 'Time', id FROM users WHERE id > 100;
            INSERT INTO delegates (owner_id, user_id, access)
            SELECT id, id + 1, 'read' FROM users WHERE id BETWEEN 101 AND 2099;
            """
        )
        for owner, doctor, number in ((few, 2, 10), (many, 1, 20_000)):
            connection.execute(
                "INSERT INTO patients (owner_id, name) SELECT %s, 'Patient ' || n FROM generate_series(1, %s) n",
                [owner.user["id"], number],
            )
            connection.execute(
                "INSERT INTO mappings (owner_id, patient_id, doctor_id, access)"
                " SELECT owner_id, id, %s, 'read' FROM patients WHERE owner_id = %s",
                [doctor, owner.user["id"]],
            )
        connection.execute("VACUUM ANALYZE")
        connection.execute("SELECT pg_stat_force_next_flush()")
    first = database.value("SELECT min(id) FROM patients WHERE owner_id = %s", few.user["id"])
    other = database.value("SELECT min(id) FROM patients WHERE owner_id = %s", many.user["id"])
    for url, small, large in (
        ("/api/practice", (doctor_of_few, {}), (doctor_of_many, {})),
        ("/api/practice/patients?limit=5", (doctor_of_few, {}), (doctor_of_many, {})),
        ("/api/practice/patients?limit=5&q=patient", (doctor_of_few, {}), (doctor_of_many, {})),
        ("/api/practice/patients/{}", (doctor_of_few, {}), (doctor_of_many, {})),
        ("/api/patients?limit=5", (delegate, for_few), (delegate, for_many)),
        ("/api/patients/{}", (delegate, for_few), (delegate, for_many)),
        ("/api/mappings?limit=5", (delegate, for_few), (delegate, for_many)),
    ):
        of_few = rows_read(small[0], url.format(first), small[1], database)
        of_many = rows_read(large[0], url.format(other), large[1], database)
        assert of_many <= of_few + 20, (url, of_few, of_many)
        assert of_few < 100, (url, of_few)


def test_a_change_of_one_mapping_reads_as_little_after_thousands_were_closed_on_the_same_connection(
    ann: Client, doctor: int, sign_up: SignUp, database: Database
) -> None:
    eve = sign_up("Eve")
    others = eve.create("/api/doctors", name="Other", specialty="Time")["id"]
    link(eve, others, eve)
    _, mapping = opened(eve, others)
    _open_many(database, ann, doctor, 5000)
    _open_many(database, eve, others, 50_000)
    with database.connect() as connection:
        connection.execute(
            """
            INSERT INTO opened_words (doctor_id, word, patient_id, words)
            SELECT doctor_id, word, p.id, words
              FROM mappings m
              JOIN patients p ON p.id = patient_id
             CROSS JOIN string_to_table(words, ' ') AS word
             WHERE access <> 'none'
            ON CONFLICT DO NOTHING
            """
        )
        connection.execute("VACUUM ANALYZE")
    read = []
    with database.connect("healthcare_api") as connection:
        for user, statement, id in (
            (ann, "SELECT unlink_doctor(%s, NULL)", doctor),
            (eve, "UPDATE mappings SET access = 'write' WHERE id = %s", mapping),
        ):
            before = _rows_read_so_far(database, connection)
            with connection.transaction():
                connection.execute("SELECT act_as(%s, 'user', 'test')", [user.user["id"]])
                connection.execute(statement, [id])
            read.append(_rows_read_so_far(database, connection) - before)
    assert read[0] > 5000
    assert read[1] < 200


def test_a_doctor_searches_its_opened_patients_in_the_order_of_words(
    ann: Client, bob: Client, doctor: int, sign_up: SignUp
) -> None:
    eve = sign_up("Eve")
    url = "/api/practice/patients?q="
    bob.get(f"{url}a%20b%20c%20d%20e%20f%20g%20h%20i").refuse(422, "validation")  # also while none is opened
    owners = [(eve, "Smithers Bo"), (ann, "Anna SMITH"), (eve, "Smithson Smith Anna"), (ann, "Γιώργος")]
    ids = [opened(owner, doctor, "read", name)[0]["id"] for owner, name in owners]
    opened(eve, doctor, "none", "Smith Anna")

    def found(q: str, limit: int = 100) -> list[object]:
        return [patient["id"] for patient in bob.walk(f"{url}{quote(q)}&limit={limit}")]

    for limit in (1, 2, 100):
        assert found("smith", limit) == [ids[1], ids[2], ids[0]]
        assert found("smith an", limit) == [ids[1], ids[2]]
    assert found("ΓΙΏΡΓΟΣ") == ids[3:]
    assert found("nobody") == found("") == found("%") == []
    ann.get(f"{url}smith").refuse(404, "not-found")
