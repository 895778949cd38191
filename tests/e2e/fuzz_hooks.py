"""What Schemathesis cannot read from openapi.json: which answer leads to which request, and what no schema can say."""

import itertools
import json
import os
from functools import cache
from typing import Any

import httpx
import schemathesis

# operation and status: name, operation that follows, and what it takes from the request or the answer
LINKS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("/api/auth/register", "post", "201"): {
        "LogIn": {
            "operationId": "logIn",
            "requestBody": {"email": "$request.body#/email", "password": "$request.body#/password"},
        },
    },
    ("/api/mappings", "post", "201"): {
        "DeleteMapping": {"operationId": "deleteMapping", "parameters": {"id": "$response.body#/id"}},
        "Doctors": {"operationId": "listDoctorsOfMappedPatient", "parameters": {"id": "$response.body#/patient_id"}},
    },
}


# What is said of values that fit the schema.
BEYOND_SCHEMAS = {
    "Password should have at most 72 bytes in UTF-8",  # a schema counts characters
    "String should have at least 1 character",  # once it is trimmed
    "Password should not be one of those that many people have",
    "Password should have at least 4 different characters",
    "Password should not be your own e-mail address or name",
    "Text should have at most 8 words",
    "Date should not be in the future",
    "Time should not be in the future",
    "The end should not be before the beginning",
    "An observation has a value and its unit, or a text",
    "Number should have at most 100 digits",
    "Input should be greater than or equal to 1800-01-01",  # nor can it compare dates
    "Input should be a valid integer",  # 1.0 is one to JSON Schema, and no way to write an id
    "Text should have a letter or a number",
    "Each event should be named once",
    "Each visit should have a code of its own",
    "Input should be a time zone of IANA's",
    "Input should be at or after `from`, and at most 31 days after it",
    "Input should be later than starts_at",
    "Input should be the code of one of the doctor's visits",
    "Input should be a time with an offset, such as 2026-03-02T09:30:00Z",
    "URL should be https, at a public address, without a user or a fragment",
    "Window should end after it begins",
    "Windows of one day should not overlap",
}

# How two of the checks say that If-None-Match is.
TOO_LONG = ("larger than maxLength", "violates `maxLength` at /properties/If-None-Match")

LIMITS_OF_TIMES = ("Input should be greater than or equal to ", "Input should be less than 2200")

# Refusals of what fits the schema: it depends on what is stored, or on the time.
OF_WHAT_IS_STORED = {"/problems/stale", "/problems/not-offered", "/problems/spent", "/problems/mail-not-configured"}


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    for (path, method, status), links in LINKS.items():
        raw_schema["paths"][path][method]["responses"][status]["links"] = links


