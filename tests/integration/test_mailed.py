"""Password reset, verification and change of address, from the request to the link in the mail."""

import re
import statistics
import time
from collections.abc import Callable

import pytest

from local.aws.inbox import shown
from tests.conftest import Database, Post
from tests.gateway import Client, routes


def test_a_new_account_gets_a_mail_whose_token_verifies_its_address(ann: Client, post: Post, anonymous: Client) -> None:
    assert ann.get("/api/auth/me").json["email_verified"] is False
    (mail,) = post.send()
    assert mail["To"] == ann.user["email"]
    assert mail["From"] == "no-reply@example.net"
    assert f"https://app.example.net/verify#token={post.token(ann)}\n" in shown(mail)["text"]
    assert f'href="https://app.example.net/verify#token={post.token(ann)}"' in mail.get_body(("html",)).get_content()
    anonymous.post("/api/auth/verify", {"token": post.token(ann)}).expect(204)
    assert ann.get("/api/auth/me").json["email_verified"] is True
    anonymous.post("/api/auth/verify", {"token": post.token(ann)}).refuse(410, "spent")
    ann.post("/api/auth/verification", {}).expect(202)
    assert post.send() == []  # there is nothing left to confirm


def test_a_forgotten_password_is_set_anew_once_and_every_session_ends(
    ann: Client, post: Post, anonymous: Client
) -> None:
    post.send()
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"].upper()}).expect(202)
    (mail,) = post.send()
    assert "/reset#token=" in shown(mail)["text"]
    body = {"token": post.token(ann), "new_password": "battery staple"}
    assert len(body["token"]) == 43  # 256 bits
    anonymous.post("/api/auth/reset", body | {"new_password": ann.user["email"]}).refuse(422, "validation")
    anonymous.post("/api/auth/reset", body).expect(204)
    anonymous.post("/api/auth/reset", body).refuse(410, "spent")
    anonymous.post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).refuse(401, "unauthenticated")
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    user = anonymous.post("/api/auth/login", login | {"password": "battery staple"}).expect(200)["user"]
    assert user["email_verified"] is True
    (notice,) = post.send()
    assert notice["Subject"] == "Your password has been changed"
    assert "token=" not in shown(notice)["text"]


def test_of_two_resets_at_once_the_newer_mail_counts(ann: Client, post: Post, anonymous: Client) -> None:
    for _ in range(2):
        anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    texts = [shown(mail)["text"] for mail in post.send() if "reset" in shown(mail)["text"]]
    assert len(texts) == 1  # of those that are due together only the newest
    first = post.token(ann, "reset")
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    body = {"new_password": "battery staple"}
    anonymous.post("/api/auth/reset", body | {"token": first}).refuse(410, "spent")
    anonymous.post("/api/auth/reset", body | {"token": post.token(ann, "reset")}).expect(204)


def test_a_token_is_good_for_half_an_hour_and_for_its_own_purpose(
    ann: Client, post: Post, anonymous: Client, database: Database
) -> None:
    post.send()
    verification = post.token(ann)
    anonymous.post("/api/auth/reset", {"token": verification, "new_password": "battery staple"}).refuse(410, "spent")
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    anonymous.post("/api/auth/verify", {"token": post.token(ann)}).refuse(410, "spent")
    lifetime = database.value("SELECT max(expires_at - now()) FROM mailed_tokens")
    assert 29 * 60 < lifetime.total_seconds() <= 30 * 60  # type: ignore[attr-defined]
    with database.connect() as connection:
        connection.execute("UPDATE mailed_tokens SET expires_at = now()")
    body = {"token": post.token(ann), "new_password": "battery staple"}
    anonymous.post("/api/auth/reset", body).refuse(410, "spent")
    anonymous.post("/api/auth/verify", {"token": verification}).refuse(410, "spent")
    anonymous.post("/api/auth/verify", {"token": "made up"}).refuse(410, "spent")


def test_a_new_password_ends_what_an_older_mail_offers(ann: Client, post: Post, anonymous: Client) -> None:
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    token = post.token(ann, "reset")
    change = {"current_password": ann.user["password"], "new_password": "battery staple"}
    ann.post("/api/auth/password", change).expect(204)
    (notice,) = post.send()
    assert notice["Subject"] == "Your password has been changed"
    anonymous.post("/api/auth/reset", {"token": token, "new_password": "eight blue kettles"}).refuse(410, "spent")


