"""The warm connection, and the session in which one caller's statements run.

Every message to PostgreSQL begins with `act_as`: who is acting is part of the statement's own transaction, and
row-level security does the rest. This file alone knows how a message is put together.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import ClientCursor, Connection, Cursor
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from pydantic import BaseModel

from healthcare.errors import Refusal, Unavailable
from healthcare.platform.settings import settings

_BEGIN: LiteralString = "BEGIN;\n"
_ACT_AS: LiteralString = "SELECT act_as(%(_user_id)s, %(_role)s, %(_request_id)s);\n"

# SQLSTATE classes and codes. Not now: resources, operator intervention, system errors, a read-only server, a lock
# that did not come free. Lost: after these the server closes the connection. Undone: a deadlock, for instance.
_NOT_NOW = ("53", "57", "58", "25006", "55P03")
_LOST = ("08", "57P", "25P03")
_UNDONE = "40"

Row = TypeVar("Row", bound=BaseModel)

Refusals = Mapping[str, Callable[[], Refusal]]
"""What to raise when PostgreSQL refuses a statement by the constraint of that name."""

_connection: Connection[Any] | None = None


class ConnectionLost(Unavailable):
    """The connection broke. What was sent may have been done or not."""


class Undone(Unavailable):
    """PostgreSQL gave the transaction up for another one's sake. Nothing of it was done."""


def connect() -> Connection[Any]:
    """The environment's one connection, opened at first use and anew when it has died in the meantime.

    Where to connect and as whom is libpq's business (PGHOST, PGUSER ...).
    """
    global _connection
    if _connection is None or not _is_usable(_connection):
        disconnect()
        with translated_errors():
            _connection = psycopg.connect(
                autocommit=True,
                prepare_threshold=None,  # a named prepared statement would pin the proxy's connection
                cursor_factory=ClientCursor,
                connect_timeout=3,
                tcp_user_timeout=6000,
                password=password(),
            )
    return _connection


def password() -> str | None:
    """A fresh one, where libpq does not find it by itself."""
    if settings().database_auth != "iam":
        return None
    from healthcare.platform.aws import AwsError, database_token  # only a deployment needs it

    try:
        return database_token()
    except AwsError as error:
        raise Unavailable from error


def disconnect() -> None:
    global _connection
    if _connection is not None:
        _connection.close()
        _connection = None


def _is_usable(connection: Connection[Any]) -> bool:
    """A look without a round trip: an idle connection with something to read has been closed by the server."""
    if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return not readable


@contextmanager
def translated_errors(refusals: Refusals = MappingProxyType({})) -> Iterator[None]:
    """Turns what psycopg raises into what the API's callers understand."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if (constraint := error.diag.constraint_name) and constraint in refusals:
            raise refusals[constraint]() from error
        if state.startswith(_LOST) or (not state and isinstance(error, psycopg.OperationalError)):
            disconnect()
            raise ConnectionLost from error
        if state.startswith(_UNDONE):
            raise Undone from error
        if state.startswith(_NOT_NOW):
            raise Unavailable from error
        raise


class Session:
    """Runs statements as one caller. `user_id` is None where nobody has signed in yet.

    `account_id` is then the account that they try to get into, for the access log.
    """

    def __init__(self, user_id: int | None, role: str, request_id: str) -> None:
        self.user_id = user_id
        self.account_id: int | None = None
        self._actor = {"_user_id": user_id, "_role": role, "_request_id": request_id}
        self._pinned: Connection[Any] | None = None

    @property
    def is_admin(self) -> bool:
        return self._actor["_role"] == "admin"

    def rows(
        self, model: type[Row], query: LiteralString, *, refusals: Refusals = MappingProxyType({}), **values: object
    ) -> list[Row]:
        """The rows of the last statement of `query`, each as a `model`."""
        validate = model.__pydantic_validator__.validate_python
        with translated_errors(refusals):
            cursor = self._execute(query, values)
            return [validate(row) for row in cursor.fetchall()]

    def row(
        self, model: type[Row], query: LiteralString, *, refusals: Refusals = MappingProxyType({}), **values: object
    ) -> Row | None:
        """The first row of the last statement of `query`, or None when there is none."""
        return next(iter(self.rows(model, query, refusals=refusals, **values)), None)

    def execute(self, query: LiteralString, *, refusals: Refusals = MappingProxyType({}), **values: object) -> int:
        """How many rows the last statement of `query` returned or touched."""
        with translated_errors(refusals):
            return self._execute(query, values).rowcount

    def _execute(self, query: LiteralString, values: dict[str, object]) -> Cursor[Any]:
        # One message, hence one round trip and, outside transaction(), one implicit transaction, whatever the number
        # of statements.
        cursor = (self._pinned or connect()).cursor(row_factory=dict_row)
        if self._pinned and self._pinned.pgconn.transaction_status == TransactionStatus.IDLE:
            query = _BEGIN + _ACT_AS + query
        else:
            query = _ACT_AS + query
        try:
            cursor.execute(query, values | self._actor)
        except (DeadlockDetected, SerializationFailure):
            if self._pinned:
                raise
            time.sleep(0.05)  # or this would take its locks again before the other one has woken up
            cursor.execute(query, values | self._actor)
        while cursor.nextset():
            pass
        return cursor

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes the statements inside one transaction, for what one message cannot hold.

        It begins with the message of the first one. The last one's may end it, with a COMMIT of its own.
        """
        with translated_errors():
            connection = self._pinned = connect()
            try:
                yield
                connection.commit()
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
            finally:
                self._pinned = None
