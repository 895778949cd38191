"""Many who want the same time, each with a connection of their own; and whatever is done to a doctor's day."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.booking import HOURS, book, booking, free_times, later, new_doctor, new_patient
from tests.conftest import Database
from tests.gateway import Answer, Client, Environment, Gateway

FORTY = 40
SECONDS = 3


@pytest.fixture(scope="module")
def forty_environments() -> list[Environment]:
    return [Environment(Path("functions/appointments")) for _ in range(FORTY)]


@pytest.fixture
def devices(gateway: Gateway, forty_environments: list[Environment]) -> Iterator[Callable[[Client], list[Client]]]:
    """One client's app on forty devices."""
    yield lambda client: [
        Client(Gateway({**gateway.environments, "appointments": environment}), client.token, client.user)
        for environment in forty_environments
    ]
    for environment in forty_environments:
        environment.disconnect()


Devices = Callable[[Client], list[Client]]


def _at_once(calls: Iterable[Callable[[], Answer]]) -> list[Answer]:
    """Their answers, in the order of the calls; none takes long."""
    waiting = list(calls)
    start = threading.Barrier(len(waiting) + 1)

    def call(this: Callable[[], Answer]) -> Answer:
        start.wait()
        return this()

    with ThreadPoolExecutor(len(waiting)) as pool:
        answers = [pool.submit(call, this) for this in waiting]
        start.wait()
        started = time.monotonic()
        found = [answer.result() for answer in answers]
        assert time.monotonic() - started < SECONDS
    return found


def _slugs(answers: Iterable[Answer]) -> Counter[str]:
    return Counter(answer.json.get("type", "booked").removeprefix("/problems/") for answer in answers)


@pytest.mark.parametrize("step", [0, 5])
def test_of_forty_who_want_one_time_or_start_five_minutes_apart_one_gets_it(
    ann: Client, bob: Client, devices: Devices, database: Database, step: int
) -> None:
    doctor = new_doctor(ann, step_minutes=5, visits=[HOURS["visits"][0] | {"minutes": 240}])
    patients = [new_patient(bob) for _ in range(FORTY)]
    first = free_times(bob, doctor)[0]
    answers = _at_once(
        partial(app.post, "/api/appointments", booking(patient, doctor, later(first, minutes=number * step)))
        for number, (app, patient) in enumerate(zip(devices(bob), patients, strict=True))
    )
    assert _slugs(answers) == {"booked": 1, "slot-taken": FORTY - 1}
    assert database.value("SELECT count(*) FROM appointments") == 1


def test_forty_who_want_forty_times_of_a_doctor_all_get_theirs(ann: Client, bob: Client, devices: Devices) -> None:
    doctor = new_doctor(ann, bookings_per_account=FORTY)
    times = free_times(bob, doctor)[: 2 * FORTY : 2]
    patients = [new_patient(bob) for _ in range(FORTY)]
    answers = _at_once(
        partial(app.post, "/api/appointments", booking(patient, doctor, starts_at))
        for app, patient, starts_at in zip(devices(bob), patients, times, strict=True)
    )
    assert _slugs(answers) == {"booked": FORTY}


def test_a_patient_who_is_booked_with_forty_doctors_at_once_has_one_appointment(
    ann: Client, bob: Client, devices: Devices
) -> None:
    doctors = [new_doctor(ann) for _ in range(FORTY)]
    starts_at, patient = free_times(bob, doctors[0])[0], new_patient(bob)
    answers = _at_once(
        partial(app.post, "/api/appointments", booking(patient, doctor, starts_at))
        for app, doctor in zip(devices(bob), doctors, strict=True)
    )
    assert _slugs(answers) == {"booked": 1, "patient-busy": FORTY - 1}


def test_two_patients_and_two_doctors_crosswise_do_not_wait_for_each_other(
    ann: Client, bob: Client, devices: Devices
) -> None:
    doctors, patients = [new_doctor(ann) for _ in range(2)], [new_patient(bob) for _ in range(2)]
    apps = devices(bob)
    for starts_at in free_times(bob, doctors[0])[:16:2]:
        answers = _at_once(
            partial(app.post, "/api/appointments", booking(patients[patient], doctors[doctor], starts_at))
            for app, (doctor, patient) in zip(apps, itertools.product((0, 1), (1, 0)), strict=False)
        )
        slugs = _slugs(answers)
        assert slugs["booked"] in (1, 2)
        assert slugs.keys() <= {"booked", "slot-taken", "patient-busy"}


