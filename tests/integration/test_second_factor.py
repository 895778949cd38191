"""The second factor: RFC 6238, each code once, and what is kept at rest."""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from healthcare.accounts import totp
from tests.conftest import DATA_KEYS, Database, LogLines, Post
from tests.gateway import Answer, Client, Environment, Gateway


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238_pass(seconds: int, code: str) -> None:
    secret = b"12345678901234567890"
    assert totp.code_of(secret, seconds // totp.PERIOD, digits=8) == code
    assert totp.step_of(secret, code[-6:], seconds) == seconds // totp.PERIOD


def test_a_clock_may_be_a_step_off_and_no_more() -> None:
    secret = b"12345678901234567890"
    for off in (-2, -1, 0, 1, 2):
        found = totp.step_of(secret, totp.code_of(secret, 1000 + off), 1000 * totp.PERIOD)
        assert found == (1000 + off if abs(off) < 2 else None)


@dataclass
class Phone:
    """Ann's, with an authenticator app. `ahead` moves its clock, so that a test need not wait for the next code."""

    secret: bytes
    recovery_codes: list[str]

    def code(self, ahead: int = 0) -> str:
        return totp.code_of(self.secret, int(time.time() // totp.PERIOD) + ahead)


@pytest.fixture
def phone(ann: Client, database: Database) -> Phone:
    made = ann.post("/api/auth/mfa/totp", {"current_password": ann.user["password"]}).expect(201)
    phone = Phone(base64.b32decode(made["secret"]), [])
    answer = ann.post("/api/auth/mfa/totp/confirm", {"code": phone.code()}).expect(200)
    phone.recovery_codes = answer["recovery_codes"]
    _forget_steps(database)
    return phone


def _forget_steps(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE authenticators SET last_step = 0")


def _login(client: Client) -> Answer:
    return Client(client.gateway).post(
        "/api/auth/login", {"email": client.user["email"], "password": client.user["password"]}
    )


def _mfa_token(client: Client) -> str:
    return str(_login(client).refuse(401, "mfa-required")["mfa_token"])


def test_setting_up_asks_for_the_password_and_shows_secret_and_uri(ann: Client) -> None:
    ann.post("/api/auth/mfa/totp", {"current_password": "wrong horse"}).refuse(403, "forbidden")
    made = ann.post("/api/auth/mfa/totp", {"current_password": ann.user["password"]}).expect(201)
    assert len(base64.b32decode(made["secret"])) == 20
    assert made["uri"] == (
        f"otpauth://totp/healthcare:{ann.user['email']}?secret={made['secret']}"
        "&issuer=healthcare&algorithm=SHA1&digits=6&period=30"
    )
    _login(ann).expect(200)  # nothing is asked for until a code has confirmed it
    ann.post("/api/auth/mfa/totp/confirm", {"code": "000000"}).refuse(403, "wrong-code")
    again = ann.post("/api/auth/mfa/totp", {"current_password": ann.user["password"]}).expect(201)
    assert again["secret"] != made["secret"]


def test_confirming_without_setting_up_is_a_wrong_code(ann: Client) -> None:
    ann.post("/api/auth/mfa/totp/confirm", {"code": "000000"}).refuse(403, "wrong-code")


@pytest.mark.parametrize("meanwhile", ["confirmed", "set up anew"])
def test_a_confirmation_counts_for_the_secret_and_the_code_that_it_was_made_of(
    ann: Client, monkeypatch: pytest.MonkeyPatch, meanwhile: str, database: Database
) -> None:
    set_up = {"current_password": ann.user["password"]}
    phone = Phone(base64.b32decode(ann.post("/api/auth/mfa/totp", set_up).expect(201)["secret"]), [])
    second_factor = ann.gateway.environments["auth"].modules["healthcare.accounts.second_factor"]
    proof_of = second_factor._proof

    def overtaken(account: object, code: str) -> object:
        monkeypatch.undo()
        proof = proof_of(account, code)
        if meanwhile == "confirmed":
            ann.post("/api/auth/mfa/totp/confirm", {"code": phone.code()}).expect(200)
        else:
            ann.post("/api/auth/mfa/totp", set_up).expect(201)
        return proof

    monkeypatch.setattr(second_factor, "_proof", overtaken)
    code = "000000" if meanwhile == "confirmed" else phone.code()
    before = database.value("SELECT count(*) FROM recovery_codes")
    ann.post("/api/auth/mfa/totp/confirm", {"code": code}).refuse(403, "wrong-code")
    assert before == 0
    assert database.value("SELECT count(*) FROM recovery_codes") == (10 if meanwhile == "confirmed" else 0)


def test_a_login_takes_both_factors(ann: Client, phone: Phone, post: Post, anonymous: Client) -> None:
    assert "Your account has a second factor now" in [mail["Subject"] for mail in post.send()]
    problem = _login(ann).refuse(401, "mfa-required")
    assert "access_token" not in problem
    body = {"mfa_token": problem["mfa_token"], "code": phone.code()}
    tokens = anonymous.request("POST", "/api/auth/mfa", body, headers={"User-Agent": "Phone/1.0"}).expect(200)
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "user"}
    assert tokens["user"] == ann.get("/api/auth/me").json
    assert ann.get("/api/auth/sessions").json["items"][-1]["user_agent"] == "Phone/1.0"
    anonymous.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]}).expect(200)
    ann.post("/api/auth/mfa/totp", {"current_password": ann.user["password"]}).refuse(409, "mfa-on")
    ann.post("/api/auth/mfa/totp/confirm", {"code": phone.code()}).refuse(409, "mfa-on")


