"""What openapi.json and the pages of problems say in words, and the examples that they show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from healthcare.web.api import BODY_LIMIT


@dataclass(frozen=True, slots=True)
class Explanation:
    meaning: str
    remedy: str


INFO = f"""
You keep your **patients**, share a directory of **doctors** with all other users, and assign the ones to the others.

### What holds everywhere

- **Tokens.** Every route with a lock wants `Authorization: Bearer <access_token>`; `POST /api/auth/login`
  gives one. When it has expired, `POST /api/auth/refresh` gives the next, and a new refresh token with it: each is
  good for one use.
- **Yours only.** Patients, mappings and the audit show what belongs to you. What belongs to somebody else is answered
  as what does not exist: 404.
- **JSON in, JSON out.** Text is trimmed. A field that is not known is refused, so that a typo never passes silently.
  A body has {BODY_LIMIT // 1024} KiB at most. Times are UTC.
- **Pages.** Lists take `limit` (1 to 100) and `cursor`. An answer's `next_cursor` leads to the next page, as does its
  `Link` header; it is null on the last one. A walk through all pages meets each row once, whatever is added or removed
  meanwhile.
- **Versions.** A resource comes with an `ETag`. Send it as `If-None-Match` to hear only of changes (304), and as
  `If-Match` when you write, so as not to overwrite what somebody else wrote in between (412).
- **Retries.** Send an `Idempotency-Key` of your own making, such as a UUID, when you create something. If no answer
  comes, send the same request again: within 24 hours you get the first answer, and it is created once.
- **Problems.** Every error is `application/problem+json` (RFC 9457). Let a program look at `type`, show `detail` to a
  person, and give `request_id` to whoever runs the API. When values are not valid, `errors` points at each of them.

### The kinds of problems
"""

AUTHENTICATION = "The `access_token` that `POST /api/auth/login` answers with. Paste it without the word `Bearer`."


# What each kind of problem means, and what to do about it. A kind that is not named here has its parent's.
EXPLANATIONS: Mapping[str, Explanation] = {
    "malformed-body": Explanation(
        "The body could not be read as a JSON object: it is empty, is not JSON, or is a list, a text or a number.",
        "Look at what your program really sends. `detail` says what was expected.",
    ),
    "bad-request": Explanation(
        "API Gateway could not make sense of the request and did not pass it on.",
        "Compare the address, the method and the headers with the documentation.",
    ),
    "body-too-large": Explanation(
        f"The body has more than {BODY_LIMIT // 1024} KiB.",
        "Send less. No resource of this API needs so much.",
    ),
    "unsupported-media-type": Explanation(
        "The `Content-Type` of the body is not one that this route takes.",
        "Send JSON with `Content-Type: application/json`.",
    ),
    "validation": Explanation(
        "The request could be read, but values in it are missing, have the wrong form, or are not known here at all.",
        "Each entry of `errors` points at one of them and says what is wrong with it: `/name` is a field of the body, "
        "`query/limit`, `path/id` and `header/if-match` are what they say. Correct all of them and send it again.",
    ),
    "idempotency-key-reused": Explanation(
        "The same `Idempotency-Key` came with another request in the last 24 hours. Nothing was created.",
        "Make a new key, such as a UUID, for each thing to create, and keep it only to repeat that very request.",
    ),
    "unauthenticated": Explanation(
        "The request says nothing that proves who sends it: the token is missing, malformed or expired, or the e-mail "
        "address and the password do not belong together.",
        "Log in and send the `access_token` as `Authorization: Bearer <token>`. If it has expired, "
        "`POST /api/auth/refresh` gives a new one; if that answers the same, log in again.",
    ),
    "forbidden": Explanation(
        "It is known who you are, and this is not for you to do. A doctor can be changed by the user who added it and "
        "by an admin; a password by whoever knows the current one.",
        "Ask somebody who may. Sending it again will not help.",
    ),
    "refused": Explanation(
        "The web application firewall in front of the API did not pass the request on: it looks like an attack, or too "
        "many requests came from your address.",
        "Wait a few minutes, and look at what your program really sends. If it is harmless, tell whoever runs the API "
        "the `request_id`.",
    ),
    "not-found": Explanation(
        "There is nothing at this address, or nothing that is yours. The answer is the same for both, so that nobody "
        "learns what others have.",
        "Check the id, and that you are logged in as the right user. It may have been deleted in the meantime.",
    ),
    "conflict": Explanation(
        "What is there already stands against it.",
        "Read the present state and decide again. Sending it once more will not help.",
    ),
    "email-taken": Explanation(
        "There is an account with this e-mail address already, perhaps written with other capitals.",
        "Log in to that account, or use another address.",
    ),
    "doctor-in-use": Explanation(
        "Patients of other users are assigned to this doctor, so it cannot be deleted.",
        "Leave it in the directory, correct it with `PATCH`, or ask an admin.",
    ),
    "already-assigned": Explanation(
        "This doctor is assigned to this patient already.",
        "Nothing: things are as you want them.",
    ),
    "stale": Explanation(
        "Somebody has changed the resource since you read the version in `If-Match`. Nothing was written.",
        "Read it again, apply your change to what is there now, and send it with the new `ETag`.",
    ),
    "too-many-requests": Explanation(
        "There were too many requests in a short time, or too many logins with a wrong password.",
        "Wait for as many seconds as `Retry-After` says, then try again.",
    ),
    "internal-error": Explanation(
        "Something went wrong on our side, and the request could not be carried out.",
        "Try again later. If it stays, tell whoever runs the API the `request_id`.",
    ),
    "unavailable": Explanation(
        "The API or its database cannot answer at the moment, for instance because it is being restarted.",
        "Wait for as many seconds as `Retry-After` says and try again, when you create something with the same "
        "`Idempotency-Key`, because the first try may have been carried out.",
    ),
    "timeout": Explanation(
        "No answer came in time. Whether the request was carried out is not known.",
        "Wait for as many seconds as `Retry-After` says. Then look whether it was, or send it again with the same "
        "`Idempotency-Key`.",
    ),
}

# What `detail` says where the gateway never says it.
DETAILS: Mapping[str, str] = {
    "malformed-body": "The body has to be a JSON object.",
    "validation": "One or more values are not valid; `errors` says which.",
    "idempotency-key-reused": "This key came with another request before; use a new one for each creation.",
    "email-taken": "There is an account with this e-mail address already.",
    "doctor-in-use": "Patients of other users are assigned to this doctor.",
    "already-assigned": "This doctor is assigned to this patient already.",
    "stale": "The resource has changed since the version in If-Match.",
}

DETAILS_OF_OPERATION: Mapping[tuple[str, str], str] = {
    ("logIn", "unauthenticated"): "The e-mail address or the password is not right.",
    ("refresh", "unauthenticated"): "The refresh token is not valid any more; log in again.",
    ("changePassword", "forbidden"): "The current password is not right.",
    ("replaceDoctor", "forbidden"): "Only its creator or an admin may change a doctor.",
    ("changeDoctor", "forbidden"): "Only its creator or an admin may change a doctor.",
    ("deleteDoctor", "forbidden"): "Only its creator or an admin may change a doctor.",
    ("createMapping", "not-found"): "There is no patient with this patient_id.",
    ("listDoctorsOfMappedPatient", "not-found"): "There is no patient with this id.",
}

WHOSE_ID: Mapping[str, str] = {"listDoctorsOfMappedPatient": "patient"}

_TIMES = {"created_at": "2026-03-02T09:30:00Z", "updated_at": "2026-03-02T09:30:00Z"}
_PATIENT = {
    "name": "Maria Silva",
    "date_of_birth": "1984-11-05",
    "gender": "female",
    "phone": "+351 21 555 0142",
    "email": "maria.silva@example.com",
    "address": "12 Harbour Street, Lisbon",
}
_DOCTOR = {
    "name": "Dr. Grace Okafor",
    "specialty": "Cardiology",
    "phone": "+44 20 7946 0123",
    "email": "okafor@example.com",
}
_USER = {"id": 1, "name": "Ada Brown", "email": "ada@example.com", "role": "user", **_TIMES}
_PASSWORD = "seven green kettles"

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "NewUser": {"name": "Ada Brown", "email": "ada@example.com", "password": _PASSWORD},
    "Credentials": {"email": "ada@example.com", "password": _PASSWORD},
    "Refresh": {"refresh_token": "AAAA" * 16},
    "UserChange": {"name": "Ada Brown-Lee"},
    "PasswordChange": {"current_password": _PASSWORD, "new_password": "eight blue kettles"},
    "User": _USER,
    "Tokens": {
        "access_token": "header.payload.signature",
        "token_type": "Bearer",
        "expires_in": 900,
        "refresh_token": "AAAA" * 16,
        "user": _USER,
    },
    "NewPatient": _PATIENT,
    "PatientChange": {"phone": "+351 21 555 0199", "email": None},
    "Patient": {"id": 1, **_PATIENT, **_TIMES},
    "NewDoctor": _DOCTOR,
    "DoctorChange": {"specialty": "Paediatric cardiology", "email": None},
    "Doctor": {"id": 1, **_DOCTOR, "created_by": 1, **_TIMES},
    "NewMapping": {"patient_id": 1, "doctor_id": 1},
    "CreatedMapping": {"id": 1, "patient_id": 1, "doctor_id": 1, **_TIMES},
    "MappingDetails": {
        "id": 1,
        "patient_id": 1,
        "patient_name": "Maria Silva",
        "doctor_id": 1,
        "doctor_name": "Dr. Grace Okafor",
        "specialty": "Cardiology",
        **_TIMES,
    },
    "AuditEvent": {
        "id": 7,
        "at": "2026-03-02T09:45:12.345678Z",
        "actor_id": 1,
        "action": "update",
        "resource": "patient",
        "resource_id": 1,
        "request_id": "6a2e0c9e-8f4b-4b8e-9d1c-0d6f3c5b7a21",
        "changes": {"phone": {"from": "+351 21 555 0142", "to": "+351 21 555 0199"}},
    },
}
