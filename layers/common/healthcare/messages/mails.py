"""Every mail, in words.

Nothing in them comes from a request, and none says what a visit is about or who the patient is.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape
from os import environ
from typing import Any, NamedTuple

_IGNORE = "If that was not you, there is nothing to do: without the link nothing changes."


class _Words(NamedTuple):
    subject: str
    paragraphs: Sequence[str]
    link: tuple[str, str] | None = None  # the words on it, and its path at AppUrl


_WORDS = {
    "verify": _Words(
        "Confirm your e-mail address",
        ("Please confirm that this address is yours. The link is good for 30 minutes and for one use.", _IGNORE),
        ("Confirm this address", "verify"),
    ),
    "reset": _Words(
        "Set a new password",
        (
            "Somebody asked to set a new password for your account. The link is good for 30 minutes and for one use.",
            "If that was not you, there is nothing to do: your password stays as it is.",
        ),
        ("Set a new password", "reset"),
    ),
    "change": _Words(
        "Confirm your new e-mail address",
        (
            "Please confirm this address for your account. The link is good for 30 minutes and for one use.",
            _IGNORE,
        ),
        ("Use this address", "verify"),
    ),
    "change-notice": _Words(
        "Your e-mail address is about to change",
        (
            "Somebody who knows your password asked to use another e-mail address for your account.",
            "It changes once the new address has been confirmed.",
            "If that was not you, change your password now.",
        ),
    ),
    "password-changed": _Words(
        "Your password has been changed",
        (
            "The password of your account has been changed, and every device has been logged out.",
            "If that was not you, set a new password with “Forgot password” now.",
        ),
    ),
    "mfa-on": _Words(
        "Your account has a second factor now",
        (
            "From now on, logging in takes a code of your authenticator app or a recovery code.",
            "If that was not you, set a new password with “Forgot password” and ask whoever runs this service.",
        ),
    ),
    "mfa-off": _Words(
        "Your account has no second factor any more",
        (
            "The second factor of your account has been turned off.",
            "If that was not you, set a new password with “Forgot password” now.",
        ),
    ),
    "delegate": _Words(
        "Somebody acts for your account now",
        (
            "Somebody has accepted an invitation to act for your account.",
            "If it was not you who invited them, end that in your app, and set a new password.",
        ),
    ),
    "appointment.booked": _Words(
        "Your appointment is booked",
        ("Your appointment with {doctor} is booked: {time}.", "The attached file puts it into a calendar."),
    ),
    "appointment.rescheduled": _Words(
        "Your appointment has been moved",
        ("Your appointment with {doctor} has a new time: {time}.", "The attached file moves it in a calendar."),
    ),
    "appointment.cancelled": _Words(
        "Your appointment is cancelled",
        ("Your appointment with {doctor} on {time} is cancelled.", "The attached file takes it out of a calendar."),
    ),
    "appointment.reminder": _Words(
        "Your appointment is soon",
        ("This is a reminder of your appointment with {doctor}: {time}.",),
    ),
}


def written(message: Mapping[str, Any]) -> EmailMessage:
    """Its `Message-ID` is the same when it is sent again. Raises ValueError for an address that is none."""
    words, sender = _WORDS[message["kind"]], environ["MAIL_FROM"]
    words = words._replace(paragraphs=[paragraph.format_map(message) for paragraph in words.paragraphs])
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = Address(addr_spec=message["address"])
    mail["Subject"] = words.subject
    mail["Date"] = datetime.now(UTC)
    mail["Message-ID"] = f"<{message['id']}@{sender.rpartition('@')[2].rstrip('>')}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office notice answers it
    url = f"{environ['APP_URL']}/{words.link[1]}#token={message['token']}" if words.link else ""
    mail.set_content("\n\n".join([*words.paragraphs[:1], *([url] if url else []), *words.paragraphs[1:]]) + "\n")
    mail.add_alternative(_html(words, url), subtype="html")
    if message["calendar"] and message["kind"] != "appointment.reminder":
        mail.add_attachment(message["calendar"], subtype="calendar", filename="appointment.ics")
    return mail


def _html(words: _Words, url: str) -> str:
    first, *others = (f'<p style="margin:0 0 16px">{escape(paragraph)}</p>' for paragraph in words.paragraphs)
    button = (
        f'<p style="margin:0 0 16px"><a href="{escape(url)}" style="display:inline-block;padding:12px 20px;'
        f'border-radius:6px;background:#0b5cad;color:#ffffff;text-decoration:none">{escape(words.link[0])}</a></p>'
        if words.link
        else ""
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(words.subject)}</title></head>'
        '<body style="margin:0;padding:24px;background:#f4f6f8;color:#1b1f23;font:16px/1.5 system-ui,sans-serif">'
        '<main style="max-width:520px;margin:0 auto;padding:32px;background:#ffffff;border-radius:8px">'
        f'<h1 style="margin:0 0 16px;font-size:20px">{escape(words.subject)}</h1>{first}{button}{"".join(others)}'
        "</main></body></html>"
    )
