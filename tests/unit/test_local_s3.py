"""What S3 refuses, the local run refuses. Examples of AWS's documentation, and boto3 as the signer."""

import base64
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import httpx
import pytest
from botocore.client import Config
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from local.aws import server
from local.aws.s3 import Check, Refused, read_form

# "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)" of the Amazon S3 API Reference.
KEY_ID, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
POLICY = """{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}"""
FORM = {
    "key": "user/user1/MyPhoto.jpg",
    "acl": "public-read",
    "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
    "content-type": "image/jpeg",
    "x-amz-meta-uuid": "14365123651274",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-date": "20151229T000000Z",
    "x-amz-meta-tag": "some,tag",
    "policy": base64.b64encode(POLICY.replace("\n", "\r\n").encode()).decode(),
    "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
}

# "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" of the same.
PRESIGNED = (
    "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
    "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)


def no_moto(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise AssertionError("this was to be refused")


def check_at(*date: int) -> Check:
    return Check(no_moto, {KEY_ID: SECRET_KEY}, lambda: datetime(*date, tzinfo=UTC))


def refusal(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.status, refused.value.code


def test_the_form_that_aws_documents_is_taken() -> None:
    check_at(2015, 12, 29).check_form("sigv4examplebucket", FORM, b"a photo")


@pytest.mark.parametrize(
    "change",
    [
        {"key": "user/user2/MyPhoto.jpg"},
        {"acl": "private"},
        {"content-type": "text/html"},
        {"content-type": "image/jpeg,text/html"},
        {"x-amz-meta-uuid": "1"},
        {"x-amz-server-side-encryption": ""},
        {"x-amz-meta-other": "1"},  # no condition covers it
        {"tagging": "<Tagging/>"},
    ],
)
def test_a_form_that_does_not_fit_its_policy_is_refused(change: dict[str, str]) -> None:
    check = check_at(2015, 12, 29)
    assert refusal(lambda: check.check_form("sigv4examplebucket", FORM | change, b"")) == (403, "AccessDenied")
    assert refusal(lambda: check.check_form("anotherbucket", FORM, b"")) == (403, "AccessDenied")


@pytest.mark.parametrize("name", ["acl", "content-type", "x-amz-meta-uuid", "success_action_redirect"])
def test_a_field_that_the_policy_wants_cannot_be_left_out(name: str) -> None:
    fields = {field: value for field, value in FORM.items() if field != name}
    assert refusal(lambda: check_at(2015, 12, 29).check_form("sigv4examplebucket", fields, b"")) == (
        403,
        "AccessDenied",
    )


@pytest.mark.parametrize("name", ["key", "policy", "x-amz-signature", "x-amz-credential", "x-amz-date"])
def test_a_form_without_what_signs_it_is_refused(name: str) -> None:
    fields = {field: value for field, value in FORM.items() if field != name}
    assert refusal(lambda: check_at(2015, 12, 29).check_form("b", fields, b"")) == (400, "InvalidArgument")


def test_a_policy_expires() -> None:
    check_at(2015, 12, 30, 11, 59, 59).check_form("sigv4examplebucket", FORM, b"")
    late = check_at(2015, 12, 30, 12)
    assert refusal(lambda: late.check_form("sigv4examplebucket", FORM, b"")) == (403, "AccessDenied")


WIDER = base64.b64encode(POLICY.replace("2015-12-30", "2025-12-30").replace("\n", "\r\n").encode()).decode()


@pytest.mark.parametrize("forged", [{"policy": WIDER}, {"x-amz-signature": "8" * 64}, {"x-amz-signature": "é"}])
def test_a_policy_and_its_signature_belong_together(forged: dict[str, str]) -> None:
    check = check_at(2015, 12, 29)
    assert refusal(lambda: check.check_form("sigv4examplebucket", FORM | forged, b"")) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    "change",
    [
        {"x-amz-algorithm": "AWS4-HMAC-SHA1"},
        {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/ec2/aws4_request"},
        {"x-amz-date": "20151230T000000Z"},
    ],
)
def test_a_signature_of_another_algorithm_service_or_day_is_refused(change: dict[str, str]) -> None:
    check = check_at(2015, 12, 29)
    assert refusal(lambda: check.check_form("sigv4examplebucket", FORM | change, b"")) == (400, "InvalidArgument")


def test_an_unknown_access_key_is_refused() -> None:
    check = Check(no_moto, {"AKIAANOTHER": SECRET_KEY}, lambda: datetime(2015, 12, 29, tzinfo=UTC))
    assert refusal(lambda: check.check_form("sigv4examplebucket", FORM, b"")) == (403, "InvalidAccessKeyId")


def presigned(url: str, method: str = "GET") -> Request:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    return Request(EnvironBuilder(parts.path, base, parts.query, method=method).get_environ())


def test_the_presigned_url_that_aws_documents_is_taken() -> None:
    check_at(2013, 5, 24, 12).check_query(presigned(PRESIGNED))


@pytest.mark.parametrize(
    ("url", "method", "code"),
    [
        (PRESIGNED.replace("test.txt", "other.txt"), "GET", "SignatureDoesNotMatch"),
        (PRESIGNED.replace("86400", "86401"), "GET", "SignatureDoesNotMatch"),
        (PRESIGNED.replace("examplebucket", "anotherbucket"), "GET", "SignatureDoesNotMatch"),
        (f"{PRESIGNED}&versionId=1", "GET", "SignatureDoesNotMatch"),
        (PRESIGNED, "PUT", "SignatureDoesNotMatch"),
        (PRESIGNED, "DELETE", "SignatureDoesNotMatch"),
        (PRESIGNED.replace("AKIAIOSFODNN7EXAMPLE", "AKIAANOTHER"), "GET", "InvalidAccessKeyId"),
        (PRESIGNED.replace("86400", "604801"), "GET", "AuthorizationQueryParametersError"),
        (PRESIGNED.replace("86400", "0"), "GET", "AuthorizationQueryParametersError"),
        (PRESIGNED.replace("&X-Amz-Date=20130524T000000Z", ""), "GET", "AuthorizationQueryParametersError"),
    ],
)
def test_a_presigned_url_that_was_changed_is_refused(url: str, method: str, code: str) -> None:
    assert refusal(lambda: check_at(2013, 5, 24, 12).check_query(presigned(url, method)))[1] == code


def test_a_presigned_url_expires_and_is_not_good_before_its_time() -> None:
    assert refusal(lambda: check_at(2013, 5, 25, 0, 0, 1).check_query(presigned(PRESIGNED))) == (403, "AccessDenied")
    assert refusal(lambda: check_at(2013, 5, 23, 23, 44).check_query(presigned(PRESIGNED))) == (403, "AccessDenied")


def multipart(*parts: tuple[str, str, bytes]) -> Request:
    """Each a name, a file's name or '', and the content."""
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"{f"; filename={chr(34)}{file}{chr(34)}" if file else ""}'
        "\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, file, content in parts
    ]
    body = b"".join(lines) + b"--b--\r\n"
    builder = EnvironBuilder("/b", method="POST", input_stream=io.BytesIO(body), content_length=len(body))
    return Request(builder.get_environ() | {"CONTENT_TYPE": "multipart/form-data; boundary=b"})


def test_what_comes_after_the_file_is_ignored_as_s3_does() -> None:
    form = multipart(("Key", "", b"a/${filename}"), ("file", "x.txt", b"content"), ("policy", "", b"late"))
    assert read_form(form) == ({"key": "a/x.txt"}, b"content")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([("key", "", b"a")], "InvalidArgument"),
        ([("key", "", b"a"), ("KEY", "", b"b"), ("file", "", b"")], "InvalidArgument"),
        ([("key", "", b"\xff"), ("file", "", b"")], "MalformedPOSTRequest"),
        ([("key", "", b"a" * 21_000), ("file", "", b"")], "MaxPostPreDataLengthExceeded"),
    ],
)
def test_a_form_that_is_not_one_is_refused(parts: list[tuple[str, str, bytes]], code: str) -> None:
    assert refusal(lambda: read_form(multipart(*parts)))[1] == code


