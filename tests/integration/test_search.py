"""Searches against a model that looks at every name, in lists long enough for each way a search can go."""

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthcare.fields import encode_cursor
from tests.conftest import Database
from tests.gateway import Client

MANY = 1000  # hits of a word, from which on a search does not put them all in order
NUMBER = 4500


def name(n: int) -> str:
    """The name of the n-th patient or doctor: some words are few, many, dense, far back, alike, or with no other."""
    words = ["anna" if n % 3 == 0 else "bela" if n % 3 == 1 else "carlos"]
    words += [f"dense{n}"] * (n % 2) + [f"seldom{n}"] * (n % 4 == 1) + [f"back{n}"] * (n > NUMBER - 1.2 * MANY)
    words += ["below"] * (n <= MANY - 1) + ["exact"] * (n <= MANY) + ["above"] * (n <= MANY + 1)
    words += [f"less{n}"] * (n <= MANY - 1) + [f"just{n}"] * (n <= MANY) + [f"more{n}"] * (n <= MANY + 1)
    words += ["smith", "smithers", "smithson"][: n % 5] + ["rare"] * (n % 700 == 0) + ["late"] * (n > NUMBER - 3)
    words += [f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] * (n % 600 == 0)
    return " ".join(words)


NAMES = {n: name(n) for n in range(1, NUMBER + 1)}
SPECIALTIES = {n: "Common" if n % 3 else "Few" if n % 300 else "Other" for n in NAMES}
BEGINNINGS = [
    *("a", "anna", "bela", "carlos", "b", "d", "dense", "dense1", "dense45", "seldom", "seldom1", "back", "back44"),
    *("below", "exact", "above", "less", "just", "more", "s", "smith", "smithers", "smiths", "rare", "late", "l"),
    *("w", "wa", "wz", "nobody", "ann", "zzz"),
]


def expected(words: list[str], after: int, limit: int, specialty: str | None = None) -> list[int]:
    matches = (
        n
        for n, of in NAMES.items()
        if n > after
        and (specialty is None or SPECIALTIES[n] == specialty)
        and all(re.search(rf"\b{word}", of) for word in words)
    )
    return [n for n, _ in zip(matches, range(limit), strict=False)]


@pytest.fixture
def full(ann: Client, bob: Client, database: Database) -> Client:
    """Ann with patients of these names and ids, others of Bob's with the same, and such doctors."""
    with database.connect() as connection:
        connection.execute("ALTER TABLE patients DISABLE TRIGGER audit")
        connection.execute("ALTER TABLE doctors DISABLE TRIGGER audit")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE named (id bigint, name text, specialty text)")
            with cursor.copy("COPY named FROM STDIN") as copy:
                for n, text in NAMES.items():
                    copy.write_row((n, text, SPECIALTIES[n]))
        mine = "INSERT INTO patients (id, owner_id, name) SELECT id, %s, name FROM named ORDER BY id"
        connection.execute(mine, [ann.user["id"]])
        others = "INSERT INTO patients (id, owner_id, name) SELECT 100000 + id, %s, name FROM named ORDER BY id"
        connection.execute(others, [bob.user["id"]])
        connection.execute("INSERT INTO doctors (id, name, specialty) SELECT * FROM named ORDER BY id")
        connection.execute("SELECT setval('patients_id_seq', 200000), setval('doctors_id_seq', 200000)")
        connection.execute("ANALYZE")
        connection.execute("SELECT pg_stat_force_next_flush()")
    return ann


def ids(client: Client, url: str, words: list[str], after: int, limit: int, **more: str) -> list[int]:
    query = "".join(f"&{field}={quote(value)}" for field, value in more.items())
    cursor = f"&cursor={encode_cursor(after)}" if after else ""
    page = client.get(f"{url}?q={quote(' '.join(words))}&limit={limit}{cursor}{query}").expect(200)
    return [item["id"] for item in page["items"]]


