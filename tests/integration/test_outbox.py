"""What is to be told is written with what makes it true, and sent at least once."""

import json
import re
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import boto3
import psycopg
import pytest

from local.aws.inbox import shown
from tests.conftest import Database, LogLines, Post
from tests.gateway import Client


def _overdue(database: Database) -> None:
    """Leases and waits end."""
    with database.connect() as connection:
        connection.execute("UPDATE outbox SET due_at = now() WHERE state = 'pending'")


def _claim(gateway: Any, wanted: int = 100) -> list[dict[str, Any]]:
    claimed: list[dict[str, Any]] = gateway.environments["outbox"].invoke({"claim": wanted})
    return claimed


def _settle(gateway: Any, *messages: dict[str, Any], outcome: str) -> None:
    settlements = [{"id": m["id"], "attempt": m["attempt"], "outcome": outcome} for m in messages]
    gateway.environments["outbox"].invoke({"settle": settlements})


def test_what_is_rolled_back_tells_nobody(ann: Client, post: Post, database: Database) -> None:
    post.send()
    with database.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("SELECT request_mail('verify', %s, %s)", [ann.user["id"], ann.user["email"]])
    assert post.send() == []
    assert database.value("SELECT count(*) FROM outbox WHERE state = 'pending'") == 0


def test_the_outbox_holds_ids_and_no_address_or_token(ann: Client, post: Post, database: Database) -> None:
    post.send()
    stored = str(database.value("SELECT string_agg(o::text, ' ') FROM outbox o"))
    assert ann.user["email"] not in stored
    assert post.token(ann) not in stored
    tokens = str(database.value("SELECT string_agg(t::text, ' ') FROM mailed_tokens t"))
    assert post.token(ann) not in tokens


def test_a_message_is_sent_once_when_all_goes_well(ann: Client, bob: Client, post: Post, database: Database) -> None:
    assert {mail["To"] for mail in post.send()} == {ann.user["email"], bob.user["email"]}
    _overdue(database)
    assert post.send() == []
    assert database.value("SELECT array_agg(DISTINCT state) FROM outbox") == ["sent"]


def test_two_senders_at_once_get_different_messages(ann: Client, bob: Client, database: Database) -> None:
    connect = partial(database.connect, "healthcare_sender")
    with connect() as one, connect() as other, one.transaction(), other.transaction():
        first = one.execute("SELECT id FROM claim_messages(1)").fetchall()
        second = other.execute("SELECT id FROM claim_messages(5)").fetchall()
    assert len(first) == len(second) == 1
    assert first != second


def test_a_claimed_message_is_nobody_elses_until_its_lease_ends(ann: Client, database: Database) -> None:
    (first,) = _claim(ann.gateway)
    assert _claim(ann.gateway) == []
    _overdue(database)
    (again,) = _claim(ann.gateway)
    assert again == first | {"attempt": 2}  # also the same token


def test_a_sender_that_comes_late_does_not_spoil_what_another_does(ann: Client, database: Database) -> None:
    (late,) = _claim(ann.gateway)
    _overdue(database)
    (current,) = _claim(ann.gateway)
    _settle(ann.gateway, late, outcome="failed")
    assert database.value("SELECT is_claimed FROM outbox") is True
    _settle(ann.gateway, late, outcome="sent")  # it was sent, so that the other one only sends it again
    _settle(ann.gateway, current, outcome="failed")
    assert database.value("SELECT state FROM outbox") == "sent"


