import statistics
import time
from base64 import urlsafe_b64decode
from hashlib import sha256
from hmac import digest
from unicodedata import normalize

import bcrypt
import pytest

from tests.conftest import Database, LogLines
from tests.gateway import Client

ACCOUNT = {"name": "Ann", "email": "Ann@Example.org", "password": "correct horse"}


def test_a_new_user_is_a_user_and_shows_no_hash(anonymous: Client, database: Database) -> None:
    answer = anonymous.post("/api/auth/register", ACCOUNT)
    user = answer.expect(201)
    assert user.keys() == {"id", "name", "email", "email_verified", "role", "created_at", "updated_at"}
    assert (user["name"], user["email"], user["role"]) == ("Ann", "Ann@Example.org", "user")
    assert answer.headers["Location"] == "/v1/api/auth/me"
    stored = str(database.value("SELECT password_hash FROM users"))
    assert stored.startswith("$2b$04$")
    assert bcrypt.checkpw(b"correct horse", stored.encode())


def test_an_email_address_is_taken_in_any_case(anonymous: Client, database: Database) -> None:
    anonymous.post("/api/auth/register", ACCOUNT).expect(201)
    again = ACCOUNT | {"email": " aNN@eXAMPLE.ORG "}
    anonymous.post("/api/auth/register", again).refuse(409, "email-taken")
    assert database.value("SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "1234567",
        "é" * 37,
        "x" * 73,
        "nul\x00nul\x00",
        "ann@example.org",
        "ANN@example.ORG",
        "password1234",
        "aaaaaaaa",
        "        ",
        " Ann@example.org ",
        "QwertyUiop",
        None,
    ],
)
def test_a_weak_password_is_refused(anonymous: Client, database: Database, password: str | None) -> None:
    problem = anonymous.post("/api/auth/register", ACCOUNT | {"password": password}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/password"]
    assert password is None or password not in str(problem["errors"])
    assert database.value("SELECT count(*) FROM users") == 0


def test_a_password_of_72_bytes_counts_to_its_last_and_keeps_its_spaces(anonymous: Client) -> None:
    password = " " + "éèêë" * 8 + "éèê" + " "
    anonymous.post("/api/auth/register", ACCOUNT | {"password": password}).expect(201)
    login = {"email": ACCOUNT["email"], "password": password}
    anonymous.post("/api/auth/login", login).expect(200)
    anonymous.post("/api/auth/login", login | {"password": password.strip()}).refuse(401, "unauthenticated")


@pytest.mark.parametrize("field", ["role", "id", "password_hash", "version"])
def test_nobody_chooses_a_role_or_an_id(anonymous: Client, field: str) -> None:
    anonymous.post("/api/auth/register", ACCOUNT | {field: "admin"}).refuse(422, "validation")


def test_a_login_gives_tokens_and_the_user(anonymous: Client) -> None:
    user = anonymous.post("/api/auth/register", ACCOUNT).expect(201)
    tokens = anonymous.post("/api/auth/login", {"email": "ANN@example.org", "password": "correct horse"}).expect(200)
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "user"}
    assert (tokens["token_type"], tokens["expires_in"], tokens["user"]) == ("Bearer", 900, user)
    assert Client(anonymous.gateway, tokens["access_token"]).get("/api/auth/me").expect(200) == user


