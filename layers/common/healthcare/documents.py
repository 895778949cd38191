"""Documents: files about a patient. The bytes go to S3 and come from it by forms and URLs that are signed here.

boto3 is loaded when the first of them is signed, and only here.
"""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, LiteralString
from urllib.parse import quote
from uuid import UUID

from pydantic import Field, StringConstraints
from typing_extensions import TypeAliasType

from healthcare import patients
from healthcare.database.connection import IF_MATCH, Constraints, Database
from healthcare.errors import Conflict, NotFound, ReadOnly, Stale, Unavailable
from healthcare.fields import Input, Name, OfPatient, Output, Page, PageQuery, page
from healthcare.patients import PatientNotFound
from healthcare.platform.settings import settings

UPLOAD_LIFETIME = timedelta(minutes=15)
DOWNLOAD_LIFETIME = timedelta(minutes=1)
MAX_SIZE = 25 * 1024 * 1024

# The object of a document that is not available has this tag, by which a rule of the bucket expires it.
PENDING = "<Tagging><TagSet><Tag><Key>status</Key><Value>pending</Value></Tag></TagSet></Tagging>"
AVAILABLE = {"Key": "status", "Value": "available"}
VERDICT = "GuardDutyMalwareScanStatus"

ContentType = TypeAliasType(
    "ContentType", Literal["application/pdf", "image/png", "image/jpeg", "text/plain", "application/dicom"]
)


