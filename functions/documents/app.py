from healthcare import documents
from healthcare.database.connection import Database
from healthcare.documents import (
    CreatedDocument,
    Document,
    DocumentNotFound,
    Download,
    Infected,
    NewDocument,
    NotUploaded,
)
from healthcare.fields import IdText, Page, PageQuery
from healthcare.patients import PatientNotFound
from healthcare.web.api import Api

api = Api()


@api.route(
    "POST",
    "/api/patients/{id}/documents",
    status=201,
    location="/api/patients/{document.patient_id}/documents/{document.id}",
    refusals=[PatientNotFound],
)
def create_document(db: Database, id: IdText, body: NewDocument) -> CreatedDocument:
    """Announce a document of a patient

    The answer has a form: POST it with the bytes to S3, which takes these and no others, then complete the document.
    """
    return documents.create(db, id, body)


@api.route("GET", "/api/patients/{id}/documents", refusals=[PatientNotFound], discloses=True)
def list_documents(db: Database, id: IdText, query: PageQuery) -> Page[Document]:
    """List a patient's documents

    One that is pending is shown only to whoever announced it, and for a day.
    """
    return documents.search(db, id, query)


@api.route("GET", "/api/patients/{id}/documents/{document_id}", refusals=[DocumentNotFound], discloses=True)
def read_document(db: Database, id: IdText, document_id: IdText) -> Document:
    """Read what is known of a document"""
    return documents.get(db, id, document_id)


@api.route(
    "POST", "/api/patients/{id}/documents/{document_id}/complete", refusals=[DocumentNotFound, NotUploaded, Infected]
)
def complete_document(db: Database, id: IdText, document_id: IdText) -> Document:
    """Say that the bytes are in S3

    Can be repeated. Where files are scanned for malware, the document stays pending until that is done: ask again.
    """
    return documents.complete(db, id, document_id)


@api.route(
    "GET",
    "/api/patients/{id}/documents/{document_id}/content",
    refusals=[DocumentNotFound, NotUploaded],
    discloses=True,
)
def read_document_content(db: Database, id: IdText, document_id: IdText) -> Download:
    """Get a URL to download a document, good for a minute"""
    return documents.content(db, id, document_id)


@api.route("DELETE", "/api/patients/{id}/documents/{document_id}", status=204, refusals=[DocumentNotFound])
def delete_document(db: Database, id: IdText, document_id: IdText, if_match: list[int] | None) -> None:
    """Delete a document"""
    return documents.delete(db, id, document_id, if_match)


lambda_handler = api.handle