# What test_fuzz.py has made: an account, which Schemathesis is signed in with, and a session of another one, which no
# change of password ends. Both go on changing.
made = json.loads(os.environ["FUZZ_MADE"])
client = httpx.Client(base_url=made["base_url"], headers=made["headers"], timeout=30)
other = httpx.Client(base_url=made["base_url"], headers=made["headers_of_other"], timeout=30)
numbers = itertools.count()
HOURS = {
    "time_zone": "Etc/UTC",
    "visits": [{"code": "first", "name": "First visit", "minutes": 30, "modality": "any"}],
    "bookings_per_account": 1000,
    "weekly": [{"day": day, "from": "00:00", "to": "24:00"} for day in ("monday", "tuesday", "wednesday", "thursday")],
}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Puts what nobody guesses into requests that were made to be accepted."""
    if not _is_valid(case):
        return
    number = next(numbers)
    match case.method, case.path:
        case "POST", "/api/auth/password":
            case.body["current_password"] = made["account"]["password"]
        case "POST", "/api/auth/login" if number % 4:  # the others count as failed, until there are too many
            case.body.update(made["account"])
        case "POST", "/api/auth/refresh":
            case.body["refresh_token"] = made["refresh_token"]
        case "POST", "/api/invitations/accept":
            case.body["code"] = _created(other, "/api/invitations", kind="delegate", access="write")["code"]
    if case.meta.phase.name != "stateful":  # where answers give the ids
        ids_for = _new_ids if case.meta.phase.name == "fuzzing" else _same_ids
        case.path_parameters.update(ids_for(case.path))
    if "Acting-For" in (case.headers or {}):  # nobody guesses for whom
        del case.headers["Acting-For"]
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{number}-{case.headers['Idempotency-Key']}"[:255]


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    match case.method, case.path, response.status_code:
        case "POST", "/api/auth/password", 204:
            made["account"]["password"] = case.body["new_password"]
        case "POST", "/api/auth/refresh", 200:
            made["refresh_token"] = json.loads(response.content)["refresh_token"]


def _new_ids(path: str) -> dict[str, int]:
    """Of what is made for this request alone: what others have made is deleted soon, and nobody guesses it."""
    match path.removeprefix("/api/").removeprefix("practice/").split("/"):
        case ["mappings", "{id}"]:
            return {"id": _opened(_practice())[1]}
        case ["delegates", "{id}"]:
            code = _created(client, "/api/invitations", kind="delegate", access="read")["code"]
            _created(other, "/api/invitations/accept", code=code)
            return {"id": client.get("/api/delegates?limit=1").json()["items"][0]["id"]}
        case ["owners", "{id}"]:
            code = _created(other, "/api/invitations", kind="delegate", access="read")["code"]
            _created(client, "/api/invitations/accept", code=code)
            return {"id": client.get("/api/owners?limit=1").json()["items"][0]["id"]}
        case ["doctors", "{id}", "account" | "slots"]:
            return {"id": _practice()}
        case ["doctors", "{id}", "closures", "{closure_id}"]:
            day = {"starts_at": "2190-01-01T00:00:00Z", "ends_at": "2190-01-02T00:00:00Z"}
            doctor = _practice()
            return {"id": doctor, "closure_id": _created(client, f"/api/doctors/{doctor}/closures", **day)["id"]}
        case ["appointments", "{id}", *_]:
            return {"id": _booked(_practice())}
        case ["patients", "{id}", "records", *rest]:
            patient, _ = _opened(_practice())
            note = {"kind": "note", "content": {"text": "x"}}
            record = _created(client, f"/api/patients/{patient}/records", **note)["id"]
            return {"id": patient} | ({"record_id": record} if rest else {})
        case ["patients", "{id}", "documents", *rest]:
            patient, _ = _opened(_practice())
            file = {"name": "x.pdf", "content_type": "application/pdf", "size": 1, "sha256": "0" * 64}
            document = _created(client, f"/api/patients/{patient}/documents", **file)["document"]["id"]
            return {"id": patient} | ({"document_id": document} if rest else {})
        case ["invitations", "{id}"]:
            return {"id": _created(client, "/api/invitations", kind="delegate", access="read")["id"]}
        case ["webhooks", "{id}"] | ["webhooks", "{id}", "deliveries"]:
            there_are = client.get("/api/webhooks?limit=1").json()["items"]
            new = {"url": "https://1.1.1.1/", "events": ["record.created"]}
            return {"id": (there_are[0] if there_are else _created(client, "/api/webhooks", **new))["id"]}
        case ["patients" | "appointments"] if "practice" in path:
            _practice()
        case ["patients", "{id}"] if "practice" in path:
            return {"id": _opened(_practice())[0]}
    return {}


_same_ids = cache(_new_ids)


def _created(by: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = by.post(path, json=body)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _practice() -> int:
    """The doctor that the account is linked to, who can be visited at any time."""
    found = client.get("/api/practice")
    doctor: int = (
        found.json() if found.is_success else _created(client, "/api/doctors", name="Grace", specialty="Cardiology")
    )["id"]
    if not found.is_success:
        code = _created(client, "/api/invitations", kind="doctor", doctor_id=doctor)["code"]
        _created(client, "/api/invitations/accept", code=code)
        client.put(f"/api/doctors/{doctor}/hours", json=HOURS).raise_for_status()
    return doctor


def _opened(doctor: int) -> tuple[int, int]:
    """A new patient who is opened to the doctor, and the mapping."""
    patient = _created(client, "/api/patients", name="Ada")["id"]
    return patient, _created(client, "/api/mappings", patient_id=patient, doctor_id=doctor, access="write")["id"]


def _booked(doctor: int) -> int:
    slots = client.get(f"/api/doctors/{doctor}/slots?visit=first").json()["items"]
    booking = {"doctor_id": doctor, "visit": "first", "modality": "video", "starts_at": slots[0]["starts_at"]}
    patient = _created(client, "/api/patients", name="Ada")["id"]
    appointment: int = _created(client, "/api/appointments", patient_id=patient, **booking)["id"]
    return appointment


def _is_valid(case: schemathesis.Case) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Any, case: schemathesis.Case, response: schemathesis.Response
) -> bool:
    """Whether it is one. What fits the schema may still meet what is there already."""
    if type(failure).__name__ == "UnsupportedMethodResponse":
        # API Gateway does not tell a path that it does not have from one without such a method.
        return response.status_code not in (404, 422)  # 422: `accept` is no id
    if type(failure).__name__ == "ObjectLevelAuthorizationViolation":
        return not case.path.startswith("/api/doctors")  # everybody's directory
    is_too_long = any(words in failure.message for words in TOO_LONG)
    if is_too_long and len((case.headers or {}).get("If-None-Match", "")) > 1000:
        return False  # an ETag that nobody has is compared with, however long
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    if (case.headers or {}).get("If-Match") == "0":
        return False  # what Schemathesis takes for a match of the pattern, which it is not
    problem = json.loads(response.content)
    if problem["type"] in OF_WHAT_IS_STORED or case.path.endswith("/amend"):  # whose content is of the record's kind
        return False
    if "None" in map(str, (case.path_parameters or {}).values()):
        return False  # an answer's null is no id
    details = {error["detail"] for error in problem.get("errors", ())}
    return not details & BEYOND_SCHEMAS and not any(detail.startswith(LIMITS_OF_TIMES) for detail in details)