def test_an_unknown_address_and_a_wrong_password_answer_the_same(anonymous: Client) -> None:
    anonymous.post("/api/auth/register", ACCOUNT).expect(201)
    wrong = anonymous.post("/api/auth/login", {"email": ACCOUNT["email"], "password": "wrong horse"})
    unknown = anonymous.post("/api/auth/login", {"email": "bob@example.org", "password": "wrong horse"})
    wrong.refuse(401, "unauthenticated")
    assert unknown.json == wrong.json | {"request_id": unknown.json["request_id"]}
    assert wrong.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_a_cheaper_hash_is_replaced_at_login(
    anonymous: Client, database: Database, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    old = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode().replace("$2b$", prefix)
    _store_hash(database, old)
    settings = anonymous.gateway.environments["auth"].modules["healthcare.platform.settings"].settings
    monkeypatch.setenv("BCRYPT_COST", "5")
    settings.cache_clear()
    login = {"email": ACCOUNT["email"], "password": "correct horse"}
    anonymous.post("/api/auth/login", login | {"password": "wrong horse"}).refuse(401, "unauthenticated")
    assert database.value("SELECT password_hash FROM users") == old
    anonymous.post("/api/auth/login", login).expect(200)
    assert str(database.value("SELECT password_hash FROM users")).startswith("$2b$05$")
    anonymous.post("/api/auth/login", login).expect(200)
    monkeypatch.undo()
    settings.cache_clear()


def test_a_longer_password_of_another_system_counts_to_72_bytes(anonymous: Client, database: Database) -> None:
    _store_hash(database, bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())
    anonymous.post("/api/auth/login", {"email": ACCOUNT["email"], "password": "x" * 80}).expect(200)


def _store_hash(database: Database, password_hash: str) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO users (name, email, password_hash) VALUES ('Ann', %s, %s)", [ACCOUNT["email"], password_hash]
        )


def test_a_refresh_token_is_good_for_one_refresh(ann: Client, anonymous: Client) -> None:
    first = ann.tokens["refresh_token"]
    second = anonymous.post("/api/auth/refresh", {"refresh_token": first}).expect(200)
    assert second["user"]["id"] == ann.user["id"]
    assert second["refresh_token"] != first
    third = anonymous.post("/api/auth/refresh", {"refresh_token": second["refresh_token"]}).expect(200)
    anonymous.post("/api/auth/refresh", {"refresh_token": first}).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/refresh", {"refresh_token": third["refresh_token"]}).refuse(401, "unauthenticated")


def test_a_lost_answer_logs_nobody_out(ann: Client, anonymous: Client, database: Database) -> None:
    first = {"refresh_token": ann.tokens["refresh_token"]}
    answers = [anonymous.post("/api/auth/refresh", first).expect(200) for _ in range(3)]
    assert len({answer["refresh_token"] for answer in answers}) == 1
    _grow_older(database, 59)
    again = anonymous.post("/api/auth/refresh", first).expect(200)
    assert again["refresh_token"] == answers[0]["refresh_token"]
    _grow_older(database, 2)
    anonymous.post("/api/auth/refresh", first).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/refresh", {"refresh_token": again["refresh_token"]}).refuse(401, "unauthenticated")


def test_a_repetition_after_a_rotation_of_keys_gives_the_same_successor(
    ann: Client, anonymous: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"refresh_token": ann.tokens["refresh_token"]}
    successor = anonymous.post("/api/auth/refresh", first).expect(200)["refresh_token"]
    tokens = anonymous.gateway.environments["auth"].modules["healthcare.platform.tokens"]
    before = tokens._keys
    monkeypatch.setattr(tokens, "_keys", before._replace(current="new", keys={"new": b"n" * 32, **before.keys}))
    assert anonymous.post("/api/auth/refresh", first).expect(200)["refresh_token"] == successor
    assert anonymous.post("/api/auth/refresh", {"refresh_token": successor}).expect(200)["refresh_token"] != successor


def test_the_successor_cannot_be_made_from_the_token_alone(ann: Client, anonymous: Client) -> None:
    """Else whoever once saw a spent token could follow the chain."""
    first = ann.tokens["refresh_token"]
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    other = anonymous.post("/api/auth/login", login).expect(200)["refresh_token"]
    second, other_second = (
        anonymous.post("/api/auth/refresh", {"refresh_token": token}).expect(200)["refresh_token"]
        for token in (first, other)
    )
    content, successor = (urlsafe_b64decode(token) for token in (first, second))
    assert content[:16] == successor[:16]
    made = {sha256(content).digest(), sha256(content[16:]).digest(), digest(content[16:], content[:16], "sha256")}
    assert successor[16:] not in made
    assert urlsafe_b64decode(other_second)[16:] != successor[16:]


def test_reuse_ends_its_own_session_only(ann: Client, anonymous: Client, database: Database) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    other = anonymous.post("/api/auth/login", login).expect(200)
    for status in (200, 401):
        anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).expect(status)
        _grow_older(database, 61)
    anonymous.post("/api/auth/refresh", {"refresh_token": other["refresh_token"]}).expect(200)