def test_one_key_used_by_forty_at_once_books_once(ann: Client, bob: Client, devices: Devices) -> None:
    doctor, patient = new_doctor(ann), new_patient(bob)
    body, headers = booking(patient, doctor, free_times(bob, doctor)[0]), {"Idempotency-Key": "one"}
    answers = _at_once(partial(app.post, "/api/appointments", body, headers=headers) for app in devices(bob))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len(bob.walk("/api/appointments")) == 1


def test_a_swap_at_once_leaves_both_where_they_are(ann: Client, bob: Client, devices: Devices) -> None:
    doctor = new_doctor(ann)
    apps, times = devices(bob), free_times(bob, doctor)
    made = [book(bob, new_patient(bob), doctor, starts_at) for starts_at in (times[0], times[4])]
    for _ in range(5):
        answers = _at_once(
            partial(app.post, f"/api/appointments/{mine['id']}/reschedule", {"starts_at": other["starts_at"]})
            for app, mine, other in zip(apps, made, reversed(made), strict=False)
        )
        assert _slugs(answers) == {"slot-taken": 2}
        assert bob.walk("/api/appointments") == made


def test_a_move_and_a_booking_of_one_time_do_not_both_get_it(ann: Client, bob: Client, devices: Devices) -> None:
    doctor = new_doctor(ann)
    apps, times = devices(bob), free_times(bob, doctor)
    mine, other = new_patient(bob), new_patient(bob)
    for number in range(0, 40, 8):
        moved = book(bob, mine, doctor, times[number])["id"]
        answers = _at_once(
            [
                partial(apps[0].post, f"/api/appointments/{moved}/reschedule", {"starts_at": times[number + 4]}),
                partial(apps[1].post, "/api/appointments", booking(other, doctor, times[number + 4])),
            ]
        )
        assert _slugs(answers) == {"booked": 1, "slot-taken": 1}


def test_no_booking_ends_up_in_a_closure_that_is_made_meanwhile(ann: Client, bob: Client, devices: Devices) -> None:
    doctor = new_doctor(ann)
    apps, times = devices(bob), free_times(bob, doctor)
    closer = Client(devices(ann)[FORTY - 1].gateway, ann.token, ann.user)
    patients = [new_patient(bob) for _ in range(8)]
    for number in range(0, 48, 8):
        closure = {"starts_at": times[number], "ends_at": times[number + 4]}
        closed, *answers = _at_once(
            [
                partial(closer.post, f"/api/doctors/{doctor}/closures", closure),
                *(
                    partial(app.post, "/api/appointments", booking(patient, doctor, times[number + which % 4]))
                    for which, (app, patient) in enumerate(zip(apps, patients, strict=False))
                ),
            ]
        )
        slugs = _slugs(answers)
        if closed.status == 201:
            assert slugs == {"not-offered": 8}
        else:
            closed.refuse(409, "bookings-in-the-way")
            assert slugs["booked"] >= 1
            assert slugs.keys() <= {"booked", "slot-taken", "not-offered"}


def test_a_patient_is_not_deleted_while_it_is_being_booked(ann: Client, bob: Client, devices: Devices) -> None:
    doctor = new_doctor(ann)
    app = devices(bob)[0]
    for starts_at in free_times(bob, doctor)[:20:2]:
        patient = new_patient(bob)
        booked, deleted = _at_once(
            [
                partial(app.post, "/api/appointments", booking(patient, doctor, starts_at)),
                partial(bob.delete, f"/api/patients/{patient}"),
            ]
        )
        assert (booked.status, deleted.status) in {(201, 409), (404, 204)}


# A doctor's day -----------------------------------------------------------------------------------------------------

STEP = 15
DAY = 24 * 60


