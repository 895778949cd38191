"""Documents: announced to the API, sent to S3 and fetched from it, here moto's behind the check of the local run."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest

from local.settings import DOCUMENTS_BUCKET
from tests.conftest import Database, LogLines
from tests.gateway import Client
from tests.practice import delegate, link, open_patient

FILE = b"%PDF-1.7 a finding"
NEW = {
    "name": "blood-count.pdf",
    "content_type": "application/pdf",
    "size": len(FILE),
    "sha256": sha256(FILE).hexdigest(),
}


@pytest.fixture
def path(ann: Client) -> str:
    return f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}/documents"


def send(upload: dict[str, Any], file: bytes = FILE, **changed: str) -> httpx.Response:
    return httpx.post(upload["url"], data=upload["fields"] | changed, files={"file": ("any.pdf", file)})


def uploaded(client: Client, path: str, file: bytes = FILE, **options: Any) -> Any:
    """A document that is available."""
    new = NEW | {"size": len(file), "sha256": sha256(file).hexdigest()}
    made = client.post(path, new, **options).expect(201)
    assert send(made["upload"], file).status_code == 204
    return client.post(f"{path}/{made['document']['id']}/complete", {}, **options).expect(200)


def s3() -> Any:
    return boto3.client("s3")


def key_of(database: Database, id: int) -> str:
    return str(database.value("SELECT object_key FROM documents WHERE id = %s", id))


def test_a_document_is_announced_sent_completed_and_downloaded(ann: Client, path: str, database: Database) -> None:
    answer = ann.post(path, NEW)
    made = answer.expect(201)
    document, upload = made["document"], made["upload"]
    assert answer.headers["Location"] == f"/v1{path}/{document['id']}"
    assert document == {
        **NEW,
        "id": document["id"],
        "patient_id": int(path.split("/")[3]),
        "status": "pending",
        "author_id": ann.user["id"],
        "author_name": "Ann",
        "by_doctor_id": None,
        "created_at": document["created_at"],
        "updated_at": document["created_at"],
    }
    one = f"{path}/{document['id']}"
    ann.post(f"{one}/complete", {}).refuse(409, "not-uploaded")
    ann.get(f"{one}/content").refuse(409, "not-uploaded")
    assert send(upload).status_code == 204
    ann.get(f"{one}/content").refuse(409, "not-uploaded")
    completed = ann.post(f"{one}/complete", {}).expect(200)
    assert completed == {**document, "status": "available", "updated_at": completed["updated_at"]}
    assert ann.post(f"{one}/complete", {}).expect(200) == completed
    assert ann.get(one).expect(200) == completed
    assert ann.get(path).expect(200)["items"] == [completed]
    download = ann.get(f"{one}/content").expect(200)
    soon = datetime.fromisoformat(download["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < soon <= timedelta(seconds=60)
    content = httpx.get(download["url"])
    assert content.content == FILE
    assert content.headers["Content-Type"] == "application/pdf"
    assert content.headers["Content-Disposition"] == "attachment; filename*=UTF-8''blood-count.pdf"
    tags = s3().get_object_tagging(Bucket=DOCUMENTS_BUCKET, Key=key_of(database, document["id"]))["TagSet"]
    assert tags == [{"Key": "status", "Value": "available"}]  # out of the reach of the rule for what is pending


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        (FILE[:-1] + b"x", {}),
        (FILE + b"x", {}),
        (b"", {}),
        (FILE, {"key": "another"}),
        (FILE, {"Content-Type": "text/html"}),
        (FILE, {"tagging": "<Tagging><TagSet></TagSet></Tagging>"}),
        (FILE, {"x-amz-signature": "0" * 64}),
        (FILE, {"acl": "public-read"}),
    ],
)
def test_the_form_admits_the_bytes_that_were_announced_and_nothing_else(
    ann: Client, path: str, file: bytes, changed: dict[str, str]
) -> None:
    made = ann.create(path, **NEW)
    assert send(made["upload"], file, **changed).status_code in (400, 403)
    ann.post(f"{path}/{made['document']['id']}/complete", {}).refuse(409, "not-uploaded")


def test_an_object_that_is_not_what_was_announced_is_not_completed(ann: Client, path: str, database: Database) -> None:
    """Whoever can write to the bucket puts something else there."""
    made = ann.create(path, **NEW)
    key = key_of(database, made["document"]["id"])
    for body in (FILE + b"x", bytes(len(FILE))):
        s3().put_object(Bucket=DOCUMENTS_BUCKET, Key=key, Body=body, ChecksumAlgorithm="SHA256")
        ann.post(f"{path}/{made['document']['id']}/complete", {}).refuse(409, "not-uploaded")


def test_an_object_that_is_swapped_after_completion_is_not_what_is_downloaded(
    ann: Client, path: str, database: Database
) -> None:
    document = uploaded(ann, path)
    s3().put_object(Bucket=DOCUMENTS_BUCKET, Key=key_of(database, document["id"]), Body=b"something else")
    assert ann.post(f"{path}/{document['id']}/complete", {}).expect(200) == document
    download = ann.get(f"{path}/{document['id']}/content").expect(200)
    assert httpx.get(download["url"]).content == FILE
    unpinned = download["url"].replace("versionId=", "other=")
    assert httpx.get(unpinned).status_code == 403


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "two\r\nlines.pdf"}, "/name"),
        ({"name": "x\u202efdp.exe"}, "/name"),
        ({"name": ""}, "/name"),
        ({"content_type": "text/html"}, "/content_type"),
        ({"size": 0}, "/size"),
        ({"size": 25 * 1024 * 1024 + 1}, "/size"),
        ({"size": "1"}, "/size"),
        ({"sha256": "x" * 64}, "/sha256"),
        ({"sha256": NEW["sha256"][:-1]}, "/sha256"),
        ({"status": "available"}, "/status"),
    ],
)
def test_what_a_document_does_not_have_is_refused(ann: Client, path: str, change: dict[str, Any], pointer: str) -> None:
    problem = ann.post(path, {**NEW, **change}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize("name", ['a"; filename="b.exe', "Ärzte; 100 %.pdf", "%0d%0aSet-Cookie: a", "薬.pdf"])
def test_a_name_stays_a_name_in_the_header_of_a_download(ann: Client, path: str, name: str) -> None:
    made = ann.create(path, **{**NEW, "name": name})
    assert send(made["upload"]).status_code == 204
    ann.post(f"{path}/{made['document']['id']}/complete", {}).expect(200)
    download = ann.get(f"{path}/{made['document']['id']}/content").expect(200)
    answer = httpx.get(download["url"])
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert all(character.isalnum() or character in "%-._~" for character in disposition.split("''")[1])
    assert parse_qs(f"name={disposition.split(chr(39) * 2)[1]}")["name"] == [name]
    assert "Set-Cookie" not in answer.headers


def test_a_pending_document_is_its_authors_own_and_for_a_day(
    ann: Client, bob: Client, path: str, database: Database
) -> None:
    for_ann = delegate(ann, bob)
    made = bob.post(path, NEW, headers=for_ann).expect(201)["document"]
    one = f"{path}/{made['id']}"
    ann.get(one).refuse(404, "not-found")
    ann.post(f"{one}/complete", {}).refuse(404, "not-found")
    assert ann.get(path).expect(200)["items"] == []
    assert bob.get(path, headers=for_ann).expect(200)["items"] == [made]
    with database.connect() as connection:
        connection.execute("UPDATE documents SET created_at = now() - interval '25 hours'")
    bob.get(one, headers=for_ann).refuse(404, "not-found")
    bob.post(path, NEW, headers=for_ann).expect(201)
    assert database.value("SELECT count(*) FROM documents") == 1
    assert database.value("SELECT count(*) FROM disclosures") == 0


def test_deleting_is_for_the_owners_side_and_leaves_the_bytes_under_a_marker(
    ann: Client, path: str, database: Database
) -> None:
    document = uploaded(ann, path)
    key = key_of(database, document["id"])
    one = f"{path}/{document['id']}"
    ann.delete(one, headers={"If-Match": '"1"'}).refuse(412, "stale")
    ann.delete(one, headers={"If-Match": '"2"'}).expect(204)
    ann.get(one).refuse(404, "not-found")
    ann.delete(one).refuse(404, "not-found")
    versions = s3().list_object_versions(Bucket=DOCUMENTS_BUCKET, Prefix=key)
    assert len(versions["Versions"]) == len(versions["DeleteMarkers"]) == 1


def test_a_patient_with_documents_stays_and_one_with_unfinished_uploads_goes(
    ann: Client, bob: Client, path: str
) -> None:
    document = uploaded(ann, path)
    patient = path.removesuffix("/documents")
    ann.delete(patient).refuse(409, "has-history")
    ann.delete(f"{path}/{document['id']}").expect(204)
    bob.post(path, NEW, headers=delegate(ann, bob)).expect(201)
    ann.delete(patient).expect(204)


def test_another_account_finds_nothing(ann: Client, bob: Client, path: str) -> None:
    document = uploaded(ann, path)
    one = f"{path}/{document['id']}"
    for answer in (
        bob.get(path),
        bob.post(path, NEW),
        bob.get(one),
        bob.get(f"{one}/content"),
        bob.post(f"{one}/complete", {}),
        bob.delete(one),
        bob.get(path.replace("/api/", "/api/practice/")),
        bob.get(f"{one.replace('/api/', '/api/practice/')}/content"),
    ):
        answer.refuse(404, "not-found")
    assert ann.get(one).expect(200) == document


def test_each_reading_of_another_is_written_down(
    ann: Client, bob: Client, path: str, sign_up: Callable[..., Client]
) -> None:
    document = uploaded(ann, path)
    one = f"{path}/{document['id']}"
    for_ann = delegate(ann, bob, "read")
    found = path.replace("/documents", "/disclosures")
    assert bob.get(one, headers=for_ann).expect(200) == document
    assert httpx.get(bob.get(f"{one}/content", headers=for_ann).expect(200)["url"]).content == FILE
    bob.delete(one, headers=for_ann).refuse(403, "read-only")
    doctor = link(ann, cara := sign_up("Cara"))
    open_patient(ann, document["patient_id"], doctor["id"], "read")
    of_doctor = path.replace("/api/", "/api/practice/")
    cara.get(of_doctor).expect(200)
    cara.post(of_doctor, NEW).refuse(403, "read-only")
    rows = ann.get(found).expect(200)["items"]
    assert [(row["actor_name"], row["by_doctor_id"], row["resource"], row["resource_id"]) for row in rows] == [
        ("Cara", doctor["id"], "document", document["id"]),
        ("Bob", None, "document", document["id"]),
        ("Bob", None, "document", document["id"]),
    ]
    assert rows[0].keys() == {
        "id", "at", "actor_id", "actor_name", "by_doctor_id", "resource", "resource_id", "request_id"
    }  # fmt: skip
    assert ann.walk(f"{found}?limit=1") == rows


def test_a_doctor_with_write_sends_documents(ann: Client, bob: Client, path: str) -> None:
    doctor = link(ann, bob)
    open_patient(ann, int(path.split("/")[3]), doctor["id"])
    document = uploaded(bob, path.replace("/api/", "/api/practice/"))
    assert (document["by_doctor_id"], document["author_id"]) == (doctor["id"], bob.user["id"])
    assert ann.get(path).expect(200)["items"] == [document]


@pytest.mark.parametrize(
    ("verdict", "status", "outcome"),
    [
        (None, 200, "pending"),
        ("NO_THREATS_FOUND", 200, "available"),
        ("THREATS_FOUND", 409, "infected"),
        ("FAILED", 409, "infected"),
    ],
)
def test_where_files_are_scanned_a_document_waits_for_the_verdict(
    ann: Client,
    path: str,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    verdict: str | None,
    status: int,
    outcome: str,
) -> None:
    layer = ann.gateway.environments["documents"].modules["healthcare.platform.settings"]
    monkeypatch.setenv("MALWARE_SCAN", "on")
    layer.settings.cache_clear()
    made = ann.create(path, **NEW)
    assert send(made["upload"]).status_code == 204
    key = key_of(database, made["document"]["id"])
    if verdict:
        tags = [{"Key": "status", "Value": "pending"}, {"Key": "GuardDutyMalwareScanStatus", "Value": verdict}]
        s3().put_object_tagging(Bucket=DOCUMENTS_BUCKET, Key=key, Tagging={"TagSet": tags})
    answer = ann.post(f"{path}/{made['document']['id']}/complete", {})
    monkeypatch.undo()
    layer.settings.cache_clear()
    if status == 200:
        assert answer.expect(200)["status"] == outcome
    else:
        answer.refuse(409, outcome)


def test_without_s3_nothing_is_lost_and_the_answer_says_so(
    ann: Client, path: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = uploaded(ann, path)
    layer = ann.gateway.environments["documents"].modules["healthcare.documents"]
    layer._s3.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ann.delete(f"{path}/{document['id']}").refuse(503, "unavailable")
    monkeypatch.undo()
    layer._s3.cache_clear()
    assert ann.get(f"{path}/{document['id']}").expect(200) == document


def test_what_a_file_is_called_is_in_no_log_no_audit_and_no_error(ann: Client, path: str, log_lines: LogLines) -> None:
    secret = "Zqxjkvb"
    made = ann.create(path, **{**NEW, "name": f"{secret}.pdf"})
    refused = ann.post(f"{path}/{made['document']['id']}/complete", {}).refuse(409, "not-uploaded")
    assert send(made["upload"]).status_code == 204
    ann.post(f"{path}/{made['document']['id']}/complete", {}).expect(200)
    assert secret in ann.get(f"{path}/{made['document']['id']}/content").expect(200)["url"]
    ann.delete(f"{path}/{made['document']['id']}").expect(204)
    audit = ann.get("/api/audit").expect(200)
    assert [event["resource"] for event in audit["items"][:3]] == ["document"] * 3
    for text in (log_lines(), audit, refused, made["upload"]):
        assert secret not in json.dumps(text)
    assert urlsplit(made["upload"]["url"]).query == ""
