"""Sequences of creations with and without keys, against a model of what each has to answer."""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import Database
from tests.gateway import Answer, Client

USERS = st.integers(0, 1)
KEYS = st.sampled_from(["a", "A", "b"])
# In each row the bodies mean the same.
BODIES: list[tuple[str, list[dict[str, Any]]]] = [
    ("/api/patients", [{"name": "Zoë"}, {"name": " Zoë\t", "gender": None}]),
    ("/api/patients", [{"name": "Zoë", "gender": "female"}, {"gender": "female", "name": "Zoë"}]),
    ("/api/patients", [{"name": "zoë"}]),
    ("/api/doctors", [{"name": "Zoë", "specialty": "Time"}, {"specialty": " Time ", "name": "Zoë", "phone": None}]),
]
KINDS = st.integers(0, len(BODIES) - 1)


@dataclass
class Record:
    kind: int
    answer: Answer
    age: int = 0  # hours


class Idempotency(RuleBasedStateMachine):
    def __init__(self, users: list[Client], database: Database) -> None:
        super().__init__()
        self.users = users
        self.database = database
        self.records: dict[tuple[int, str], Record] = {}
        self.rows: set[tuple[str, int]] = set()
        with database.connect() as connection:
            connection.execute("TRUNCATE patients, doctors, idempotency_keys CASCADE")

    def live(self, user: int, key: str) -> Record | None:
        record = self.records.get((user, key))
        return record if record and record.age < 24 else None

    @rule(user=USERS, kind=KINDS, data=st.data())
    def create_without_a_key(self, user: int, kind: int, data: st.DataObject) -> None:
        url, bodies = BODIES[kind]
        created = self.users[user].post(url, data.draw(st.sampled_from(bodies))).expect(201)
        self._new_row(url, created["id"])

    @rule(user=USERS, key=KEYS, kind=KINDS, data=st.data())
    def create(self, user: int, key: str, kind: int, data: st.DataObject) -> None:
        url, bodies = BODIES[kind]
        body = data.draw(st.sampled_from(bodies))
        answer = self.users[user].post(url, body, headers={"Idempotency-Key": key})
        record = self.live(user, key)
        if record is None:
            self._new_row(url, answer.expect(201)["id"])
            self.records[user, key] = Record(kind, answer)
        elif record.kind == kind:
            assert (answer.status, answer.text) == (201, record.answer.text)
            for header in ("Location", "ETag", "Content-Type"):
                assert answer.headers[header] == record.answer.headers[header]
        else:
            answer.refuse(422, "idempotency-key-reused")

    @rule(user=USERS, key=KEYS)
    def fail_to_create(self, user: int, key: str) -> None:
        """Nobody has such a patient; the key stays as free as it was."""
        answer = self.users[user].post(
            "/api/mappings", {"patient_id": 2**62, "doctor_id": 2**62}, headers={"Idempotency-Key": key}
        )
        if self.live(user, key):
            answer.refuse(422, "idempotency-key-reused")
        else:
            answer.refuse(404, "not-found")

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def delete_what_a_key_has_made(self, data: st.DataObject) -> None:
        (user, _), record = data.draw(st.sampled_from(sorted(self.records.items(), key=lambda item: item[0])))
        url, _ = BODIES[record.kind]
        row = url, record.answer.json["id"]
        self.users[user].delete(f"{url}/{row[1]}").expect(204 if row in self.rows else 404)
        self.rows.discard(row)

    @rule(hours=st.sampled_from([1, 11, 12, 23, 24]))
    def let_time_pass(self, hours: int) -> None:
        with self.database.connect() as connection:
            connection.execute("UPDATE idempotency_keys SET created_at = created_at - %s * interval '1 hour'", [hours])
        for record in self.records.values():
            record.age += hours

    @invariant()
    def the_database_holds_what_the_model_does(self) -> None:
        with self.database.connect() as connection:
            for url in ("/api/patients", "/api/doctors"):
                ids = connection.execute(f"SELECT id FROM {url.removeprefix('/api/')}").fetchall()
                assert {id for (id,) in ids} == {id for of, id in self.rows if of == url}
            stored = connection.execute(
                """
                SELECT user_id, key, response IS NOT NULL, created_at > now() - interval '24 hours'
                  FROM idempotency_keys
                """
            ).fetchall()
        numbers = {client.user["id"]: number for number, client in enumerate(self.users)}
        assert all(is_complete for _, _, is_complete, _ in stored)
        live = {(numbers[user_id], key) for user_id, key, _, is_live in stored if is_live}
        assert live == {of for of in self.records if self.live(*of)}

    def _new_row(self, url: str, id: int) -> None:
        assert (url, id) not in self.rows
        self.rows.add((url, id))


def test_a_key_gives_its_first_answer_for_a_day_and_one_row_ever(ann: Client, bob: Client, database: Database) -> None:
    run_state_machine_as_test(
        lambda: Idempotency([ann, bob], database),
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, database=None),
    )
