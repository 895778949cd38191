"""What can go wrong, in the API's own terms. `web/answers.py` alone knows which status each becomes.

Of a refusal's docstring, the first paragraph says what it means and the second what the caller can do: the page of
its kind, `/problems/<slug>`, shows both.
"""

from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):
    # `slug` names the kind of problem for programs, `title` for people. `detail` is about this one occurrence and never
    # holds SQL, a secret or anything of another user.
    slug: ClassVar[str]
    title: ClassVar[str]
    detail: str
    retry_after: int | None = None  # seconds

    def __init__(self, detail: str = "") -> None:
        super().__init__()
        if detail:
            self.detail = detail

    def more(self) -> dict[str, object]:
        """Further members of the problem."""
        return {}


class MalformedBody(Refusal):
    """The body could not be read as a JSON object: it is empty, is not JSON, or is a list, a text or a number.

    Look at what your program really sends. `detail` says what was expected.
    """

    slug, title = "malformed-body", "The body is not a JSON object"
    detail = "The body has to be a JSON object."


class BodyTooLarge(Refusal):
    """The body has more bytes than this API takes.

    Send less. No resource of this API needs so much.
    """

    slug, title = "body-too-large", "The body is too large"
    detail = "A body may have 102,400 bytes at most."


class UnsupportedMediaType(Refusal):
    """The `Content-Type` of the body is not one that this route takes.

    Send JSON with `Content-Type: application/json`.
    """

    slug, title = "unsupported-media-type", "The content type is not supported"
    detail = "Send the body as application/json."


class Invalid(Refusal):
    """The request could be read, but values in it are missing, have the wrong form, or are unknown.

    Each entry of `errors` points at one of them and says what is wrong with it: `/name` is a field of the body;
    `query/limit`, `path/id` and `header/if-match` are what they say. Correct all of them and send it again.
    """

    slug, title = "validation", "The request is not valid"
    detail = "One or more values are not valid; `errors` says which."

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """`problems` are pairs of a pointer and a text."""
        super().__init__()
        self.problems = problems

    def more(self) -> dict[str, object]:
        return {"errors": [{"pointer": pointer, "detail": detail} for pointer, detail in self.problems]}


class Unauthenticated(Refusal):
    """The request does not prove who sends it: the token is missing, malformed or expired, or the e-mail address and
    the password do not belong together.

    Log in and send the `access_token` as `Authorization: Bearer <token>`. If it has expired, `POST /api/auth/refresh`
    gives a new one; if that answers the same, log in again.
    """

    slug, title = "unauthenticated", "Authentication is required"
    detail = "Send a valid access token as `Authorization: Bearer <token>`."


class AccountGone(Unauthenticated):
    """The token outlives its account."""

    detail = "This account does not exist any more."


class Forbidden(Refusal):
    """It is known who you are, and you may not do this.

    Ask somebody who may: `detail` says who that is. Sending it again will not help.
    """

    slug, title = "forbidden", "You may not do this"


class NotDelegated(Forbidden):
    """You do not act for the account in `Acting-For`: its owner has not let you, has taken it back, or there is no such
    account.

    `GET /api/owners` lists for whom you may act, each with its `user_id`. Ask the owner for an invitation.
    """

    slug, title = "not-delegated", "You do not act for this account"
    detail = "You do not act for the account in `Acting-For`."


class ReadOnly(Forbidden):
    """You may read here, and change nothing.

    Ask whoever gave you access for `write`.
    """

    slug, title = "read-only", "You may only read"
    detail = "You act for this account with access `read`."


class NotFound(Refusal):
    """There is nothing at this address, or nothing that is yours. The answer is the same for both, so that nobody
    learns what others have.

    Check the id, and that you are logged in as the right user. It may have been deleted meanwhile.
    """

    slug, title = "not-found", "Not found"
    detail = "There is nothing at this address."


class Conflict(Refusal):
    """What is stored already does not allow it.

    Read the present state and decide again. Sending it once more will not help.
    """

    slug, title = "conflict", "It conflicts with what is stored"


class Gone(Refusal):
    """What this refers to does not exist, or no longer does.

    Sending it again will not help.
    """

    slug, title = "gone", "It is gone"


class Stale(Refusal):
    """Somebody has changed the resource since you read the version in `If-Match`. Nothing was written.

    Read it again, apply your change to what it says now, and send it with the new `ETag`.
    """

    slug, title = "stale", "The resource has changed"
    detail = "The resource has changed since the version in If-Match."


class IdempotencyKeyReused(Refusal):
    """The same `Idempotency-Key` came with another request in the last 24 hours. Nothing was created.

    Make a new key, such as a UUID, for each thing to create, and keep it only to repeat that very request.
    """

    slug, title = "idempotency-key-reused", "The idempotency key belongs to another request"
    detail = "This key came with another request before; use a new one for each creation."


class TooManyAttempts(Refusal):
    """There were too many requests in a short time, or too many logins with a wrong password.

    Wait for as many seconds as `Retry-After` says, then try again.
    """

    slug, title = "too-many-requests", "Too many requests"
    detail = "There were too many failed logins; wait before the next one."

    def __init__(self, detail: str = "", *, retry_after: int) -> None:
        """`retry_after` is in seconds."""
        super().__init__(detail)
        self.retry_after = retry_after


class InternalError(Refusal):
    """Something went wrong on our side, and the request could not be carried out.

    Try again later. If it stays, tell whoever runs the API the `request_id`.
    """

    slug, title = "internal-error", "Internal error"
    detail = "Something went wrong on our side."


class Unavailable(Refusal):
    """The API or its database cannot answer at the moment, for instance because it is being restarted.

    Wait for as many seconds as `Retry-After` says and try again. When you create something, send the same
    `Idempotency-Key`: the first try may have been carried out.
    """

    slug, title = "unavailable", "Temporarily unavailable"
    detail = "The service cannot answer at the moment. Try again shortly."

    def __init__(self, *, retry_after: int = 1) -> None:
        """`retry_after` is in seconds."""
        super().__init__()
        self.retry_after = retry_after
