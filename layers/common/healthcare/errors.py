"""What can go wrong, in the API's own terms. `http.py` alone knows which status each becomes."""

from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):
    """A request that is refused for a reason its sender may know.

    `slug` names the kind of problem for programs (`/problems/<slug>`), `title` for people; `detail` is about this
    one occurrence and never holds SQL, a secret or anything of another user.
    """

    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MalformedBody(Refusal):
    slug, title = "malformed-body", "The body is not a JSON object"


class BodyTooLarge(Refusal):
    slug, title = "body-too-large", "The body is too large"


class UnsupportedMediaType(Refusal):
    slug, title = "unsupported-media-type", "The content type is not supported"


class Invalid(Refusal):
    """`problems` are pairs of a pointer (JSON Pointer into the body, `query/x`, `path/x` or `header/x`) and a text."""

    slug, title = "validation", "The request is not valid"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("One or more values are not valid; `errors` says which.")
        self.problems = problems


class Unauthenticated(Refusal):
    slug, title = "unauthenticated", "Authentication is required"


class AccountGone(Unauthenticated):
    """The token outlives its account."""

    def __init__(self) -> None:
        super().__init__("This account does not exist any more.")


class Forbidden(Refusal):
    slug, title = "forbidden", "This is not yours to do"


class NotFound(Refusal):
    slug, title = "not-found", "Not found"


class Conflict(Refusal):
    slug, title = "conflict", "It conflicts with what is there"


class Stale(Refusal):
    slug, title = "stale", "The resource has changed"


class IdempotencyKeyReused(Refusal):
    slug, title = "idempotency-key-reused", "The idempotency key belongs to another request"


class TooManyAttempts(Refusal):
    """`retry_after` is in seconds."""

    slug, title = "too-many-requests", "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """The database cannot answer now. Whether a write that met this was done is not known, unless `detail` says so."""

    slug, title = "unavailable", "Temporarily unavailable"

    def __init__(self, detail: str = "The service cannot answer at the moment. Try again shortly.") -> None:
        super().__init__(detail)
        self.retry_after = 1