def _grow_older(database: Database, seconds: int) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE sessions SET last_used_at = last_used_at - %s * interval '1 second'", [seconds])


def test_a_user_sees_their_sessions_and_ends_one(ann: Client, bob: Client, anonymous: Client) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    phone = anonymous.request("POST", "/api/auth/login", login, headers={"User-Agent": "Phone/1.0\t\N{ESCAPE}[31m"})
    sessions = ann.get("/api/auth/sessions").expect(200)["items"]
    assert [session.keys() for session in sessions] == [
        {"id", "created_at", "last_used_at", "expires_at", "user_agent"}
    ] * 2
    assert [session["user_agent"] for session in sessions] == [None, "Phone/1.0[31m"]
    bob.delete(f"/api/auth/sessions/{sessions[1]['id']}").refuse(404, "not-found")
    ann.delete(f"/api/auth/sessions/{sessions[1]['id']}").expect(204)
    ann.delete(f"/api/auth/sessions/{sessions[1]['id']}").refuse(404, "not-found")
    anonymous.post("/api/auth/refresh", {"refresh_token": phone.json["refresh_token"]}).refuse(401, "unauthenticated")
    assert [session["id"] for session in ann.get("/api/auth/sessions").json["items"]] == [sessions[0]["id"]]
    assert len(bob.get("/api/auth/sessions").json["items"]) == 1


def test_sessions_come_in_pages_and_show_when_they_were_used(ann: Client, anonymous: Client) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    for _ in range(2):
        anonymous.post("/api/auth/login", login).expect(200)
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).expect(200)
    first = ann.get("/api/auth/sessions?limit=2").expect(200)
    second = ann.get(f"/api/auth/sessions?limit=2&cursor={first['next_cursor']}").expect(200)
    assert [len(page["items"]) for page in (first, second)] == [2, 1]
    assert second["next_cursor"] is None
    assert first["items"][0]["last_used_at"] > first["items"][0]["created_at"]


def test_the_access_log_says_whose_account_somebody_tried_to_get_into(
    ann: Client, anonymous: Client, database: Database, log_lines: LogLines
) -> None:
    login = {"email": ann.user["email"], "password": "wrong horse"}
    anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/login", login | {"email": "nobody@example.org"}).refuse(401, "unauthenticated")
    for status in (200, 401, 401):  # good, used twice, its session ended
        anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).expect(status)
        _grow_older(database, 61)
    id = ann.user["id"]
    assert [(line["message"], line["status"], line.get("account_id")) for line in log_lines()] == [
        ("POST /api/auth/login", 401, id),
        ("POST /api/auth/login", 401, None),
        ("POST /api/auth/refresh", 200, id),
        ("POST /api/auth/refresh", 401, id),
        ("POST /api/auth/refresh", 401, None),
    ]


@pytest.mark.parametrize("token", ["x", "é", "A" * 64, "A" * 63, "=" * 64, "a b"])
def test_a_made_up_refresh_token_proves_nothing(anonymous: Client, token: str) -> None:
    anonymous.post("/api/auth/refresh", {"refresh_token": token}).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/logout", {"refresh_token": token}).expect(204)


def test_the_database_holds_no_refresh_token(ann: Client, database: Database) -> None:
    stored = str(database.value("SELECT string_agg(s::text, ' ') FROM sessions s"))
    assert ann.tokens["refresh_token"] not in stored


@pytest.mark.parametrize(
    "expired", ["expires_at = now()", "created_at = now() - interval '90 days', expires_at = now()"]
)
def test_a_session_ends_by_itself(ann: Client, anonymous: Client, database: Database, expired: str) -> None:
    with database.connect() as connection:
        connection.execute(f"UPDATE sessions SET {expired}")
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).refuse(401, "unauthenticated")


def test_a_refresh_prolongs_a_session_but_not_for_ever(ann: Client, anonymous: Client, database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE sessions SET created_at = now() - interval '89 days'")
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).expect(200)
    assert database.value("SELECT expires_at - created_at = interval '90 days' FROM sessions")