# Over the wire, signed by boto3 and stored by moto.


@pytest.fixture(scope="module")
def endpoint() -> str:
    return server.serve(0)


@pytest.fixture(scope="module")
def client(endpoint: str) -> Any:
    client = boto3.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4"))
    client.create_bucket(Bucket="records")
    client.put_bucket_versioning(Bucket="records", VersioningConfiguration={"Status": "Enabled"})
    return client


FILE = b"%PDF-1.7 a finding"
FIELDS = {
    "Content-Type": "application/pdf",
    "x-amz-checksum-sha256": base64.b64encode(sha256(FILE).digest()).decode(),
    "tagging": "<Tagging><TagSet><Tag><Key>status</Key><Value>pending</Value></Tag></TagSet></Tagging>",
}


def form_of(client: Any, key: str, expires_in: int = 60) -> tuple[str, dict[str, str]]:
    conditions = [{name: value} for name, value in FIELDS.items()] + [["content-length-range", len(FILE), len(FILE)]]
    form = client.generate_presigned_post("records", key, FIELDS, conditions, expires_in)
    return form["url"], form["fields"]


def test_what_the_form_admits_is_stored_as_the_form_says(client: Any) -> None:
    url, fields = form_of(client, "one")
    answer = httpx.post(url, data=fields, files={"file": ("finding.pdf", FILE)})
    assert answer.status_code == 204, answer.text
    stored = client.head_object(Bucket="records", Key="one", ChecksumMode="ENABLED")
    assert stored["ContentLength"] == len(FILE)
    assert stored["ContentType"] == "application/pdf"
    assert stored["ChecksumSHA256"] == FIELDS["x-amz-checksum-sha256"]
    assert stored["VersionId"] == answer.headers["x-amz-version-id"]
    assert client.get_object_tagging(Bucket="records", Key="one")["TagSet"] == [{"Key": "status", "Value": "pending"}]
    assert client.get_object(Bucket="records", Key="one")["Body"].read() == FILE