def test_a_code_is_good_once_and_so_is_its_step(ann: Client, phone: Phone, anonymous: Client) -> None:
    for code, status in ((phone.code(), 200), (phone.code(), 401), (phone.code(-1), 401), (phone.code(1), 200)):
        anonymous.post("/api/auth/mfa", {"mfa_token": _mfa_token(ann), "code": code}).expect(status)


def test_of_a_dozen_uses_of_one_code_at_once_one_succeeds(ann: Client, phone: Phone, database: Database) -> None:
    environments = [Environment(Path("functions/auth")) for _ in range(6)]
    apps = [Client(Gateway({**ann.gateway.environments, "auth": environment})) for environment in environments]
    token = _mfa_token(ann)
    before = database.value("SELECT count(*) FROM sessions")
    for code in (phone.code(), phone.recovery_codes[0]):
        with database.connect() as connection:
            connection.execute("DELETE FROM attempts")
        body = {"mfa_token": token, "code": code}
        with ThreadPoolExecutor(len(apps)) as threads:
            answers = list(threads.map(lambda app, body=body: app.post("/api/auth/mfa", body), apps))
        statuses = Counter(answer.status for answer in answers)
        assert statuses[200] == 1, statuses
        assert statuses.keys() <= {200, 401, 429}
    assert database.value("SELECT count(*) FROM sessions") == before + 2  # type: ignore[operator]
    for environment in environments:
        environment.disconnect()


def test_each_recovery_code_is_good_once_however_it_is_written(ann: Client, phone: Phone, anonymous: Client) -> None:
    assert len(set(phone.recovery_codes)) == 10
    first, second = phone.recovery_codes[:2]
    for code, status in ((first, 200), (first, 401), (f" {second.lower().replace('-', ' ')} ", 200), (second, 401)):
        anonymous.post("/api/auth/mfa", {"mfa_token": _mfa_token(ann), "code": code}).expect(status)


def test_guesses_are_slowed_for_the_account(ann: Client, phone: Phone, anonymous: Client) -> None:
    for number in range(5):
        body = {"mfa_token": _mfa_token(ann), "code": f"{number:06}"}
        anonymous.post("/api/auth/mfa", body).refuse(401, "unauthenticated")
    answer = anonymous.post("/api/auth/mfa", {"mfa_token": _mfa_token(ann), "code": phone.code()})
    answer.refuse(429, "too-many-requests")
    assert answer.headers["Retry-After"] == "1"
    time.sleep(1.1)
    anonymous.post("/api/auth/mfa", {"mfa_token": _mfa_token(ann), "code": phone.code()}).expect(200)