def test_logout_ends_the_session_also_with_a_spent_token(ann: Client, anonymous: Client) -> None:
    spent = ann.tokens["refresh_token"]
    tokens = anonymous.post("/api/auth/refresh", {"refresh_token": spent}).expect(200)
    assert anonymous.post("/api/auth/logout", {"refresh_token": spent}).expect(204) is None
    anonymous.post("/api/auth/logout", {"refresh_token": spent}).expect(204)
    anonymous.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]}).refuse(401, "unauthenticated")


def test_a_user_changes_their_name(ann: Client) -> None:
    changed = ann.patch("/api/auth/me", {"name": " Anna "}).expect(200)
    assert changed["name"] == "Anna"
    assert ann.get("/api/auth/me").json == changed
    for body in ({"email": "b@example.org"}, {"role": "admin"}, {"name": None}, {"name": ""}):
        ann.patch("/api/auth/me", body).refuse(422, "validation")


def test_a_new_password_ends_every_session(ann: Client, anonymous: Client) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    change = {"current_password": ann.user["password"], "new_password": "battery staple"}
    ann.post("/api/auth/password", change | {"current_password": "wrong horse"}).refuse(403, "forbidden")
    ann.post("/api/auth/password", change | {"new_password": "short"}).refuse(422, "validation")
    ann.post("/api/auth/password", change | {"new_password": ann.user["email"]}).refuse(422, "validation")
    anonymous.post("/api/auth/login", login).expect(200)
    ann.post("/api/auth/password", change).expect(204)
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/login", login | {"password": "battery staple"}).expect(200)


def test_failed_logins_are_slowed_for_that_account_from_that_address_only(
    ann: Client, bob: Client, anonymous: Client, database: Database
) -> None:
    login = {"email": ann.user["email"].upper(), "password": ann.user["password"]}
    for _ in range(5):
        anonymous.post("/api/auth/login", login | {"password": "wrong horse"}).refuse(401, "unauthenticated")
    answer = anonymous.post("/api/auth/login", login)
    answer.refuse(429, "too-many-requests")
    assert answer.headers["Retry-After"] == "1"
    anonymous.post("/api/auth/login", {"email": bob.user["email"], "password": bob.user["password"]}).expect(200)
    elsewhere = anonymous.request("POST", "/api/auth/login", login, source_ip="198.51.100.9")
    elsewhere.expect(200)
    time.sleep(1.1)
    anonymous.post("/api/auth/login", login | {"password": "wrong horse"}).refuse(401, "unauthenticated")
    assert anonymous.post("/api/auth/login", login).headers["Retry-After"] == "2"
    time.sleep(2.1)
    anonymous.post("/api/auth/login", login).expect(200)
    anonymous.post("/api/auth/login", login | {"password": "wrong horse"}).refuse(401, "unauthenticated")
    anonymous.post("/api/auth/login", login).expect(200)


def test_an_address_that_tries_many_accounts_is_slowed_for_all_that_are_not_known_there(
    ann: Client, bob: Client, anonymous: Client
) -> None:
    address, neighbour = {"source_ip": "2001:db8::1"}, {"source_ip": "2001:db8::ffff"}
    login = {client: {"email": client.user["email"], "password": client.user["password"]} for client in (ann, bob)}
    anonymous.request("POST", "/api/auth/login", login[bob], **neighbour).expect(200)
    for number in range(100):
        guess = {"email": f"user{number}@example.org", "password": "correct horse"}
        anonymous.request("POST", "/api/auth/login", guess, **address).refuse(401, "unauthenticated")
    answer = anonymous.request("POST", "/api/auth/login", login[ann], **neighbour)
    answer.refuse(429, "too-many-requests")
    assert answer.headers["Retry-After"] == "1"
    anonymous.request("POST", "/api/auth/login", login[bob], **neighbour).expect(200)
    anonymous.request("POST", "/api/auth/login", login[ann], source_ip="2001:db8:0:1::1").expect(200)