@pytest.mark.parametrize(
    ("change", "file", "code"),
    [
        ({}, FILE[:-1] + b"x", "BadDigest"),
        ({}, FILE + b"x", "EntityTooLarge"),
        ({}, FILE[:-1], "EntityTooSmall"),
        ({"key": "another"}, FILE, "AccessDenied"),
        ({"Content-Type": "text/html"}, FILE, "AccessDenied"),
        ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, FILE, "AccessDenied"),
        ({"x-amz-meta-more": "1"}, FILE, "AccessDenied"),
        ({"x-amz-signature": "0" * 64}, FILE, "SignatureDoesNotMatch"),
    ],
)
def test_what_the_form_does_not_admit_is_not_stored(
    client: Any, change: dict[str, str], file: bytes, code: str
) -> None:
    url, fields = form_of(client, "two")
    answer = httpx.post(url, data=fields | change, files={"file": ("finding.pdf", file)})
    assert answer.status_code in (400, 403)
    assert f"<Code>{code}</Code>" in answer.text
    assert not any(
        key in json.dumps(client.list_objects_v2(Bucket="records"), default=str) for key in ("two", "another")
    )


def test_an_expired_form_stores_nothing(client: Any) -> None:
    url, fields = form_of(client, "three", -1)
    assert "Policy expired" in httpx.post(url, data=fields, files={"file": ("finding.pdf", FILE)}).text


def test_a_signed_download_is_that_version_and_no_other(client: Any) -> None:
    client.put_object(Bucket="records", Key="four", Body=b"first")
    version = client.head_object(Bucket="records", Key="four")["VersionId"]
    client.put_object(Bucket="records", Key="four", Body=b"second")
    parameters = {
        "Bucket": "records",
        "Key": "four",
        "VersionId": version,
        "ResponseContentDisposition": "attachment; filename*=UTF-8''a%20b.pdf",
    }
    url = client.generate_presigned_url("get_object", parameters, 60)
    answer = httpx.get(url)
    assert answer.content == b"first"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%20b.pdf"
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    del query["versionId"]
    assert httpx.get(parts._replace(query=urlencode(query)).geturl()).status_code == 403


def test_nothing_is_read_listed_or_written_without_a_signature(client: Any, endpoint: str) -> None:
    client.put_object(Bucket="records", Key="five", Body=b"private")
    assert httpx.get(f"{endpoint}/records/five").status_code == 403
    assert httpx.get(f"{endpoint}/records").status_code == 403
    assert httpx.put(f"{endpoint}/records/six", content=b"x").status_code == 403
    assert httpx.delete(f"{endpoint}/records/five").status_code == 403


def test_a_presigned_url_is_good_for_its_minute(client: Any) -> None:
    client.put_object(Bucket="records", Key="seven", Body=b"x")
    url = client.generate_presigned_url("get_object", {"Bucket": "records", "Key": "seven"}, 60)
    keys = {os.environ["AWS_ACCESS_KEY_ID"]: os.environ["AWS_SECRET_ACCESS_KEY"]}
    later = Check(no_moto, keys, lambda: datetime.now(UTC) + timedelta(seconds=62))
    assert refusal(lambda: later.check_query(presigned(url))) == (403, "AccessDenied")
