"""Webhooks: where a program wants to hear of what happens, by Standard Webhooks, and what was delivered to it."""

from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from secrets import token_bytes
from typing import Annotated, Literal, LiteralString

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import AccountGone, Conflict, Invalid, NotFound, Stale
from healthcare.fields import LINE, Input, Page, PageQuery, Row, page, unchanged
from healthcare.messages import targets
from healthcare.platform import sealing
from healthcare.platform.settings import settings

COLUMNS: LiteralString = "id, url, events, enabled, version, created_at, updated_at"

Event = TypeAliasType(
    "Event",
    Literal[
        "appointment.booked",
        "appointment.rescheduled",
        "appointment.cancelled",
        "appointment.arrived",
        "appointment.fulfilled",
        "appointment.noshow",
        "record.created",
        "document.available",
    ],
)


def _each_once(events: list[Event]) -> list[Event]:
    if len(set(events)) < len(events):
        raise PydanticCustomError("doubled", "Each event should be named once")
    return events


Events = Annotated[list[Event], Field(min_length=1, max_length=8), AfterValidator(_each_once)]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=LINE)]


class NewWebhook(Input):
    url: Url = Field(description="By https, at a public address.", examples=["https://example.com/hooks/healthcare"])
    events: Events = Field(examples=[["appointment.booked", "appointment.cancelled"]])


class WebhookChange(Input):
    url: Url = unchanged()
    events: Events = unchanged()
    enabled: bool = unchanged(example=True)
    rotate_secret: Literal[True] = unchanged()


class Webhook(Row):
    version: int = Field(exclude=True)
    url: str
    events: list[Event]
    enabled: bool = Field(description="False also after the receiver has answered 410.", examples=[True])
    secret: str | None = Field(
        None,
        description="Shown when it is made, and null from then on. It verifies `webhook-signature`.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )
    created_at: datetime
    updated_at: datetime


class Delivery(Row):
    event: Event = Field(examples=["appointment.booked"])
    state: Literal["pending", "sent", "failed"] = Field(examples=["sent"])
    attempts: int = Field(examples=[1])
    answer: int | None = Field(description="The status that was answered last.", examples=[204])
    due_at: datetime | None = Field(description="Of the next attempt; null when there is none.")
    created_at: datetime


class TooManyWebhooks(Conflict):
    """An account has twenty webhooks at most.

    Delete one, or let one program tell the others.
    """

    slug, title = "too-many-webhooks", "There are too many webhooks"
    detail = "An account has 20 webhooks at most."


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    detail = "There is no webhook with this id."


class DeliveryNotFound(NotFound):
    """There is no such delivery."""

    detail = "There is no delivery with this id."


def create(db: Database, new: NewWebhook) -> Webhook:
    _refuse_unsafe(new.url)
    secret = token_bytes(32)
    webhook = db.row(
        Webhook,
        f"""
        INSERT INTO webhooks (owner_id, url, events, secret)
        VALUES (%(owner_id)s, %(url)s, %(events)s, %(secret)s)
        RETURNING {COLUMNS}
        """,
        owner_id=db.user_id,
        url=new.url,
        events=new.events,
        secret=_sealed(db, secret),
        constraints={"webhooks_owner_id_fkey": AccountGone, "webhooks_most": TooManyWebhooks},
    )
    assert webhook
    return webhook.model_copy(update={"secret": _text_of(secret)})


def search(db: Database, query: PageQuery) -> Page[Webhook]:
    webhooks = db.rows(
        Webhook,
        f"""
        SELECT {COLUMNS}
          FROM webhooks
         WHERE id > coalesce(%(cursor)s, 0)
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(Webhook, webhooks, query)


def get(db: Database, id: int) -> Webhook:
    webhook = db.row(Webhook, f"SELECT {COLUMNS} FROM webhooks WHERE id = %(id)s", id=id)
    if webhook is None:
        raise WebhookNotFound
    return webhook


def update(db: Database, id: int, change: WebhookChange, if_match: list[int] | None) -> Webhook:
    """After a rotation the old secret signs too, for a day."""
    if change.url is not None:
        _refuse_unsafe(change.url)
    secret = token_bytes(32) if change.rotate_secret else None
    webhook = db.row(
        Webhook,
        f"""
        UPDATE webhooks
           SET url = coalesce(%(url)s, url),
               events = coalesce(%(events)s, events),
               enabled = coalesce(%(enabled)s, enabled),
               next_secret = %(secret)s
         WHERE id = %(id)s AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=id,
        url=change.url,
        events=change.events,
        enabled=change.enabled,
        secret=_sealed(db, secret) if secret else None,
        if_match=if_match,
    )
    if webhook is None:
        get(db, id)
        raise Stale
    return webhook.model_copy(update={"secret": _text_of(secret)}) if secret else webhook


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """What was on its way to it goes too."""
    if not db.execute(f"DELETE FROM webhooks WHERE id = %(id)s AND {IF_MATCH}", id=id, if_match=if_match):
        get(db, id)
        raise Stale


def deliveries(db: Database, id: int, query: PageQuery) -> Page[Delivery]:
    """Newest first."""
    found = db.rows(
        Delivery,
        """
        SELECT id, kind AS event, state, attempts, answer, created_at,
               CASE state WHEN 'pending' THEN due_at END AS due_at
          FROM outbox
         WHERE webhook_id = %(id)s AND id < coalesce(%(cursor)s, 9223372036854775807)
         ORDER BY id DESC
         LIMIT %(limit)s + 1
        """,
        id=id,
        **dict(query),
    )
    if not found:
        get(db, id)
    return page(Delivery, found, query)


def resend(db: Database, id: int, delivery_id: int) -> Delivery:
    """With the same `webhook-id`. One that is on its way stays as it is: only ten of a webhook may be."""
    delivery = db.row(
        Delivery,
        """
        UPDATE outbox
           SET state = 'pending', attempts = 0, due_at = now(), is_claimed = false, finished_at = NULL
         WHERE id = %(delivery_id)s AND webhook_id = %(id)s
           AND NOT (state = 'pending' AND is_claimed AND due_at > now());
        SELECT id, kind AS event, state, attempts, answer, due_at, created_at
          FROM outbox
         WHERE id = %(delivery_id)s AND webhook_id = %(id)s
        """,
        id=id,
        delivery_id=delivery_id,
    )
    if delivery is None:
        get(db, id)
        raise DeliveryNotFound
    return delivery


def _refuse_unsafe(url: str) -> None:
    """A name that leads nowhere today is looked up again at each delivery."""
    loopback = settings().webhooks_to_loopback == "allowed"
    try:
        with suppress(OSError):
            targets.address_of(targets.checked(url, loopback=loopback), loopback=loopback)
    except targets.UnsafeTarget:
        raise Invalid([("/url", "URL should be https, at a public address, without a user or a fragment")]) from None


def context(owner_id: int | None) -> str:
    """What the secrets of somebody's webhooks are sealed for."""
    return f"webhooks of {owner_id}"


def _sealed(db: Database, secret: bytes) -> bytes:
    return sealing.seal(secret, context(db.user_id))


def _text_of(secret: bytes) -> str:
    return f"whsec_{b64encode(secret).decode()}"