def test_a_login_that_has_to_wait_counts_for_nothing(ann: Client, anonymous: Client, database: Database) -> None:
    wrong = {"email": ann.user["email"], "password": "wrong horse"}
    for _ in range(5):
        anonymous.post("/api/auth/login", wrong).refuse(401, "unauthenticated")
    counted = database.value("SELECT array_agg(failures ORDER BY failures) FROM attempts")
    for _ in range(5):
        anonymous.post("/api/auth/login", wrong).refuse(429, "too-many-requests")
    assert database.value("SELECT array_agg(failures ORDER BY failures) FROM attempts") == counted


def test_another_spelling_of_the_address_gives_no_further_tries(anonymous: Client) -> None:
    account = ACCOUNT | {"email": "iiiii@example.org"}
    anonymous.post("/api/auth/register", account).expect(201)
    answers = [
        anonymous.post(
            "/api/auth/login", {"email": f"{'i' * n}{letter}{'i' * (4 - n)}@example.org", "password": "wrong"}
        )
        for n in range(5)
        for letter in "İI"
    ]
    assert [answer.status for answer in answers].count(401) == 5


def test_an_address_is_the_same_however_its_accents_are_encoded(anonymous: Client) -> None:
    anonymous.post("/api/auth/register", ACCOUNT | {"email": normalize("NFC", "zoë@example.org")}).expect(201)
    again = ACCOUNT | {"email": normalize("NFD", "ZOË@example.org")}
    anonymous.post("/api/auth/register", again).refuse(409, "email-taken")


def test_a_login_that_was_on_its_way_does_not_survive_a_new_password(
    ann: Client, anonymous: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password changes while the login is comparing hashes."""
    logins = anonymous.gateway.environments["auth"].modules["healthcare.accounts.logins"]
    compare = logins.matches

    def slow(password: str, password_hash: str | None) -> bool:
        with database.connect() as connection:
            connection.execute("UPDATE users SET password_hash = 'changed meanwhile'")
        return bool(compare(password, password_hash))

    monkeypatch.setattr(logins, "matches", slow)
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    before = database.value("SELECT count(*) FROM sessions")
    anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    assert database.value("SELECT count(*) FROM sessions") == before


def test_successful_logins_do_not_count_against_an_address(ann: Client, anonymous: Client, database: Database) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    for _ in range(60):
        anonymous.post("/api/auth/login", login).expect(200)
    assert database.value("SELECT sum(failures) FROM attempts") == 0


def test_guessing_the_current_password_is_slowed_too(ann: Client) -> None:
    change = {"current_password": "wrong horse", "new_password": "battery staple"}
    for _ in range(5):
        ann.post("/api/auth/password", change).refuse(403, "forbidden")
    answer = ann.post("/api/auth/password", change | {"current_password": ann.user["password"]})
    answer.refuse(429, "too-many-requests")
    assert answer.headers["Retry-After"] == "1"
    time.sleep(1.1)
    ann.post("/api/auth/password", change | {"current_password": ann.user["password"]}).expect(204)


def test_a_login_takes_the_same_time_for_an_unknown_address_as_for_a_wrong_password(
    anonymous: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The medians of many interleaved tries, at a cost where the hash is what takes the time; an older hash too."""
    settings = anonymous.gateway.environments["auth"].modules["healthcare.platform.settings"].settings
    monkeypatch.setenv("BCRYPT_COST", "8")
    settings.cache_clear()
    emails = {"known": ACCOUNT["email"], "older": "older@example.org", "unknown": "nobody@example.org"}
    with database.connect() as connection:
        for kind, cost in (("known", 8), ("older", 5)):
            password_hash = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(cost)).decode()
            connection.execute(
                "INSERT INTO users (name, email, password_hash) VALUES ('x', %s, %s)", [emails[kind], password_hash]
            )
    times: dict[str, list[float]] = {kind: [] for kind in emails}
    for number in range(40):
        for kind, email in emails.items():
            started = time.process_time()
            login = {"email": email, "password": "wrong horse"}
            anonymous.request("POST", "/api/auth/login", login, source_ip=f"198.51.100.{number}").expect(401)
            times[kind].append(time.process_time() - started)
    monkeypatch.undo()
    settings.cache_clear()
    medians = {kind: statistics.median(taken) for kind, taken in times.items()}
    assert max(medians.values()) < 1.15 * min(medians.values()), medians
