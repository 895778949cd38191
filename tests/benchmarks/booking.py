"""Booking under contention, free times and a doctor's calendar, beside FastAPI and Express: part of `make bench`.

    python -m tests.benchmarks.booking

Four environments of each peer book the same times of one doctor at once, half of which overlap; the rows say afterwards
whether a time was given twice. Free times and the calendar are asked of a doctor with 10 appointments and of one with
200,000. The peers keep appointments in a table of their own, without this API's constraints and triggers.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psycopg

from tests.benchmarks.peers import EXPRESS, FASTAPI, OURS, PEERS, Peer, prepared
from tests.benchmarks.warm import Warm
from tests.benchmarks.world import PATIENTS_EACH, PEER_ROLE, Event, Events, World, made

COMPARED = (OURS, FASTAPI, EXPRESS)
WRITERS = 4
TIMES = 200
ROUNDS = 3
BATCH = 50
FEW, MANY = 10, 200_000
# Ids: of doctors whose times are contested, one for each peer; then those with few and with many appointments. Their
# accounts are users of these numbers, and the writers are the users after them.
CONTESTED = {peer: number for number, peer in enumerate(COMPARED, start=1)}
WITH = {FEW: 11, MANY: 12}
ACCOUNTS, FIRST_WRITER = 100, 20

# What the peers have instead of `appointments`, with indexes as a careful team would make them.
PREPARE = f"""
CREATE TABLE peer_appointments (
    LIKE appointments INCLUDING DEFAULTS INCLUDING IDENTITY,
    PRIMARY KEY (id),
    FOREIGN KEY (owner_id, patient_id) REFERENCES patients (owner_id, id),
    FOREIGN KEY (doctor_id) REFERENCES doctors
);
CREATE INDEX ON peer_appointments (doctor_id, starts_at, id);
CREATE INDEX ON peer_appointments (patient_id, starts_at);
CREATE INDEX ON peer_appointments (owner_id, doctor_id, ends_at) WHERE status IN ('booked', 'arrived');
GRANT SELECT, INSERT ON peer_appointments TO {PEER_ROLE};
GRANT SELECT, UPDATE ON doctors TO {PEER_ROLE};
GRANT SELECT ON hours, closures TO {PEER_ROLE};

SET session_replication_role = replica;
INSERT INTO doctors (id, created_by, name, specialty, account_id)
SELECT id, 1, 'Dr. Grace Okafor', 'Cardiology', {ACCOUNTS} + id FROM unnest(%(doctors)s::bigint[]) AS id;
INSERT INTO hours (id, created_by, time_zone, visits, weekly, step_minutes, buffer_minutes, notice_minutes,
                   horizon_days, cancel_minutes, bookings_per_account)
SELECT id, 1, 'UTC', '[{{"code": "first", "name": "First visit", "minutes": 30, "modality": "any"}}]',
       (SELECT jsonb_agg(jsonb_build_object('day', day, 'from', '00:00', 'to', '24:00'))
          FROM unnest('{{monday,tuesday,wednesday,thursday,friday,saturday,sunday}}'::text[]) AS day),
       15, 0, 0, 365, 0, 1000
  FROM unnest(%(doctors)s::bigint[]) AS id
"""

# Half of ten lie ahead; all others are over.
FILL = """
INSERT INTO {} (owner_id, patient_id, doctor_id, visit, visit_name, modality, starts_at, ends_at, busy_until,
                time_zone, status)
SELECT p.owner_id, p.id, %(doctor)s, 'first', 'First visit', 'video', starts_at, starts_at + interval '30 minutes',
       starts_at + interval '30 minutes', 'UTC', CASE WHEN starts_at > now() THEN 'booked' ELSE 'fulfilled' END
  FROM generate_series(1, %(number)s) AS number
 CROSS JOIN LATERAL (
       SELECT date_trunc('day', now()) + (6 - number) * CASE WHEN number < 6 THEN interval '1 day'
                                                             ELSE interval '1 hour' END) AS t (starts_at)
  JOIN patients p ON p.id = %(first)s + number %% %(patients)s
"""

TWICE = """
SELECT count(*)
  FROM {0} a
  JOIN {0} b ON b.doctor_id = a.doctor_id AND b.id > a.id AND b.starts_at < a.busy_until AND b.busy_until > a.starts_at
 WHERE a.doctor_id = %s AND a.status = 'booked' AND b.status = 'booked'
