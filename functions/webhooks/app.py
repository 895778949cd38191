from healthcare import webhooks
from healthcare.database.connection import Database
from healthcare.fields import IdText, Page, PageQuery
from healthcare.web.api import Api
from healthcare.webhooks import (
    Delivery,
    DeliveryNotFound,
    NewWebhook,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
    WebhookNotFound,
)

api = Api()


@api.route(
    "POST",
    "/api/webhooks",
    status=201,
    location="/api/webhooks/{id}",
    shows_secret=True,
    refusals=[TooManyWebhooks],
)
def create_webhook(db: Database, body: NewWebhook) -> Webhook:
    """Register a webhook

    Deliveries follow Standard Webhooks (standardwebhooks.com): ids only, signed with the `secret`, which is shown this
    once. They tell of what you own, and of the calendar of the doctor that your account is linked to.
    """
    return webhooks.create(db, body)


@api.route("GET", "/api/webhooks")
def list_webhooks(db: Database, query: PageQuery) -> Page[Webhook]:
    """List your webhooks"""
    return webhooks.search(db, query)


@api.route("GET", "/api/webhooks/{id}", refusals=[WebhookNotFound])
def read_webhook(db: Database, id: IdText) -> Webhook:
    """Read a webhook"""
    return webhooks.get(db, id)


@api.route("PATCH", "/api/webhooks/{id}", refusals=[WebhookNotFound])
def change_webhook(db: Database, id: IdText, body: WebhookChange, if_match: list[int] | None) -> Webhook:
    """Change a webhook

    `rotate_secret` makes a new secret and shows it; for a day, deliveries carry signatures by both.
    """
    return webhooks.update(db, id, body, if_match)


@api.route("DELETE", "/api/webhooks/{id}", status=204, refusals=[WebhookNotFound])
def delete_webhook(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Delete a webhook, and what was on its way to it"""
    return webhooks.delete(db, id, if_match)


@api.route("GET", "/api/webhooks/{id}/deliveries", refusals=[WebhookNotFound])
def list_deliveries(db: Database, id: IdText, query: PageQuery) -> Page[Delivery]:
    """List what was delivered in the last 30 days, newest first"""
    return webhooks.deliveries(db, id, query)


@api.route("POST", "/api/webhooks/{id}/deliveries/{delivery_id}/resend", refusals=[WebhookNotFound, DeliveryNotFound])
def resend_delivery(db: Database, id: IdText, delivery_id: IdText) -> Delivery:
    """Deliver once more, with the same `webhook-id`"""
    return webhooks.resend(db, id, delivery_id)


lambda_handler = api.handle
