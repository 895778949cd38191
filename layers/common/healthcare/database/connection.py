"""The warm connection, and the database as one caller sees it.

Every transaction begins with `act_as`, or with `act_for` where a delegate acts for an owner: who is acting is a setting
of the transaction, and row-level security does the rest. This file alone knows how a message to PostgreSQL is put
together.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal, LiteralString, TypeVar

import psycopg
from psycopg import ClientCursor, Connection, Cursor
from psycopg.abc import RV, PQGen
from psycopg.errors import DeadlockDetected, ReadOnlySqlTransaction, SerializationFailure
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from pydantic import BaseModel

from healthcare.errors import AccountGone, NotDelegated, ReadOnly, Refusal, Unavailable
from healthcare.platform.settings import settings

_BEGIN: LiteralString = "BEGIN;\n"
_ACT_AS: LiteralString = "SELECT act_as(%(_user_id)s, %(_role)s, %(_request_id)s);\n"
_ACT_FOR: LiteralString = "SELECT act_for(%(_actor_id)s, %(_user_id)s, %(_purpose)s, %(_request_id)s);\n"

IF_MATCH: LiteralString = "(%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))"
"""Part of a WHERE: the row's version is one of If-Match, or none was sent."""

# SQLSTATE classes and codes. Not now: resources, operator intervention, system errors, a read-only server, a lock's
# time-out, a deadlock. Lost: after these the server closes the connection.
_NOT_NOW = ("40", "53", "57", "58", "25006", "55P03")
_LOST = ("08", "57P", "25P03")

Row = TypeVar("Row", bound=BaseModel)

Constraints = Mapping[str, Callable[[], Refusal]]
"""What to raise when PostgreSQL refuses a statement by the constraint of that name."""

NO_CONSTRAINTS: Constraints = MappingProxyType({})
_OF_ACTING: Constraints = {"not_delegated": NotDelegated, "read_only": ReadOnly, "account_closed": AccountGone}

Purpose = Literal["read", "disclose", "write"]
"""What a request is for; `disclose` reads and writes down that it was read."""

# Seconds. Longer than a statement may take; a server that holds the connection and does not answer is frozen.
_UNANSWERED = 6

_connection: Connection[Any] | None = None


class ConnectionLost(Unavailable):
    """The connection broke. What was sent may have been done or not."""


class _Connection(Connection[Any]):
    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, which would wait for ever."""
        return super().wait(gen, interval, timeout or _UNANSWERED)


def connect() -> Connection[Any]:
    """The environment's one connection, opened at first use and anew when it has died meanwhile.

    libpq's variables (PGHOST, PGUSER ...) say where to connect and as whom.
    """
    global _connection
    if _connection is None or not _is_usable(_connection):
        disconnect()
        with translated_errors():
            _connection = _Connection.connect(
                autocommit=True,
                prepare_threshold=None,  # a named prepared statement would pin the proxy's connection
                cursor_factory=ClientCursor,
                connect_timeout=2,
                tcp_user_timeout=_UNANSWERED * 1000,
                password=password(),
            )
    return _connection


def password() -> str | None:
    """A new token of IAM, or None where libpq finds the password by itself."""
    if settings().database_auth != "iam":
        return None
    from healthcare.platform.aws import AwsError, database_token  # needed in a deployment only

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
    """Without a round trip: an idle connection that has something to read has been closed by the server."""
    if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return not readable


@contextmanager
def translated_errors(constraints: Constraints = NO_CONSTRAINTS) -> Iterator[None]:
    """Turns what psycopg raises into refusals."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if (refusal := {**_OF_ACTING, **constraints}.get(error.diag.constraint_name or "")) is not None:
            raise refusal() from error
        if state.startswith(_LOST) or (not state and isinstance(error, psycopg.OperationalError)):
            disconnect()
            raise ConnectionLost(retry_after=settings().database_retry_after) from error
        if state.startswith(_NOT_NOW):
            raise Unavailable from error
        raise


class Database:
    """The database as one caller sees it.

    `user_id` is whose data it is, and None where nobody has signed in; `actor_id` is who asks, another one for a
    delegate.
    """

    def __init__(
        self,
        actor_id: int | None,
        role: str,
        request_id: str,
        *,
        acting_for: int | None = None,
        purpose: Purpose = "write",
    ) -> None:
        """`acting_for` is the owner whose delegate the caller says to be; the database decides whether that is so."""
        self.actor_id = actor_id
        self.user_id = acting_for or actor_id
        self.is_admin = role == "admin" and acting_for is None
        self._act = _ACT_FOR if acting_for else _ACT_AS
        self._is_read_by_delegate = acting_for is not None and purpose == "read"
        self._caller = {
            "_actor_id": actor_id,
            "_user_id": self.user_id,
            "_role": role,
            "_purpose": purpose,
            "_request_id": request_id,
        }
        self._in_transaction: Connection[Any] | None = None

    def rows(
        self,
        model: type[Row],
        query: LiteralString,
        *,
        constraints: Constraints = NO_CONSTRAINTS,
        **values: object,
    ) -> list[Row]:
        """The rows of the last statement of `query`, each as a `model`."""
        with translated_errors(constraints):
            cursor = self._execute(query, values)
            return [model.model_validate(row) for row in cursor.fetchall()]

    def row(
        self,
        model: type[Row],
        query: LiteralString,
        *,
        constraints: Constraints = NO_CONSTRAINTS,
        **values: object,
    ) -> Row | None:
        """The first row of the last statement of `query`, or None when there is none."""
        return next(iter(self.rows(model, query, constraints=constraints, **values)), None)

    def execute(self, query: LiteralString, *, constraints: Constraints = NO_CONSTRAINTS, **values: object) -> int:
        """How many rows the last statement of `query` returned or touched."""
        with translated_errors(constraints):
            return self._execute(query, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Runs the statements inside in one transaction, which begins with the message of the first one."""
        with translated_errors():
            connection = self._in_transaction = connect()
            try:
                yield Transaction(self)
                connection.commit()
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
            finally:
                self._in_transaction = None

    def _execute(self, query: LiteralString, values: dict[str, object]) -> Cursor[Any]:
        # One message, hence one round trip and, outside transaction(), one implicit transaction, whatever the number
        # of statements.
        connection = self._in_transaction or connect()
        cursor = connection.cursor()
        if not self._in_transaction:
            query = self._act + query
        elif connection.pgconn.transaction_status == TransactionStatus.IDLE:
            query = _BEGIN + self._act + query
        try:
            cursor.execute(query, values | self._caller)
        except (DeadlockDetected, SerializationFailure):
            if self._in_transaction:
                raise
            time.sleep(0.05)  # until the other transaction has taken its locks
            cursor.execute(query, values | self._caller)
        except ReadOnlySqlTransaction as error:
            # Nothing that reads should write: it was act_for that refused, and no server that is read-only.
            if self._is_read_by_delegate:
                raise ReadOnly from error
            raise
        while cursor.nextset():
            pass
        cursor.row_factory = dict_row  # for the last result only: that of `act_as` is nobody's
        return cursor


class Transaction:
    def __init__(self, db: Database) -> None:
        self._db = db

    def finish(self, query: LiteralString, **values: Any) -> None:
        """Runs the last statement and commits, in one message."""
        self._db.execute(query + ";\nCOMMIT", **values)
