"""Outside the network, every minute: claims what is due, sends it, and says what became of it.

The network has no way out, so the outbox is asked and told by functions/outbox, which is inside.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from os import environ
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from healthcare.messages import mails, targets
from healthcare.platform.logs import logger
from healthcare.platform.settings import settings

AT_ONCE = 100
CLAIM_SECONDS = 45  # then the next run goes on
BATCH_SECONDS = 0.05  # so that one call settles many
POLL_SECONDS = 2  # while something slow is on its way
# What trying again does not change.
HOPELESS = ("MessageRejected", "BadRequestException", "ValueError")

Message = dict[str, Any]


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: object) -> None:
    outbox = partial(_outbox, boto3.client("lambda"))
    try:
        outbox(begin=True)
    finally:  # what fails at the beginning holds up no message
        _send_all(outbox)


def _send_all(outbox: Callable[..., list[Message]]) -> None:
    until = time.monotonic() + CLAIM_SECONDS
    ses = boto3.client("sesv2", config=Config(max_pool_connections=AT_ONCE))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        running = {threads.submit(_sent, ses, message) for message in outbox(claim=AT_ONCE)}
        while running:
            wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            done, running = wait(running, timeout=BATCH_SECONDS)
            room = AT_ONCE - len(running) if time.monotonic() < until else 0
            claimed = outbox(settle=[future.result() for future in done], claim=room)
            running |= {threads.submit(_sent, ses, message) for message in claimed}


def _outbox(functions: Any, **request: object) -> list[Message]:
    answer = functions.invoke(FunctionName=environ["OUTBOX_FUNCTION"], Payload=json.dumps(request))
    content = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise RuntimeError(f"the outbox failed: {content.get('errorType')}")
    return content or []


def _sent(ses: Any, message: Message) -> dict[str, Any]:
    """What became of it. Nothing that it holds may be logged."""
    outcome, answer = "sent", None
    try:
        if message["url"]:
            answer = _deliver(message)
            outcome = "sent" if 200 <= answer < 300 else "hopeless" if answer == 410 else "failed"
        else:
            _send_mail(ses, message)
    except Exception as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        outcome = "hopeless" if code in HOPELESS else "failed"
        logger.warning("a message was not sent", message_id=message["id"], code=code)
    return {"id": message["id"], "attempt": message["attempt"], "outcome": outcome, "answer": answer}


def _deliver(message: Message) -> int:
    loopback = settings().webhooks_to_loopback == "allowed"
    return targets.post(message["url"], message["headers"], message["body"], loopback=loopback)


def _send_mail(ses: Any, message: Message) -> None:
    mail = mails.written(message)
    options = {"ConfigurationSetName": environ["MAIL_EVENTS"]} if environ.get("MAIL_EVENTS") else {}
    ses.send_email(
        FromEmailAddress=environ["MAIL_FROM"],
        Destination={"ToAddresses": [message["address"]]},
        Content={"Raw": {"Data": mail.as_bytes()}},
        **options,
    )