def test_a_search_finds_what_a_look_at_every_name_does(full: Client) -> None:
    words = st.lists(st.sampled_from(BEGINNINGS), min_size=1, max_size=3)
    cursors = st.one_of(st.just(0), st.integers(0, NUMBER), st.integers(NUMBER - 50, NUMBER))
    specialties = st.sampled_from([None, "Common", "Few", "Other"])

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(words=words, after=cursors, limit=st.sampled_from([1, 20, 100]), specialty=specialties)
    @example(words=["anna", "bela"], after=0, limit=20, specialty=None)
    @example(words=["back"], after=0, limit=100, specialty=None)
    @example(words=["back", "seldom"], after=0, limit=100, specialty="Few")
    @example(words=["w"], after=0, limit=1, specialty=None)
    def check(words: list[str], after: int, limit: int, specialty: str | None) -> None:
        assert ids(full, "/api/patients", words, after, limit) == expected(words, after, limit)
        filters = {"specialty": specialty.upper()} if specialty else {}
        found = ids(full, "/api/doctors", words, after, limit, **filters)
        assert found == expected(words, after, limit, specialty)

    check()


def test_a_walk_through_the_pages_of_a_search_meets_every_hit_once(full: Client) -> None:
    for word in ("anna", "dense", "back", "exact", "just", "smith", "w", "rare"):
        for url in ("/api/patients", "/api/doctors"):
            found = [item["id"] for item in full.walk(f"{url}?q={word}&limit=100")]
            assert found == expected([word], 0, NUMBER), (url, word)


def table_scans(client: Client, folder: str, database: Database) -> object:
    """How often a table was read from end to end, by PostgreSQL's own count, which has what functions do as well."""
    connection = client.gateway.environments[folder].modules["healthcare.database.connection"].connect()
    connection.execute("SELECT pg_stat_force_next_flush()")
    return database.value("SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname ~ '^(patient|doctor)'")


def test_no_search_reads_a_table_from_end_to_end(full: Client, database: Database) -> None:
    for url in ("/api/patients?q=", "/api/doctors?q=", "/api/doctors?specialty=few&q="):
        folder = url.split("?")[0].removeprefix("/api/")
        full.get(url).expect(200)
        before = table_scans(full, folder, database)
        for words in (*BEGINNINGS, "anna bela", "back dense", "anna rare"):
            full.get(f"{url}{quote(words)}").expect(200)
            assert table_scans(full, folder, database) == before, (url, words)


def test_creating_and_renaming_reads_no_table_from_end_to_end(full: Client, database: Database) -> None:
    for folder in ("patients", "doctors"):
        body = {"name": "Ann"} | ({"specialty": "Few"} if folder == "doctors" else {})
        full.post(f"/api/{folder}", body).expect(201)
        before = table_scans(full, folder, database)
        row = full.post(f"/api/{folder}", body).expect(201)
        full.patch(f"/api/{folder}/{row['id']}", {"name": "Zoë"}).expect(200)
        assert table_scans(full, folder, database) == before, folder


def test_a_page_of_a_long_list_reads_no_more_than_a_page(full: Client, database: Database) -> None:
    """Also where the average list is little more than a page, and to sort all of it looks cheap to the planner."""
    with database.connect() as connection:
        connection.execute(
            """
            ALTER TABLE mappings DISABLE TRIGGER audit;
            INSERT INTO users (id, name, email, password_hash)
            SELECT 1000 + n, 'User', n || '@example.org', 'none' FROM generate_series(1, 1000) n;
            INSERT INTO patients (owner_id, name) SELECT 1001 + n % 1000, 'Ann' FROM generate_series(1, 20000) n;
            INSERT INTO mappings (owner_id, patient_id, doctor_id)
            SELECT owner_id, id, 1 FROM patients WHERE id <= 4500 OR id > 200000 ORDER BY id % 4999;
            """
        )
        connection.execute("VACUUM ANALYZE mappings")
        connection.execute("SELECT pg_stat_force_next_flush()")
    read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'mappings'"
    full.get("/api/mappings").expect(200)
    table_scans(full, "mappings", database)
    before = database.value(read)
    assert len(full.get("/api/mappings").expect(200)["items"]) == 20
    table_scans(full, "mappings", database)
    assert int(str(database.value(read))) - int(str(before)) < 100
