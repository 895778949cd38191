"""A check in front of moto's S3, which takes any signature, size and checksum: what S3 would refuse is refused here.

Sources, in the Amazon S3 API Reference: "POST Policy", "POST Object" and "Authenticating Requests: Using Query
Parameters (AWS Signature Version 4)". Requests that are signed in a header come from functions and are passed on.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST = timedelta(days=7)
SKEW = timedelta(minutes=15)
FORM_LIMIT = 20_000  # bytes before the file
NOT_IN_POLICY = {"file", "policy", "x-amz-signature"}
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}  # whichever page of a developer's machine uploads

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Refused(Exception):
    """As S3 answers it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        body = f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>"
        return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', self.status, ANY_ORIGIN, "application/xml")


class Check:
    """A WSGI application: asks `moto` for what S3 would not refuse. `secret_keys` are by access key."""

    def __init__(
        self, moto: Application, secret_keys: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._moto = moto
        self._secret_keys = secret_keys
        self._now = now

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            if request.method == "POST" and request.mimetype == "multipart/form-data":
                return self._post(request)(environ, start_response)
            if "X-Amz-Signature" in request.args:
                self.check_query(request)
            elif "Authorization" not in request.headers and not request.path.startswith("/moto-api/"):
                raise Refused(403, "AccessDenied", "Access Denied")
        except Refused as refused:
            return refused.response()(environ, start_response)
        return self._moto(environ, start_response)

    def _post(self, request: Request) -> Response:
        """Stores a form's file with a PUT, because moto's own POST ignores every field but the key."""
        fields, file = read_form(request)
        bucket = request.path.strip("/")
        self.check_form(bucket, fields, file)
        headers = Headers(
            (name, value)
            for name, value in fields.items()
            if name.startswith(("content-", "x-amz-checksum-", "x-amz-meta-", "x-amz-server-side-encryption"))
        )
        if "x-amz-checksum-sha256" in fields:
            headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        if "tagging" in fields:
            headers["x-amz-tagging"] = _tags(fields["tagging"])
        put = EnvironBuilder(
            f"/{quote(bucket)}/{quote(fields['key'])}", request.host_url, method="PUT", headers=headers, data=file
        )
        body, status, stored = run_wsgi_app(self._moto, put.get_environ())
        if not status.startswith("200"):
            return Response(body, status, stored)
        kept = {name: stored[name] for name in ("ETag", "x-amz-version-id") if name in stored}
        return Response(status=int(fields.get("success_action_status", 204)), headers=ANY_ORIGIN | kept)

    def check_form(self, bucket: str, fields: Mapping[str, str], file: bytes) -> None:
        """Raises Refused. Names in `fields` are in lower case."""
        for name in ("key", "policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"):
            if name not in fields:
                raise Refused(400, "InvalidArgument", f"Bucket POST must contain a field named '{name}'.")
        self._check_signature(
            fields["x-amz-algorithm"],
            fields["x-amz-credential"],
            fields["x-amz-date"],
            fields["policy"],
            fields["x-amz-signature"],
        )
        expiration, conditions = _read_policy(fields["policy"])
        if self._now() >= expiration:
            raise Refused(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        covered = set()
        for condition in conditions:
            covered.add(_check_condition(condition, {**fields, "bucket": bucket}, len(file)))
        extra = {name for name in fields if not name.startswith("x-ignore-")} - NOT_IN_POLICY - covered
        if extra:
            raise Refused(403, "AccessDenied", f"Invalid according to Policy: Extra input fields: {min(extra)}")
        expected = fields.get("x-amz-checksum-sha256")
        if expected is not None and base64.b64encode(sha256(file).digest()).decode() != expected:
            raise Refused(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.")

    def check_query(self, request: Request) -> None:
        """Of a presigned URL. Raises Refused."""
        query = dict(parse_qsl(request.query_string.decode(), keep_blank_values=True))
        try:
            began = _time(query["X-Amz-Date"])
            lifetime = timedelta(seconds=int(query["X-Amz-Expires"]))
            signed = query["X-Amz-SignedHeaders"].split(";")
            algorithm, credential = query["X-Amz-Algorithm"], query["X-Amz-Credential"]
        except (KeyError, ValueError):
            raise Refused(
                400, "AuthorizationQueryParametersError", "Query parameters are missing or malformed"
            ) from None
        if not timedelta(0) < lifetime <= LONGEST:
            raise Refused(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week")
        if self._now() > began + lifetime:
            raise Refused(403, "AccessDenied", "Request has expired")
        if self._now() < began - SKEW:
            raise Refused(403, "AccessDenied", "Request is not valid yet")
        signature = query.pop("X-Amz-Signature")
        lines = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed)
        canonical = "\n".join(
            [
                request.method,
                quote(request.path, safe="/~"),
                urlencode(sorted(query.items()), quote_via=quote, safe="~"),
                lines,
                ";".join(signed),
                "UNSIGNED-PAYLOAD",
            ]
        )
        scope = credential.partition("/")[2]
        text = "\n".join([ALGORITHM, query["X-Amz-Date"], scope, sha256(canonical.encode()).hexdigest()])
        self._check_signature(algorithm, credential, query["X-Amz-Date"], text, signature)

    def _check_signature(self, algorithm: str, credential: str, date: str, text: str, signature: str) -> None:
        match = re.fullmatch(r"([^/]+)/([0-9]{8})/([a-z0-9-]+)/s3/aws4_request", credential)
        if algorithm != ALGORITHM or not match or date[:8] != match[2]:
            raise Refused(400, "InvalidArgument", "The algorithm, the credential or its date is malformed")
        if match[1] not in self._secret_keys:
            raise Refused(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
        key = f"AWS4{self._secret_keys[match[1]]}".encode()
        for part in (match[2], match[3], "s3", "aws4_request", text):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(key.hex().encode(), signature.encode()):
            raise Refused(403, "SignatureDoesNotMatch", "The signature does not match.")


def read_form(request: Request) -> tuple[dict[str, str], bytes]:
    """The fields before the file, by names in lower case, and the file. What comes after it is ignored, as S3 does."""
    boundary = request.mimetype_params.get("boundary", "").encode()
    decoder = MultipartDecoder(boundary)
    decoder.receive_data(request.get_data())
    decoder.receive_data(None)
    fields: dict[str, str] = {}
    name, content = "", b""
    try:
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field | File):
                name, content = event.name.lower(), b""
                filename = event.filename if isinstance(event, File) else ""
            elif isinstance(event, Data):
                content += event.data
                if event.more_data:
                    continue
                if name == "file":
                    fields = {key: value.replace("${filename}", filename or "") for key, value in fields.items()}
                    return fields, content
                if name in fields:
                    raise Refused(400, "InvalidArgument", f"The field {name} came twice")
                fields[name] = content.decode()
                if sum(map(len, fields.values())) > FORM_LIMIT:
                    raise Refused(400, "MaxPostPreDataLengthExceeded", "Your POST request fields are too large")
    except (ValueError, RequestEntityTooLarge):
        raise Refused(400, "MalformedPOSTRequest", "The body is not well-formed multipart/form-data.") from None
    raise Refused(400, "InvalidArgument", "POST requires exactly one file upload per request.")


def _read_policy(policy: str) -> tuple[datetime, list[Any]]:
    try:
        document = json.loads(base64.b64decode(policy, validate=True))
        expiration = datetime.fromisoformat(document["expiration"])
        conditions = document["conditions"]
        if expiration.tzinfo is None or not isinstance(conditions, list):
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise Refused(400, "InvalidPolicyDocument", "Invalid Policy: Invalid JSON.") from None
    return expiration, conditions


def _check_condition(condition: object, fields: Mapping[str, str], size: int) -> str:
    """The name of the field that it is about. Raises Refused."""
    match condition:
        case dict() if len(condition) == 1:
            ((name, value),) = condition.items()
            name = str(name).lower()
            holds = fields.get(name, "") == value
        case ["eq", str(name), str(value)]:
            name = name.removeprefix("$").lower()
            holds = fields.get(name, "") == value
        case ["starts-with", str(name), str(value)]:
            name = name.removeprefix("$").lower()
            parts = fields.get(name, "").split(",") if name == "content-type" else [fields.get(name, "")]
            holds = all(part.startswith(value) for part in parts)
        case ["content-length-range", int(least), int(most)]:
            if size < least:
                raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
            if size > most:
                raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
            return ""
        case _:
            raise Refused(400, "InvalidPolicyDocument", "Invalid Policy: Invalid condition.")
    if not holds:
        failed = json.dumps(condition)
        raise Refused(403, "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {failed}")
    return name


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _tags(xml: str) -> str:
    """As the header of a PUT has them. Raises Refused."""
    try:
        tags = ElementTree.fromstring(xml).iterfind("TagSet/Tag")  # noqa: S314 - of a form that we have signed
    except ElementTree.ParseError:
        raise Refused(400, "MalformedXML", "The tagging field is not well-formed XML") from None
    return urlencode([(tag.findtext("Key", ""), tag.findtext("Value", "")) for tag in tags])