def test_the_token_of_the_first_step_is_good_for_nothing_else(
    ann: Client, bob: Client, phone: Phone, anonymous: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _mfa_token(ann)
    event = {
        "type": "TOKEN",
        "authorizationToken": f"Bearer {token}",
        "methodArn": "arn:aws:execute-api:x:1:api/v1/GET/",
    }
    answer = ann.gateway.environments["authorizer"].invoke(event)
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    anonymous.post("/api/auth/refresh", {"refresh_token": token}).refuse(401, "unauthenticated")
    for made_up in ("x", "AAAA", token[:-2] + "AA", token[4:]):
        body = {"mfa_token": made_up, "code": phone.code()}
        anonymous.post("/api/auth/mfa", body).refuse(401, "unauthenticated")
    later = time.time() + 301
    module = ann.gateway.environments["auth"].modules["healthcare.accounts.second_factor"]
    monkeypatch.setattr(module.time, "time", lambda: later)
    body = {"mfa_token": token, "code": totp.code_of(phone.secret, int(later // totp.PERIOD))}
    anonymous.post("/api/auth/mfa", body).refuse(401, "unauthenticated")


def test_a_new_password_ends_a_login_that_waits_for_its_code(ann: Client, phone: Phone, anonymous: Client) -> None:
    token = _mfa_token(ann)
    change = {"current_password": ann.user["password"], "new_password": "battery staple"}
    ann.post("/api/auth/password", change).expect(204)
    anonymous.post("/api/auth/mfa", {"mfa_token": token, "code": phone.code()}).refuse(401, "unauthenticated")


def test_a_reset_leaves_the_second_factor_on(ann: Client, phone: Phone, post: Post, anonymous: Client) -> None:
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    anonymous.post("/api/auth/reset", {"token": post.token(ann, "reset"), "new_password": "battery staple"}).expect(204)
    login = {"email": ann.user["email"], "password": "battery staple"}
    anonymous.post("/api/auth/login", login).refuse(401, "mfa-required")


def test_turning_it_off_takes_both_factors(ann: Client, phone: Phone, post: Post) -> None:
    body = {"current_password": ann.user["password"], "code": phone.recovery_codes[0]}
    ann.post("/api/auth/mfa/totp/disable", body | {"current_password": "wrong horse"}).refuse(403, "forbidden")
    ann.post("/api/auth/mfa/totp/disable", body | {"code": "000000"}).refuse(403, "wrong-code")
    ann.post("/api/auth/mfa/totp/disable", body).expect(204)
    _login(ann).expect(200)
    assert "Your account has no second factor any more" in [mail["Subject"] for mail in post.send()]
    ann.post("/api/auth/mfa/totp/disable", body).refuse(403, "wrong-code")


def test_an_operator_turns_it_off_for_whoever_has_lost_everything(
    ann: Client, bob: Client, phone: Phone, post: Post, anonymous: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = ann.gateway.environments["migrate"].app
    with monkeypatch.context() as patch:
        patch.setenv("PGUSER", "healthcare_owner")
        for email, done in ((ann.user["email"].upper(), True), (bob.user["email"], False), ("x@example.org", False)):
            assert migrate.lambda_handler({"turn_off_second_factor": email}, None) == {"turned_off": done}
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).refuse(401, "unauthenticated")
    _login(ann).expect(200)
    assert "Your account has no second factor any more" in [mail["Subject"] for mail in post.send()]


def test_neither_secret_nor_code_is_stored_or_logged_as_it_is(
    ann: Client, phone: Phone, anonymous: Client, database: Database, log_lines: LogLines
) -> None:
    token = _mfa_token(ann)
    anonymous.post("/api/auth/mfa", {"mfa_token": token, "code": phone.recovery_codes[0]}).expect(200)
    stored = str(database.value("SELECT string_agg(sealed_secret::text, '') FROM authenticators"))
    stored += str(database.value("SELECT string_agg(code_hash::text, '') FROM recovery_codes"))
    assert phone.secret.hex() not in stored
    for code in phone.recovery_codes:
        assert code.replace("-", "").encode().hex() not in stored
    logged = json.dumps(log_lines())
    for secret in (token, phone.recovery_codes[0], totp.text_of(phone.secret)):
        assert secret not in logged


def test_the_audit_shows_that_it_was_turned_on(ann: Client, phone: Phone) -> None:
    (event, *_) = ann.get("/api/audit").expect(200)["items"]
    assert (event["resource"], event["changes"]) == ("user", {"second_factor": {"from": False, "to": True}})


@pytest.fixture
def rotate_data_keys() -> Iterator[Callable[[Environment], str]]:
    """Puts a rotated key set into Secrets Manager; returns the id of its current key."""
    client = boto3.client("secretsmanager")
    before = client.get_secret_value(SecretId=DATA_KEYS)["SecretString"]

    def rotate(function: Environment) -> str:
        keys = json.loads(client.get_secret_value(SecretId=DATA_KEYS)["SecretString"])
        for _ in range(3):
            keys = function.app.rotated(keys, keep_all=True)
        client.put_secret_value(SecretId=DATA_KEYS, SecretString=json.dumps(keys))
        return str(keys["current"])

    yield rotate
    client.put_secret_value(SecretId=DATA_KEYS, SecretString=before)


def test_rotated_keys_still_open_what_old_ones_sealed_and_seal_it_anew(
    ann: Client,
    phone: Phone,
    anonymous: Client,
    database: Database,
    rotate_data_keys: Callable[[Environment], str],
) -> None:
    current = rotate_data_keys(ann.gateway.environments["rotate_keys"])
    sealing = ann.gateway.environments["auth"].modules["healthcare.platform.sealing"]
    sealing._keys.clear()
    for code in (phone.code(), phone.code(1)):
        anonymous.post("/api/auth/mfa", {"mfa_token": _mfa_token(ann), "code": code}).expect(200)
        sealed = bytes(database.value("SELECT sealed_secret FROM authenticators"))  # type: ignore[call-overload]
        assert sealed[1 : 1 + sealed[0]].decode() == current
    sealing._keys.clear()


def test_a_sealed_secret_opens_for_its_own_account_only(ann: Client, phone: Phone, database: Database) -> None:
    sealing = ann.gateway.environments["auth"].modules["healthcare.platform.sealing"]
    sealed = bytes(database.value("SELECT sealed_secret FROM authenticators"))  # type: ignore[call-overload]
    context = f"authenticator of {ann.user['id']}"
    assert sealing.unseal(sealed, context) == phone.secret
    begin = 1 + sealed[0]  # before it is the id of the key
    altered = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(begin, len(sealed))]
    cut = [sealed[:length] for length in range(begin, len(sealed))]
    for wrong, name in ((sealed, "authenticator of 9"), *((wrong, context) for wrong in altered + cut)):
        with pytest.raises(ValueError, match="sealed"):
            sealing.unseal(wrong, name)


def test_an_admin_without_a_second_factor_is_a_user_where_it_is_required(
    sign_up: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = sign_up("Eve", admin=True)
    settings = admin.gateway.environments["auth"].modules["healthcare.platform.settings"].settings
    monkeypatch.setenv("ADMIN_SECOND_FACTOR", "required")
    settings.cache_clear()
    token = _login(admin).expect(200)["access_token"]
    assert admin.gateway.authorize(f"Bearer {token}")["role"] == "user"  # type: ignore[index]
    made = admin.post("/api/auth/mfa/totp", {"current_password": admin.user["password"]}).expect(201)
    phone = Phone(base64.b32decode(made["secret"]), [])
    admin.post("/api/auth/mfa/totp/confirm", {"code": phone.code()}).expect(200)
    body = {"mfa_token": _mfa_token(admin), "code": phone.code(1)}
    token = Client(admin.gateway).post("/api/auth/mfa", body).expect(200)["access_token"]
    assert admin.gateway.authorize(f"Bearer {token}")["role"] == "admin"  # type: ignore[index]
    monkeypatch.undo()
    settings.cache_clear()
