"""Delegates: who acts for an owner, with a token of their own and the header Acting-For."""

from datetime import datetime
from typing import Literal, LiteralString

from pydantic import Field
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import NotFound, Refusal, Stale
from healthcare.fields import Input, Page, PageQuery, Row, page, unchanged

COLUMNS: LiteralString = "id, user_id, name, email, access, version, created_at, updated_at"

DelegateAccess = TypeAliasType("DelegateAccess", Literal["read", "write"])


class DelegateChange(Input):
    access: DelegateAccess = unchanged(example="read")


class Delegate(Row):
    version: int = Field(exclude=True)
    user_id: int
    name: str = Field(examples=["Ben Brown"])
    email: str = Field(examples=["ben@example.com"])
    access: DelegateAccess
    created_at: datetime
    updated_at: datetime


class RepresentedOwner(Row):
    user_id: int = Field(description="What `Acting-For` takes.")
    name: str = Field(examples=["Ada Brown"])
    access: DelegateAccess
    created_at: datetime


class DelegateNotFound(NotFound):
    detail = "There is no delegate with this id."


class DelegationNotFound(NotFound):
    detail = "There is no account with this id that you act for."


def search(db: Database, query: PageQuery) -> Page[Delegate]:
    """Who acts for the caller."""
    delegates = db.rows(
        Delegate,
        f"""
        SELECT {COLUMNS}
          FROM my_delegates
         WHERE id > coalesce(%(cursor)s, 0)
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(Delegate, delegates, query)


def update(db: Database, id: int, change: DelegateChange, if_match: list[int] | None) -> Delegate:
    """Raises NotFound, and Stale when its version is none of `if_match`."""
    delegate = db.row(
        Delegate,
        f"""
        UPDATE my_delegates
           SET access = coalesce(%(access)s, access)
         WHERE id = %(id)s AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=id,
        access=change.access,
        if_match=if_match,
    )
    if delegate is None:
        raise _refusal(db, id)
    return delegate


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """Counts from the delegate's next request on. Raises DelegateNotFound and Stale."""
    if not db.execute(f"DELETE FROM my_delegates WHERE id = %(id)s AND {IF_MATCH}", id=id, if_match=if_match):
        raise _refusal(db, id)


def _refusal(db: Database, id: int) -> Refusal:
    return Stale() if db.execute("SELECT FROM my_delegates WHERE id = %(id)s", id=id) else DelegateNotFound()


def search_owners(db: Database, query: PageQuery) -> Page[RepresentedOwner]:
    """Whom the caller may act for."""
    owners = db.rows(
        RepresentedOwner,
        """
        SELECT id, user_id, name, access, created_at
          FROM my_owners
         WHERE id > coalesce(%(cursor)s, 0)
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(RepresentedOwner, owners, query)


def leave_owner(db: Database, id: int, if_match: list[int] | None) -> None:
    """The caller no longer acts for this owner. Raises DelegationNotFound and Stale."""
    if not db.execute(f"DELETE FROM my_owners WHERE id = %(id)s AND {IF_MATCH}", id=id, if_match=if_match):
        raise Stale if db.execute("SELECT FROM my_owners WHERE id = %(id)s", id=id) else DelegationNotFound