class DoctorsDay(RuleBasedStateMachine):
    """Whatever is booked, moved, cancelled and closed: the API says what a simple model says.

    Times are minutes from the beginning of a day to come. The model knows of intervals only.
    """

    ann: Client
    bob: Client
    appointments: Bundle[int] = Bundle("appointments")

    @initialize(buffer=st.sampled_from([0, 10]), length=st.sampled_from([15, 40, 60]))
    def open(self, buffer: int, length: int) -> None:
        self.buffer, self.length = buffer, length
        weekly = [window | {"from": "08:00", "to": "12:00"} for window in HOURS["weekly"]]
        visits = [HOURS["visits"][0] | {"minutes": length}]
        self.doctor = new_doctor(
            self.ann, weekly=weekly, visits=visits, buffer_minutes=buffer, bookings_per_account=1000
        )
        self.patient = new_patient(self.bob)
        tomorrow = free_times(self.bob, self.doctor, f"&from={later(_midnight(), days=1)}")[0]
        self.midnight = later(tomorrow, hours=-8)
        self.booked: dict[int, int] = {}  # the start by id
        self.closed: dict[int, tuple[int, int]] = {}

    @rule(target=appointments, start=st.integers(30, 50).map(lambda n: n * STEP))
    def book(self, start: int) -> int:
        answer = self.bob.post("/api/appointments", booking(self.patient, self.doctor, self.time(start)))
        assert _slugs([answer]) == {self.outcome(start): 1}
        if answer.status == 201:
            self.booked[answer.json["id"]] = start
            return int(answer.json["id"])
        return 0

    @rule(appointment=appointments, start=st.integers(30, 50).map(lambda n: n * STEP))
    def move(self, appointment: int, start: int) -> None:
        answer = self.bob.post(f"/api/appointments/{appointment}/reschedule", {"starts_at": self.time(start)})
        if not appointment:
            answer.refuse(422, "validation")
        elif appointment not in self.booked:
            answer.refuse(409, "wrong-status")
        else:
            expected = "booked" if start == self.booked[appointment] else self.outcome(start, appointment)
            assert _slugs([answer]) == {expected: 1}
            if expected == "booked":
                self.booked[appointment] = start

    @rule(appointment=consumes(appointments))
    def cancel(self, appointment: int) -> None:
        if appointment:
            self.bob.post(f"/api/appointments/{appointment}/cancel", {}).expect(200)
            self.booked.pop(appointment, None)

    @rule(start=st.integers(7 * 60, 12 * 60), length=st.integers(1, 120))
    def close(self, start: int, length: int) -> None:
        body = {"starts_at": self.time(start), "ends_at": self.time(start + length)}
        answer = self.ann.post(f"/api/doctors/{self.doctor}/closures", body)
        in_the_way = [id for id, at in self.booked.items() if at < start + length and start < self.busy_until(at)]
        if in_the_way:
            assert answer.refuse(409, "bookings-in-the-way")["appointments"] == sorted(in_the_way)
        else:
            self.closed[answer.expect(201)["id"]] = (start, start + length)

    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        if self.closed:
            closure = data.draw(st.sampled_from(sorted(self.closed)))
            self.ann.delete(f"/api/doctors/{self.doctor}/closures/{closure}").expect(204)
            del self.closed[closure]

    @invariant()
    def what_is_free_is_what_can_be_booked(self) -> None:
        if hasattr(self, "booked"):
            found = free_times(self.bob, self.doctor, f"&from={self.midnight}&to={self.time(DAY)}")
            fits = range(8 * 60, 12 * 60 - self.length + 1, STEP)
            assert found == [self.time(start) for start in fits if self.outcome(start) == "booked"]

    def time(self, minutes: int) -> str:
        return later(self.midnight, minutes=minutes)

    def busy_until(self, start: int) -> int:
        return start + self.length + self.buffer

    def outcome(self, start: int, appointment: int | None = None) -> str:
        """What the API says to a booking, or to a move of `appointment`."""
        busy_until = self.busy_until(start)
        if not 8 * 60 <= start <= 12 * 60 - self.length:
            return "not-offered"
        if any(start < closed_until and closed < busy_until for closed, closed_until in self.closed.values()):
            return "not-offered"
        others = [other for id, other in self.booked.items() if id != appointment]
        if any(start < self.busy_until(other) and other < busy_until for other in others):
            return "slot-taken"
        return "booked"


def test_a_doctors_day_is_what_a_model_of_it_says(ann: Client, bob: Client) -> None:
    class Day(DoctorsDay):
        pass

    Day.ann, Day.bob = ann, bob
    run_state_machine_as_test(Day, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


def _midnight() -> str:
    return time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