@pytest.mark.parametrize("way", ["change", "reset"])
def test_a_new_password_ends_a_change_of_address_that_waits(
    ann: Client, post: Post, anonymous: Client, way: str
) -> None:
    """Whoever knew the old one may have asked for it."""
    change = {"email": "mallory@example.org", "current_password": ann.user["password"]}
    ann.post("/api/auth/email", change).expect(202)
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    (waiting,) = (shown(mail)["text"] for mail in post.mails() if mail["To"] == "mallory@example.org")
    if way == "change":
        body = {"current_password": ann.user["password"], "new_password": "battery staple"}
        ann.post("/api/auth/password", body).expect(204)
    else:
        body = {"token": post.token(ann, "reset"), "new_password": "battery staple"}
        anonymous.post("/api/auth/reset", body).expect(204)
    token = re.findall(r"#token=(\S+)", waiting)[0]
    anonymous.post("/api/auth/verify", {"token": token}).refuse(410, "spent")


def test_a_reset_of_an_address_that_was_never_verified_ends_what_somebody_else_prepared(
    ann: Client, bob: Client, post: Post, anonymous: Client
) -> None:
    """Ann's account was made by Bob, with the address of somebody who now finds it taken."""
    codes = [ann.create("/api/invitations", kind="delegate", access="write")["code"] for _ in range(2)]
    bob.post("/api/invitations/accept", {"code": codes[0]}).expect(200)
    ann.post("/api/webhooks", {"url": "https://example.com/", "events": ["record.created"]}).expect(201)
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    body = {"token": post.token(ann, "reset"), "new_password": "battery staple"}
    anonymous.post("/api/auth/reset", body).expect(204)
    assert ann.walk("/api/delegates") == ann.walk("/api/webhooks") == ann.walk("/api/invitations") == []
    bob.post("/api/invitations/accept", {"code": codes[1]}).refuse(404, "not-found")


@pytest.mark.parametrize("form", ["<{}>", "a1<{}>", "{}(1)", "(1){}", '"a"{}', "a,{}", "{};", "[{}]"])
def test_an_address_has_one_spelling(ann: Client, anonymous: Client, form: str) -> None:
    account = {"name": "Ann", "email": form.format(ann.user["email"]), "password": "battery staple"}
    anonymous.post("/api/auth/register", account).refuse(422, "validation")


def test_three_mails_an_hour_go_to_an_address(
    ann: Client, bob: Client, post: Post, anonymous: Client, database: Database
) -> None:
    post.send()
    sent = 0
    for number in range(5):
        email = ann.user["email"].upper() if number % 2 else ann.user["email"]
        anonymous.post("/api/auth/forgot", {"email": email}).expect(202)
        sent += len(post.send())
    assert sent == 3
    anonymous.post("/api/auth/forgot", {"email": bob.user["email"]}).expect(202)
    assert len(post.send()) == 1
    with database.connect() as connection:
        connection.execute("UPDATE mail_requests SET recent[1] = now() - interval '61 minutes'")
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    assert len(post.send()) == 1


def test_an_unknown_address_gets_the_same_answer_and_no_mail(
    ann: Client, post: Post, anonymous: Client, database: Database
) -> None:
    post.send()
    known = anonymous.post("/api/auth/forgot", {"email": ann.user["email"]})
    unknown = anonymous.post("/api/auth/forgot", {"email": "nobody@example.org"})
    assert (known.status, known.text) == (unknown.status, unknown.text) == (202, "")
    assert known.headers.keys() == unknown.headers.keys()
    assert [mail["To"] for mail in post.send()] == [ann.user["email"]]
    assert database.value("SELECT count(*) FROM outbox WHERE user_id IS NULL") == 0