"""


def main() -> None:
    if sys.platform != "linux":
        sys.exit("The benchmark needs Linux, for AWS's runtime interface emulator.")
    with ExitStack() as stack:
        peers = [peer for peer in prepared() if peer.name in COMPARED]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)
        print(measured(peers, stack.enter_context(made(folder, PEERS))))


def measured(peers: list[Peer], world: World) -> str:
    """The table, in Markdown."""
    _fill(world)
    figures: dict[tuple[str, str], float] = {}
    for peer in peers:
        figures |= {(name, peer.name): value for name, value in _contended(peer, world).items()}
    for route in ("slots", "calendar"):
        for (size, peer_name), took in _sized(peers, world, route).items():
            figures[f"{route} {size}", peer_name] = took
    return _table(figures)


def _table_of(peer: str) -> str:
    return "appointments" if peer == OURS else "peer_appointments"


def _fill(world: World) -> None:
    doctors = [*CONTESTED.values(), *WITH.values()]
    with psycopg.connect(
        world.server.conninfo(dbname="benchmark"), autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(PREPARE, {"doctors": doctors})
        first = world.first_patient(ACCOUNTS)
        for table in ("appointments", "peer_appointments"):
            for number, (size, doctor) in enumerate(WITH.items()):
                values = {"number": size, "doctor": doctor, "patients": PATIENTS_EACH}
                connection.execute(FILL.format(table), values | {"first": first + number * PATIENTS_EACH})
        connection.execute("VACUUM ANALYZE")


def _event(route: str, user: int, doctor: int, **fields: object) -> Event:
    event = Events(user, 1, "").make(route, **fields)
    if route == "slots":
        event["path"] = f"/api/doctors/{doctor}/slots"
        event["requestContext"]["path"] = f"/v1{event['path']}"
        event["pathParameters"] = {"id": str(doctor)}
    if route == "calendar":
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event["queryStringParameters"] = {"limit": "20", "from": now}
        event["multiValueQueryStringParameters"] = {"limit": ["20"], "from": [now]}
    return event


def _contended(peer: Peer, world: World) -> dict[str, float]:
    program = peer.program("book")
    assert program
    doctor = CONTESTED[peer.name]
    writers = [FIRST_WRITER + doctor * WRITERS + number for number in range(WRITERS)]
    first = {writer: world.first_patient(writer) for writer in writers}
    # Of a day 95 times: at 23:45 no visit begins that ends before midnight.
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    statuses: Counter[str] = Counter()
    rates, waits = [], []
    with ExitStack() as stack:
        warm = {writer: stack.enter_context(Warm(program, world)) for writer in writers}
        pool = stack.enter_context(ThreadPoolExecutor(WRITERS))
        for number in range(ROUNDS + 1):
            batches = {
                writer: [
                    _event(
                        "book",
                        writer,
                        doctor,
                        doctor_id=doctor,
                        patient_id=first[writer] + place % PATIENTS_EACH,
                        starts_at=(
                            begin + timedelta(days=3 * number + place // 95, minutes=15 * (place % 95))
                        ).isoformat(),
                    )
                    for place in range(TIMES)
                ]
                for writer in writers
            }
            started = time.perf_counter()
            reports = list(pool.map(lambda item: warm[item[0]].ask("book", item[1]), batches.items()))
            took = time.perf_counter() - started
            if number:  # the first warms up; what it booked is looked at all the same
                rates.append(WRITERS * TIMES / took)
                waits.append(sum(report["wall"] for report in reports) / (WRITERS * TIMES))
            for report in reports:
                statuses.update(report["statuses"])
    if unexpected := set(statuses) - {"201", "409"} - {status for status in statuses if status.startswith("5")}:
        sys.exit(f"{peer.name} answered a booking with {unexpected}: {reports[0]['answer']}")
    with psycopg.connect(world.server.conninfo(dbname="benchmark")) as connection:
        twice = connection.execute(TWICE.format(_table_of(peer.name)), [doctor]).fetchone()
    assert twice
    failed = sum(number for status, number in statuses.items() if status.startswith("5"))
    return {
        "rate": median(rates),
        "wait": median(waits),
        "booked": statuses["201"],
        "refused": statuses["409"],
        "twice": twice[0],
        "failed": failed,
    }


def _sized(peers: list[Peer], world: World, route: str) -> dict[tuple[int, str], float]:
    """Seconds; in turns, so that a slow moment is everybody's."""
    times: dict[tuple[int, str], list[float]] = {}
    with ExitStack() as stack:
        warm = {}
        for peer in peers:
            program = peer.program(route)
            assert program
            warm[peer.name] = stack.enter_context(Warm(program, world))
        for number in range(10):
            for name, environment in warm.items():
                for size, doctor in WITH.items():
                    took = environment.call(route, [_event(route, ACCOUNTS + doctor, doctor)] * BATCH)
                    if number:  # the first warms up
                        times.setdefault((size, name), []).append(took.wall)
    return {key: median(values) for key, values in times.items()}


def _table(figures: Mapping[tuple[str, str], float]) -> str:
    def line(label: str, name: str, digits: int = 0, scale: float = 1, ratios: bool = False) -> str:
        values = [figures[name, peer] * scale for peer in COMPARED]
        cells = [f"{value:.{digits}f}" for value in values]
        cells += [f"{values[0] / other:.2f}" if ratios else "" for other in values[1:]]
        return f"| {label} | {' | '.join(cells)} |"

    lines = [
        "| | this API | FastAPI | Express | ÷ FastAPI | ÷ Express |",
        "|---|--:|--:|--:|--:|--:|",
        f"| **{WRITERS} writers at {TIMES} contested times, {ROUNDS + 1} rounds** | | | | | |",
        line("requests a second", "rate", ratios=True),
        line("ms a request", "wait", 2, 1000, ratios=True),
        line("booked", "booked"),
        line("refused (409)", "refused"),
        line("double-booked", "twice"),
        line("failed (5xx)", "failed"),
    ]
    for title, route in (("Free times of a week, ms", "slots"), ("A calendar page, ms", "calendar")):
        lines.append(f"| **{title}** | | | | | |")
        lines += [line(f"of {size:,} appointments", f"{route} {size}", 2, 1000, ratios=True) for size in WITH]
        growth = [f"{figures[f'{route} {MANY}', peer] / figures[f'{route} {FEW}', peer]:.2f}" for peer in COMPARED]
        lines.append(f"| ratio | {' | '.join(growth)} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
