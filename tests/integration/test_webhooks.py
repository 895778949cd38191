"""Webhooks: signed as Standard Webhooks says, to public addresses only, and nobody waits for anybody else."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from healthcare.messages import targets
from tests.conftest import Database, LogLines, Post
from tests.gateway import Client


@dataclass
class Receiver:
    port: int = 0
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    taken: list[tuple[dict[str, str], str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, **how: Any) -> Iterator[Receiver]:
    receiver = Receiver(**how)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(receiver.seconds)
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def _register(client: Client, url: str) -> dict[str, Any]:
    webhook: dict[str, Any] = client.post("/api/webhooks", {"url": url, "events": ["record.created"]}).expect(201)
    return webhook


def _announce(database: Database, client: Client, event: str = "record.created", times: int = 1) -> None:
    with database.connect() as connection:
        connection.execute(
            'SELECT announce(%s, %s, \'{"record_id": 7, "patient_id": 3}\') FROM generate_series(1, %s)',
            [event, client.user["id"], times],
        )


def _overdue(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE outbox SET due_at = now() WHERE state = 'pending'")


def test_a_delivery_verifies_by_the_library_of_standard_webhooks(
    ann: Client, bob: Client, post: Post, receiver: Receiver, database: Database
) -> None:
    webhook = _register(ann, receiver.url)
    _announce(database, ann)
    _announce(database, ann, "document.available")  # which it did not ask for
    _announce(database, bob)
    post.send()
    ((headers, body),) = receiver.taken
    assert Webhook(webhook["secret"]).verify(body, headers) == json.loads(body)
    content = json.loads(body)
    assert content.keys() == {"type", "timestamp", "data"}
    assert (content["type"], content["data"]) == ("record.created", {"record_id": 7, "patient_id": 3})
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(body.replace("7", "8"), headers)


def test_a_secret_is_shown_once_and_a_rotated_one_signs_beside_the_old(
    ann: Client, post: Post, receiver: Receiver, database: Database, log_lines: LogLines
) -> None:
    first = _register(ann, receiver.url)
    url = f"/api/webhooks/{first['id']}"
    assert ann.get(url).expect(200) == first | {"secret": None}
    assert ann.get("/api/webhooks").expect(200)["items"] == [first | {"secret": None}]
    second = ann.patch(url, {"rotate_secret": True}).expect(200)
    assert second["secret"] != first["secret"]
    _announce(database, ann)
    post.send()
    ((headers, body),) = receiver.taken
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (first["secret"], second["secret"]):
        Webhook(secret).verify(body, headers)
    with database.connect() as connection:
        connection.execute("UPDATE webhooks SET old_secret_until = now()")
    _announce(database, ann)
    post.send()
    headers, body = receiver.taken[-1]
    Webhook(second["secret"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(first["secret"]).verify(body, headers)
    logged = json.dumps(log_lines())
    assert first["secret"].removeprefix("whsec_") not in logged
    assert receiver.url not in logged
    audit = json.dumps(ann.get("/api/audit").json["items"])
    assert '"secret": {"to": null, "from": null}' in audit


def test_a_secret_is_sealed_and_one_that_does_not_open_holds_up_no_other(
    ann: Client, bob: Client, post: Post, receiver: Receiver, database: Database
) -> None:
    webhooks = [_register(client, receiver.url) for client in (ann, bob)]
    ann.patch(f"/api/webhooks/{webhooks[0]['id']}", {"rotate_secret": True}).expect(200)
    with database.connect() as connection:
        stored = connection.execute("SELECT secret, old_secret FROM webhooks ORDER BY id").fetchall()
        connection.execute("UPDATE webhooks SET secret = %s WHERE owner_id = %s", [stored[1][0], ann.user["id"]])
    sealed = b"".join(secret for row in stored for secret in row if secret)
    assert all(b64decode(webhook["secret"].removeprefix("whsec_")) not in sealed for webhook in webhooks)
    for client in (ann, bob):
        _announce(database, client)
    post.send()
    anns, bobs = sorted(receiver.taken, key=lambda delivery: int(delivery[0]["webhook-id"].removeprefix("msg_")))
    Webhook(webhooks[1]["secret"]).verify(bobs[1], bobs[0])
    # Ann's is signed by the old one only: the other is sealed for Bob.
    assert len(anns[0]["webhook-signature"].split()) == 1
    Webhook(webhooks[0]["secret"]).verify(anns[1], anns[0])


def test_a_retry_has_the_same_id_and_body_and_deliveries_can_be_seen(
    ann: Client, bob: Client, post: Post, receiver: Receiver, database: Database
) -> None:
    url = f"/api/webhooks/{_register(ann, receiver.url)['id']}"
    receiver.status = 500
    _announce(database, ann)
    post.send()
    (delivery,) = ann.get(f"{url}/deliveries").expect(200)["items"]
    assert (delivery["event"], delivery["state"], delivery["attempts"], delivery["answer"]) == (
        "record.created",
        "pending",
        1,
        500,
    )
    assert delivery["due_at"] > delivery["created_at"]
    receiver.status = 200
    _overdue(database)
    post.send()
    (delivery,) = ann.get(f"{url}/deliveries").expect(200)["items"]
    assert (delivery["state"], delivery["attempts"], delivery["answer"], delivery["due_at"]) == ("sent", 2, 200, None)
    again = f"{url}/deliveries/{delivery['id']}/resend"
    bob.post(again, {}).refuse(404, "not-found")
    bob.get(f"{url}/deliveries").refuse(404, "not-found")
    assert ann.post(again, {}).expect(200)["state"] == "pending"
    ann.post(f"{url}/deliveries/9999/resend", {}).refuse(404, "not-found")
    post.send()
    assert len(receiver.taken) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1
    assert len({body for _, body in receiver.taken}) == 1


def test_deliveries_come_in_pages_newest_first(ann: Client, receiver: Receiver, database: Database) -> None:
    url = f"/api/webhooks/{_register(ann, receiver.url)['id']}/deliveries"
    assert ann.get(url).expect(200)["items"] == []
    _announce(database, ann, times=3)
    first = ann.get(f"{url}?limit=2").expect(200)
    second = ann.get(f"{url}?limit=2&cursor={first['next_cursor']}").expect(200)
    ids = [delivery["id"] for page in (first, second) for delivery in page["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3


def test_410_disables_a_webhook(ann: Client, post: Post, receiver: Receiver, database: Database) -> None:
    url = f"/api/webhooks/{_register(ann, receiver.url)['id']}"
    receiver.status = 410
    _announce(database, ann)
    post.send()
    assert ann.get(url).json["enabled"] is False
    assert ann.get(f"{url}/deliveries").json["items"][0]["state"] == "failed"
    _announce(database, ann)
    post.send()
    assert len(receiver.taken) == 1
    ann.patch(url, {"enabled": True}).expect(200)
    _announce(database, ann)
    post.send()
    assert len(receiver.taken) == 2


def test_no_redirect_is_followed(ann: Client, post: Post, receiver: Receiver, database: Database) -> None:
    with receiving() as elsewhere:
        url = f"/api/webhooks/{_register(ann, receiver.url)['id']}"
        receiver.status, receiver.headers = 307, {"Location": elsewhere.url}
        _announce(database, ann)
        post.send()
        assert elsewhere.taken == []
    assert ann.get(f"{url}/deliveries").json["items"][0]["answer"] == 307


QUICK_RECEIVER = """
import asyncio
async def answer(reader, writer):
    await reader.read(65536)
    writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def quick_receiver() -> Iterator[str]:
    """The URL of a receiver in a process of its own, which answers at once."""
    with subprocess.Popen([sys.executable, "-c", QUICK_RECEIVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        finally:
            process.kill()


def test_of_ten_thousand_that_are_due_one_slow_receiver_holds_up_no_other(
    ann: Client, post: Post, database: Database
) -> None:
    """The slow one's are the oldest. The others are all there within a minute, long before it is done."""
    with receiving(seconds=3) as slow, quick_receiver() as url:
        _register(ann, slow.url)
        with database.connect() as connection:
            connection.execute("UPDATE webhooks SET events = '{document.available}'")
        _announce(database, ann, "document.available", times=500)
        for _ in range(10):
            _register(ann, url)
        _announce(database, ann, times=950)
        sender = threading.Thread(target=post.send)
        started = time.monotonic()
        sender.start()
        sent = "SELECT count(*) FROM outbox WHERE kind = 'record.created' AND state = 'sent'"
        while database.value(sent) != 9500 and time.monotonic() - started < 60:
            time.sleep(0.2)
        assert database.value(sent) == 9500
        assert len(slow.taken) < 500
        slow.seconds = 0
        sender.join()


def test_a_receiver_that_drips_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "ALL_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    for _ in range(100):
                        connection.sendall(b"H")
                        time.sleep(0.2)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        with pytest.raises((OSError, HTTPException)):
            targets.post(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, "{}", loopback=True)
        assert time.monotonic() - started < 2


REFUSED = [
    "http://example.com/",
    "ftp://example.com/",
    "https://10.0.0.1/",
    "https://127.0.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fd00:ec2::254]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://localhost/",
    "https://user:password@example.com/",
    "https://example.com/#fragment",
    "https://example.com:99999/",
    "https://a..example.com/",
    "https://.example.com/",
    f"https://{'a' * 64}.example.com/",
    "https://example.com/a b",
    "https://example.com/\xe4",
    "https://",
    "example.com",
]


@pytest.mark.parametrize("url", REFUSED)
def test_only_https_to_public_addresses_is_taken(ann: Client, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = ann.gateway.environments["webhooks"].modules["healthcare.platform.settings"].settings
    monkeypatch.setenv("WEBHOOKS_TO_LOOPBACK", "refused")
    settings.cache_clear()
    problem = ann.post("/api/webhooks", {"url": url, "events": ["record.created"]}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/url"]
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    assert targets.is_public(address)


def test_a_name_that_turns_to_a_private_address_gets_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(targets.UnsafeTarget):
        targets.post("https://rebinding.example/", {}, "{}", loopback=False)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers something else the second time is not asked a second time."""
    resolve, asked = socket.getaddrinfo, []

    def answer(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "localhost":
            asked.append(host)
            return resolve("127.0.0.1" if len(asked) == 1 else "203.0.113.1", *arguments, **options)
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert targets.post(f"http://localhost:{receiver.port}/", {}, "{}", loopback=True) == 204
    assert asked == ["localhost"]
    assert receiver.taken[0][0]["host"] == f"localhost:{receiver.port}"


class Authority:
    """A certification authority, and the servers that it certifies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of tests")])
        usage = x509.KeyUsage(*(bit == 5 for bit in range(9)))  # RFC 5280, 4.2.1.3: it signs certificates
        root = self._certificate(self._name, self._key, 1, x509.BasicConstraints(True, None), usage)
        self.file = folder / "authority.pem"
        self.file.write_bytes(root)

    def server(self, subject: x509.GeneralName, *, days: int = 1) -> ssl.SSLContext:
        """One that has a certificate for `subject`, which ends in `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._folder / "server.pem"
        file.write_bytes(
            self._certificate(x509.Name([]), key, days, x509.SubjectAlternativeName([subject]))
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, *critical: x509.ExtensionType
    ) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=days))
        for extension in critical:
            builder = builder.add_extension(extension, critical=True)
        for identifier in (
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
        ):
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


NAME = "receiver.example"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """This machine trusts it, and finds its receiver: once."""
    authority, resolve, found = Authority(tmp_path), socket.getaddrinfo, {NAME: "127.0.0.1"}

    def answer(host: str, *arguments: Any, **options: Any) -> Any:
        return resolve(found.pop(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    targets._tls.cache_clear()
    yield authority
    targets._tls.cache_clear()


def _deliver(receiver: Receiver) -> int:
    return targets.post(f"https://{NAME}:{receiver.port}/", {}, "{}", loopback=True)


def test_a_delivery_keeps_to_the_address_and_asks_for_the_name(authority: Authority) -> None:
    asked = []
    tls = authority.server(x509.DNSName(NAME))
    tls.sni_callback = lambda _, name, __: asked.append(name)
    with receiving(tls) as receiver:
        assert _deliver(receiver) == 204
    assert asked == [NAME]
    assert receiver.taken[0][0]["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    ("subject", "days", "reason"),
    [
        (x509.DNSName("other.example"), 1, "Hostname mismatch"),
        (x509.IPAddress(ip_address("127.0.0.1")), 1, "Hostname mismatch"),  # the address that it connects to
        (x509.DNSName(NAME), -1, "certificate has expired"),
    ],
)
def test_a_certificate_for_another_name_or_time_gets_no_delivery(
    authority: Authority, subject: x509.GeneralName, days: int, reason: str
) -> None:
    with receiving(authority.server(subject, days=days)) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            _deliver(receiver)
        assert receiver.taken == []


def test_a_certificate_of_an_authority_that_nobody_knows_gets_no_delivery(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    unknown = Authority(tmp_path_factory.mktemp("unknown"))
    with receiving(unknown.server(x509.DNSName(NAME))) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
            _deliver(receiver)
        assert receiver.taken == []


def test_a_receiver_that_speaks_an_old_tls_only_gets_no_delivery(authority: Authority) -> None:
    tls = authority.server(x509.DNSName(NAME))
    tls.set_ciphers("ALL:@SECLEVEL=0")  # without which OpenSSL refuses to be such a server
    with pytest.deprecated_call():
        tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with receiving(tls) as receiver:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            _deliver(receiver)
        assert receiver.taken == []


def test_an_event_has_to_be_one_that_there_is_and_named_once(ann: Client) -> None:
    for events in ([], ["patient.created"], ["record.created", "record.created"], "record.created"):
        body = {"url": "https://example.com/", "events": events}
        ann.post("/api/webhooks", body).refuse(422, "validation")


def test_an_account_has_twenty_webhooks_at_most(ann: Client) -> None:
    body = {"url": "https://1.1.1.1/", "events": ["record.created"]}
    for _ in range(20):
        ann.post("/api/webhooks", body).expect(201)
    ann.post("/api/webhooks", body).refuse(409, "too-many-webhooks")


def test_of_two_that_would_be_the_twentieth_one_is_refused(ann: Client, database: Database) -> None:
    body = {"url": "https://1.1.1.1/", "events": ["record.created"]}
    for _ in range(19):
        ann.post("/api/webhooks", body).expect(201)
    with ThreadPoolExecutor(1) as pool, database.connect("healthcare_api") as connection:
        with connection.transaction():
            connection.execute("SELECT act_as(%s, 'user', 'test')", [ann.user["id"]])
            connection.execute(
                "INSERT INTO webhooks (owner_id, url, events, secret) VALUES (%s, 'https://x', '{record.created}', '')",
                [ann.user["id"]],
            )
            second = pool.submit(ann.post, "/api/webhooks", body)
            database.wait_for_a_lock()
        second.result().refuse(409, "too-many-webhooks")


def test_what_is_on_its_way_is_not_sent_again_meanwhile(ann: Client, database: Database) -> None:
    url = f"/api/webhooks/{_register(ann, 'https://example.com/')['id']}/deliveries"
    _announce(database, ann, times=20)
    with database.connect("healthcare_sender") as connection:
        claim = "SELECT id FROM claim_messages(100) WHERE webhook_id IS NOT NULL"
        claimed = [id for (id,) in connection.execute(claim)]
        assert len(claimed) == 10
        for id in claimed:
            assert ann.post(f"{url}/{id}/resend", None).expect(200)["attempts"] == 1
        assert connection.execute(claim).fetchall() == []


def test_somebody_with_many_slow_receivers_holds_up_nobody_elses(ann: Client, bob: Client, database: Database) -> None:
    for _ in range(20):
        _register(ann, "https://1.0.0.1/")
    _register(bob, "https://1.1.1.1/")
    _announce(database, ann, times=40)
    _announce(database, bob)
    bobs = database.value("SELECT id FROM outbox WHERE user_id = %s AND webhook_id IS NOT NULL", bob.user["id"])
    with database.connect("healthcare_sender") as connection:
        claimed = [id for (id,) in connection.execute("SELECT id FROM claim_messages(100)")]
        for _ in range(300):  # by chance: it is one of 21 queues
            if bobs in claimed:
                break
            connection.execute(
                "UPDATE outbox SET is_claimed = false, due_at = now() + interval '5 minutes' WHERE id = %s",
                [claimed.pop()],
            )
            claimed += [id for (id,) in connection.execute("SELECT id FROM claim_messages(1)")]
    assert bobs in claimed


def test_a_key_does_not_give_a_secret_again(ann: Client, database: Database) -> None:
    body = {"url": "https://example.com/", "events": ["record.created"]}
    made = [ann.post("/api/webhooks", body, headers={"Idempotency-Key": "one"}).expect(201) for _ in range(2)]
    assert made[0]["secret"] != made[1]["secret"]
    assert database.value("SELECT count(*) FROM idempotency_keys") == 0


def test_a_webhook_is_its_owners_alone(ann: Client, bob: Client, sign_up: Callable[..., Client]) -> None:
    url = f"/api/webhooks/{_register(ann, 'https://example.com/')['id']}"
    etag = ann.get(url).headers["ETag"]
    bob.get(url).refuse(404, "not-found")
    bob.patch(url, {"enabled": False}).refuse(404, "not-found")
    bob.delete(url).refuse(404, "not-found")
    ann.patch(url, {"enabled": False}, headers={"If-Match": etag}).expect(200)
    ann.delete(url, headers={"If-Match": etag}).refuse(412, "stale")
    ann.delete(url).expect(204)
    ann.get(url).refuse(404, "not-found")