class NewDocument(Input):
    name: Name = Field(examples=["blood-count.pdf"])
    content_type: ContentType = Field(examples=["application/pdf"])
    size: Annotated[int, Field(ge=1, le=MAX_SIZE, strict=True, description="Bytes.", examples=[48_213])]
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] = Field(
        description="Of the bytes, in hexadecimal digits.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )


class Document(OfPatient):
    version: int = Field(exclude=True)
    name: str
    content_type: ContentType
    size: int
    sha256: str
    status: Literal["pending", "available"] = Field(description="Pending until the upload is completed.")
    author_id: int
    author_name: str = Field(examples=["Ada Lovelace"])
    by_doctor_id: int | None = Field(description="The doctor, when the author wrote as one and not for the owner.")
    created_at: datetime
    updated_at: datetime


# Credentials of a function are part of what it signs, and long.
Signed = Annotated[str, Field(json_schema_extra={"maxLength": 10_000})]


class Upload(Output):
    url: Signed = Field(examples=["https://documents.s3.eu-central-1.amazonaws.com/"])
    fields: dict[str, Signed] = Field(
        description="The fields of a multipart/form-data POST; the bytes follow as `file`. S3 refuses any other bytes.",
        examples=[{"key": "6b8b4567-327b-43c6-a43c-1f2b0d9e8a11", "Content-Type": "application/pdf"}],
    )
    expires_at: datetime


class CreatedDocument(Output):
    document: Document
    upload: Upload

    def patients(self) -> list[int]:
        return self.document.patients()


class Download(Output):
    url: Signed = Field(examples=["https://documents.s3.eu-central-1.amazonaws.com/6b8b4567?X-Amz-Signature=…"])
    expires_at: datetime
    patient_id: int = Field(exclude=True)

    def patients(self) -> list[int]:
        return [self.patient_id]


class DocumentNotFound(NotFound):
    detail = "There is no document with this id."


class NotUploaded(Conflict):
    """The bytes that were announced are not there: none were uploaded, or the upload was not completed.

    Send the file with the form that came when the document was created, then complete it. A form is good for 15
    minutes; after that, create the document anew.
    """

    slug, title = "not-uploaded", "The document was not uploaded"
    detail = "The bytes that were announced are not there."


class Infected(Conflict):
    """The malware scan found something in this file, so nobody can download it.

    Find out where the file came from.
    """

    slug, title = "infected", "The document holds malware"
    detail = "The scan for malware has found something in this file."


_COLUMNS: LiteralString = """
               id, patient_id, content_type, size, sha256, status, author_id, author_name, by_doctor_id, version,
               created_at, updated_at"""

_READ: LiteralString = f"""
        SELECT {_COLUMNS}, seen.name, object_key, seen.object_version
          FROM documents
          JOIN read_documents(%(patient_id)s, ARRAY[%(id)s]::bigint[]) AS seen USING (id)
         WHERE patient_id = %(patient_id)s AND id = %(id)s
        """

_REFUSALS: Constraints = {"patient_is_read_only": lambda: ReadOnly("This patient is opened to you with access `read`.")}


class _Stored(Document):
    """With what stays between the database and S3."""

    object_key: UUID = Field(exclude=True)
    object_version: str | None = Field(None, exclude=True)


def create(db: Database, patient_id: int, new: NewDocument) -> CreatedDocument:
    """Raises PatientNotFound and ReadOnly."""
    document = db.row(
        _Stored,
        f"""
        INSERT INTO documents (owner_id, patient_id, name, content_type, size, sha256)
        SELECT owner_id, id, %(name)s, %(content_type)s, %(size)s, %(sha256)s
          FROM patients
         WHERE id = %(patient_id)s
        RETURNING {_COLUMNS}, %(name)s AS name, object_key
        """,
        patient_id=patient_id,
        **dict(new),
        constraints=_REFUSALS,
    )
    if document is None:
        raise PatientNotFound
    return CreatedDocument(document=document, upload=_form(document))


def search(db: Database, patient_id: int, query: PageQuery) -> Page[Document]:
    """Raises PatientNotFound."""
    documents = db.rows(
        Document,
        # As in records.search.
        f"""
        WITH listed AS MATERIALIZED (
            SELECT {_COLUMNS}
              FROM documents
             WHERE patient_id = %(patient_id)s AND id > coalesce(%(cursor)s, 0)
             ORDER BY id
             LIMIT %(limit)s + 1
        )
        SELECT listed.*, coalesce(name, '') AS name
          FROM listed
          LEFT JOIN read_documents(
               %(patient_id)s, ARRAY(SELECT id FROM listed ORDER BY id LIMIT %(limit)s)) USING (id)
         ORDER BY id
        """,
        patient_id=patient_id,
        **dict(query),
    )
    if not documents:
        patients.get(db, patient_id)
    return page(Document, documents, query, patient_id)


def complete(db: Database, patient_id: int, id: int) -> Document:
    """Makes it available when the bytes that were announced are there, and have been scanned where they are to be.

    Raises DocumentNotFound, ReadOnly, NotUploaded, and Infected.
    """
    # The update changes nothing: a trigger keeps what is there and says whether the caller may.
    document = db.row(
        _Stored,
        f"""
        UPDATE documents
           SET object_version = NULL
         WHERE patient_id = %(patient_id)s AND id = %(id)s;
        {_READ}
        """,
        patient_id=patient_id,
        id=id,
        constraints=_REFUSALS,
    )
    if document is None:
        raise DocumentNotFound
    if document.status == "available":
        return document
    version = _uploaded_version(document)
    if version is None:
        return document  # its scan goes on
    completed = db.row(
        Document,
        f"""
        UPDATE documents
           SET object_version = %(version)s
         WHERE patient_id = %(patient_id)s AND id = %(id)s
        RETURNING {_COLUMNS}, %(name)s AS name
        """,
        patient_id=patient_id,
        id=id,
        version=version,
        name=document.name,
        constraints=_REFUSALS,
    )
    if completed is None:  # deleted meanwhile
        raise DocumentNotFound
    return completed


def content(db: Database, patient_id: int, id: int) -> Download:
    """Raises DocumentNotFound and NotUploaded."""
    document = get(db, patient_id, id)
    if document.object_version is None:
        raise NotUploaded
    expires_at = datetime.now(UTC) + DOWNLOAD_LIFETIME
    url = _s3().generate_presigned_url(
        "get_object",
        {
            "Bucket": settings().documents_bucket,
            "Key": str(document.object_key),
            "VersionId": document.object_version,
            "ResponseContentType": document.content_type,
            # RFC 6266; as an attachment, no browser runs what somebody has uploaded.
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(document.name, safe='')}",
        },
        int(DOWNLOAD_LIFETIME.total_seconds()),
    )
    return Download(url=url, expires_at=expires_at, patient_id=patient_id)


