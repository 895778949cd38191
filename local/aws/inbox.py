"""The mails that moto's SES has taken, in its own process."""

from email import message_from_string, policy
from email.message import EmailMessage
from typing import cast

from moto.ses.models import RawMessage, ses_backends

ACCOUNT, REGION = "123456789012", "us-east-1"


def inbox() -> list[EmailMessage]:
    """Oldest first."""
    taken = cast(list[RawMessage], ses_backends[ACCOUNT][REGION].sent_messages)
    return [message_from_string(mail.raw_data, policy=policy.default) for mail in taken]


def shown(mail: EmailMessage) -> dict[str, str]:
    text = mail.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    return {
        "to": mail["To"],
        "subject": mail["Subject"],
        "text": text.get_content(),
        "at": mail["Date"].datetime.isoformat(),
    }