def test_what_fails_waits_longer_and_longer_and_is_set_aside_at_last(
    ann: Client, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = []
    for _ in range(9):
        (message,) = _claim(ann.gateway)
        _settle(ann.gateway, message, outcome="failed")
        waits.append(database.value("SELECT extract(epoch FROM due_at - now())::integer FROM outbox"))
        with database.connect() as connection:  # the link of a mail would be too old after half an hour
            connection.execute("UPDATE mailed_tokens SET expires_at = now() + interval '1 hour'")
        _overdue(database)
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    (message,) = _claim(ann.gateway)
    _settle(ann.gateway, message, outcome="failed")
    assert database.value("SELECT state FROM outbox") == "failed"
    assert _claim(ann.gateway) == []
    assert capsys.readouterr().out.count('"SetAside":[1.0]') == 1


def test_a_mail_whose_link_is_too_old_is_not_sent_any_more(ann: Client, post: Post, database: Database) -> None:
    _claim(ann.gateway)
    with database.connect() as connection:
        connection.execute("UPDATE mailed_tokens SET expires_at = now()")
    _overdue(database)
    assert post.send() == []
    assert database.value("SELECT count(*) FROM outbox") == 0


class Killed(BaseException):
    pass


@dataclass
class Lines:
    """What runs of a file, line by line, in all threads; it can be killed at the nth time that a line is reached."""

    file: str
    kill_at: tuple[int, int] | None = None
    reached: Counter[int] = field(default_factory=Counter)
    was_killed: bool = False

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        threading.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        threading.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != self.file:
            return None
        if event == "line":
            self.reached[frame.f_lineno] += 1
            if (frame.f_lineno, self.reached[frame.f_lineno]) == self.kill_at:
                self.was_killed = True
                raise Killed
        return self._trace


def test_a_sender_that_is_killed_at_any_line_leaves_nothing_unsent_and_no_second_id(
    ann: Client, bob: Client, post: Post, database: Database
) -> None:
    sender = post._environments["sender"]
    seen = 0

    def run(kill_at: tuple[int, int] | None = None) -> Lines:
        """A run that is killed, if it gets there, and one that is not; from the same beginning."""
        nonlocal seen
        with database.connect() as connection:
            connection.execute("DELETE FROM mailed_tokens")
            connection.execute(
                """
                UPDATE outbox
                   SET state = 'pending', attempts = 0, due_at = now(), is_claimed = false, finished_at = NULL
                """
            )
        lines = Lines(str(sender.app.__file__), kill_at)
        with lines, suppress(Killed):
            sender.invoke({})
        _overdue(database)
        sender.invoke({})
        mails = post.mails()[seen:]
        seen += len(mails)
        sent = {(mail["To"], mail["Message-ID"]) for mail in mails}
        assert sorted(to for to, _ in sent) == sorted([ann.user["email"], bob.user["email"]])
        assert database.value("SELECT array_agg(DISTINCT state) FROM outbox") == ["sent"]
        return lines

    reached = run().reached
    assert reached
    for line, times in reached.items():
        was_killed = [run((line, n + 1)).was_killed for n in range(times)]
        assert was_killed[0], f"it was never killed at line {line}"


def test_an_outbox_that_fails_makes_the_sender_fail_and_nothing_is_lost(
    ann: Client, post: Post, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("ALTER ROLE healthcare_sender NOLOGIN")
        post._environments["outbox"].disconnect()
        with pytest.raises(RuntimeError):
            post.send()
        connection.execute("ALTER ROLE healthcare_sender LOGIN")
    assert len(post.send()) == 1


def test_what_fails_at_the_beginning_holds_up_no_mail_and_nothing_else(
    ann: Client, post: Post, database: Database, log_lines: LogLines
) -> None:
    patient = ann.post("/api/patients", {"name": "Zoë"}, headers={"Idempotency-Key": "one"}).expect(201)
    with database.connect() as connection:
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
        connection.execute("REVOKE EXECUTE ON FUNCTION erase_closed FROM healthcare_sender")
        try:
            with pytest.raises(RuntimeError):
                post.send()
        finally:
            connection.execute("GRANT EXECUTE ON FUNCTION erase_closed TO healthcare_sender")
    assert [mail["To"] for mail in post.mails()] == [ann.user["email"]]
    assert database.value("SELECT count(*) FROM idempotency_keys") == 0
    (line,) = (line for line in log_lines() if line["level"] == "ERROR")
    assert line["work"] == "SELECT erase_closed()"
    assert patient["name"] not in str(line)


def test_mails_that_reach_nobody_hold_up_no_other(ann: Client, anonymous: Client, post: Post) -> None:
    post.send()
    for number in range(110):
        anonymous.post("/api/auth/forgot", {"email": f"nobody{number}@example.org"}).expect(202)
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    assert [mail["To"] for mail in post.send()] == [ann.user["email"]]


def test_a_reset_goes_nowhere_when_the_address_changes_while_it_is_claimed(
    ann: Client, anonymous: Client, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"email": "new@example.org", "current_password": ann.user["password"]}
    ann.post("/api/auth/email", change).expect(202)
    post.send()
    (mail,) = (mail for mail in post.mails() if mail["To"] == "new@example.org")
    token = re.findall(r"#token=(\S+)", shown(mail)["text"])[0]
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    outbox = ann.gateway.environments["outbox"].modules["healthcare.messages.outbox"]
    tokens_of = outbox._with_tokens

    def changed_before(*arguments: Any) -> Any:
        anonymous.post("/api/auth/verify", {"token": token})
        return tokens_of(*arguments)

    monkeypatch.setattr(outbox, "_with_tokens", changed_before)
    assert [mail["To"] for mail in post.send() if "reset" in shown(mail)["text"]] == []
    assert ann.get("/api/auth/me").json["email"] == "new@example.org"


def test_what_nobody_comes_back_for_is_swept_out(ann: Client, bob: Client, post: Post, database: Database) -> None:
    with database.connect() as connection:
        for client in (ann, bob):
            client.create("/api/invitations", kind="delegate", access="read")
        for table, column in (("sessions", "user_id"), ("invitations", "owner_id")):
            connection.execute(
                f"UPDATE {table} SET expires_at = now() - interval '1 second' WHERE {column} = %s", [ann.user["id"]]
            )
    post.send()
    for table, column in (("sessions", "user_id"), ("invitations", "owner_id")):
        assert database.value(f"SELECT array_agg({column}) FROM {table}") == [bob.user["id"]], table


def test_no_mail_goes_to_an_address_that_bounced_or_complained(ann: Client, bob: Client, post: Post) -> None:
    bounce = {
        "eventType": "Bounce",
        "bounce": {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": ann.user["email"].upper()}]},
    }
    complaint = {"eventType": "Complaint", "complaint": {"complainedRecipients": [{"emailAddress": "x@example.org"}]}}
    passing = {
        "eventType": "Bounce",
        "bounce": {"bounceType": "Transient", "bouncedRecipients": [{"emailAddress": bob.user["email"]}]},
    }
    records = [{"Sns": {"Message": json.dumps(message)}} for message in (bounce, complaint, passing)]
    for _ in range(2):  # SNS delivers at least once
        ann.gateway.environments["outbox"].invoke({"Records": records})
    assert [mail["To"] for mail in post.send()] == [bob.user["email"]]


def test_what_ses_refuses_for_good_is_set_aside_until_an_operator_sends_it_again(
    ann: Client, post: Post, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("sesv2").delete_email_identity(EmailIdentity="no-reply@example.net")
    try:
        assert post.send() == []
    finally:
        boto3.client("sesv2").create_email_identity(EmailIdentity="no-reply@example.net")
    assert database.value("SELECT state FROM outbox") == "failed"
    monkeypatch.setenv("PGUSER", "healthcare_owner")
    assert post._environments["migrate"].app.lambda_handler({"send_again": True}, None) == {"mails": 1}
    assert [mail["To"] for mail in post.send()] == [ann.user["email"]]


def test_without_an_address_to_send_from_nothing_is_sent(
    ann: Client, post: Post, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("auth", "outbox"):
        settings = ann.gateway.environments[name].modules["healthcare.platform.settings"].settings
        monkeypatch.setenv("MAIL_FROM", "")
        settings.cache_clear()
    try:
        assert post.send() == []
        ann.post("/api/auth/forgot", {"email": ann.user["email"]}).refuse(503, "mail-not-configured")
        ann.post("/api/auth/verification", {}).refuse(503, "mail-not-configured")
    finally:
        monkeypatch.undo()
        for name in ("auth", "outbox"):
            ann.gateway.environments[name].modules["healthcare.platform.settings"].settings.cache_clear()
    assert database.value("SELECT count(*) FROM outbox") == 0


def test_what_was_settled_a_month_ago_is_swept_out(ann: Client, post: Post, database: Database) -> None:
    post.send()
    with database.connect() as connection:
        connection.execute("UPDATE outbox SET finished_at = now() - interval '31 days'")
        connection.execute("UPDATE mail_requests SET recent = ARRAY[now() - interval '2 hours']")
    post.send()
    assert database.value("SELECT count(*) FROM outbox") == 0
    assert database.value("SELECT count(*) FROM mail_requests") == 0


def test_nothing_that_is_sent_gets_into_a_log(ann: Client, post: Post, anonymous: Client, log_lines: LogLines) -> None:
    anonymous.post("/api/auth/forgot", {"email": ann.user["email"]}).expect(202)
    post.send()
    token = post.token(ann, "reset")
    anonymous.post("/api/auth/reset", {"token": token, "new_password": "battery staple"}).expect(204)
    post.send()
    logged = json.dumps(log_lines())
    assert token not in logged
    assert ann.user["email"] not in logged
    assert len(post.mails()) == 3


def test_the_sender_role_sees_no_more_than_it_sends(ann: Client, database: Database) -> None:
    with database.connect("healthcare_sender") as connection:
        for statement in (
            "SELECT password_hash FROM users",
            "SELECT name FROM users",
            "SELECT id FROM patients",
            "SELECT id FROM sessions",
            "UPDATE users SET email = 'x@example.org'",
            "INSERT INTO outbox (kind) VALUES ('reset')",
            "SELECT recent FROM mail_requests",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