def delete(db: Database, patient_id: int, id: int, if_match: list[int] | None) -> None:
    """S3 keeps the bytes for a while under a marker; a rule of the bucket says how long.

    Raises DocumentNotFound, and Stale when its version is none of `if_match`.
    """
    with db.transaction():
        deleted = db.row(
            _Deleted,
            f"""
            DELETE FROM documents
             WHERE patient_id = %(patient_id)s AND id = %(id)s AND {IF_MATCH}
            RETURNING object_key
            """,
            patient_id=patient_id,
            id=id,
            if_match=if_match,
        )
        if deleted is None:
            get(db, patient_id, id)
            raise Stale
        _asked("delete_object", Key=str(deleted.object_key))


class _Deleted(Output):
    object_key: UUID


def get(db: Database, patient_id: int, id: int) -> _Stored:
    document = db.row(_Stored, _READ, patient_id=patient_id, id=id)
    if document is None:
        raise DocumentNotFound
    return document


# S3 ------------------------------------------------------------------------------------------------------------------


@cache
def _s3() -> Any:
    import boto3  # takes longer than the rest of a cold start
    from botocore.config import Config

    patience = Config(signature_version="s3v4", connect_timeout=1, read_timeout=4, retries={"total_max_attempts": 2})
    return boto3.client("s3", config=patience)


def _asked(operation: str, **parameters: Any) -> Any:
    """What S3 answers, None where there is nothing. Raises Unavailable."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(_s3(), operation)(Bucket=settings().documents_bucket, **parameters)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise Unavailable from error
    except BotoCoreError as error:
        raise Unavailable from error


def _form(document: _Stored) -> Upload:
    """Admits the bytes that were announced and no others, as the document's object and no other."""
    fields = {
        "Content-Type": document.content_type,
        "x-amz-checksum-sha256": _checksum(document),
        "tagging": PENDING,
    }
    size = ["content-length-range", document.size, document.size]
    expires_at = datetime.now(UTC) + UPLOAD_LIFETIME
    form = _s3().generate_presigned_post(
        settings().documents_bucket,
        str(document.object_key),
        fields,
        [*({name: value} for name, value in fields.items()), size],
        int(UPLOAD_LIFETIME.total_seconds()),
    )
    return Upload(**form, expires_at=expires_at)


def _uploaded_version(document: _Stored) -> str | None:
    """S3's version of the object, out of reach of the rule that expires it; None while its scan goes on.

    Raises NotUploaded and Infected.
    """
    key = str(document.object_key)
    found = _asked("head_object", Key=key, ChecksumMode="ENABLED")
    if not found or (found["ContentLength"], found.get("ChecksumSHA256")) != (document.size, _checksum(document)):
        raise NotUploaded
    version: str = found["VersionId"]
    tags = []
    if settings().malware_scan == "on":
        stored = _asked("get_object_tagging", Key=key, VersionId=version)
        tags = [tag for tag in stored["TagSet"] if tag["Key"] == VERDICT]
        if not tags:
            return None
        if tags[0]["Value"] != "NO_THREATS_FOUND":
            raise Infected
    _asked("put_object_tagging", Key=key, VersionId=version, Tagging={"TagSet": [*tags, AVAILABLE]})
    return version


def _checksum(document: _Stored) -> str:
    return b64encode(bytes.fromhex(document.sha256)).decode()