def test_asking_for_an_unknown_address_takes_the_same_time(sign_up: Callable[..., Client], anonymous: Client) -> None:
    """The medians of interleaved tries; each address once, so that the limit is out of it."""
    known = [sign_up("Ann").user["email"] for _ in range(60)]
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for number, email in enumerate(known):
        for kind, address in (("known", email), ("unknown", f"nobody-{number}@example.org")):
            started = time.perf_counter()
            anonymous.post("/api/auth/forgot", {"email": address}).expect(202)
            times[kind].append(time.perf_counter() - started)
    medians = {kind: statistics.median(taken) for kind, taken in times.items()}
    assert max(medians.values()) < 1.25 * min(medians.values()), medians


def test_no_link_holds_anything_that_a_request_said(ann: Client, post: Post, anonymous: Client) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}
    anonymous.request("POST", "/api/auth/forgot", {"email": ann.user["email"]}, headers=headers).expect(202)
    mails = post.send()
    assert len(mails) == 2
    for mail in mails:
        assert "evil" not in mail.as_string()
        assert shown(mail)["text"].count("https://app.example.net/") == 1


def test_an_address_changes_when_the_new_one_is_confirmed(ann: Client, post: Post, anonymous: Client) -> None:
    post.send()
    change = {"email": "New@example.org", "current_password": ann.user["password"]}
    ann.post("/api/auth/email", change | {"current_password": "wrong horse"}).refuse(403, "forbidden")
    ann.post("/api/auth/email", change).expect(202)
    mails = {mail["To"]: shown(mail)["text"] for mail in post.send()}
    assert mails.keys() == {"New@example.org", ann.user["email"]}
    assert "token=" not in mails[ann.user["email"]]
    assert ann.get("/api/auth/me").json["email"] == ann.user["email"]
    token = mails["New@example.org"].partition("#token=")[2].split()[0]
    anonymous.post("/api/auth/verify", {"token": token}).expect(204)
    user = ann.get("/api/auth/me").json
    assert (user["email"], user["email_verified"]) == ("New@example.org", True)
    login = {"email": "new@example.org", "password": ann.user["password"]}
    anonymous.post("/api/auth/login", login).expect(200)


def test_what_was_mailed_to_the_old_address_is_good_for_nothing_after_a_change(
    ann: Client, post: Post, anonymous: Client
) -> None:
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    old = post.token(ann, "reset")
    ann.post("/api/auth/email", {"email": "new@example.org", "current_password": ann.user["password"]}).expect(202)
    new = next(shown(mail)["text"] for mail in post.send() if mail["To"] == "new@example.org")
    anonymous.post("/api/auth/verify", {"token": new.partition("#token=")[2].split()[0]}).expect(204)
    anonymous.post("/api/auth/reset", {"token": old, "new_password": "battery staple"}).refuse(410, "spent")


def test_a_second_change_takes_the_place_of_the_first(ann: Client, post: Post, anonymous: Client) -> None:
    tokens = []
    for email in ("first@example.org", "second@example.org"):
        ann.post("/api/auth/email", {"email": email, "current_password": ann.user["password"]}).expect(202)
        mail = next(shown(mail)["text"] for mail in post.send() if mail["To"] == email)
        tokens.append(mail.partition("#token=")[2].split()[0])
    anonymous.post("/api/auth/verify", {"token": tokens[0]}).refuse(410, "spent")
    anonymous.post("/api/auth/verify", {"token": tokens[1]}).expect(204)
    assert ann.get("/api/auth/me").json["email"] == "second@example.org"


def test_whether_an_address_is_taken_shows_only_to_its_reader(
    ann: Client, bob: Client, post: Post, anonymous: Client
) -> None:
    post.send()
    change = {"email": bob.user["email"].upper(), "current_password": ann.user["password"]}
    ann.post("/api/auth/email", change).expect(202)
    texts = {mail["To"]: shown(mail)["text"] for mail in post.send()}
    token = texts[bob.user["email"].upper()].partition("#token=")[2].split()[0]
    for _ in range(2):
        anonymous.post("/api/auth/verify", {"token": token}).refuse(409, "email-taken")
    assert ann.get("/api/auth/me").json["email"] == ann.user["email"]


@pytest.mark.parametrize("path", ["reset", "verify"])
def test_no_get_uses_a_token_up(path: str) -> None:
    assert [method for method, route, _, _ in routes() if route == f"/api/auth/{path}"] == ["POST"]
