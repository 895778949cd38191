"""Inside the network: gives the sender what is due, and takes back what became of it.

Invoked by functions/sender: `{"begin": true}` reminds and sweeps, `{"settle": [...], "claim": <number>}` settles and
claims. SNS brings what SES says of bounces and complaints.
"""

import json
from typing import Any

from healthcare.database.connection import Database
from healthcare.messages import outbox
from healthcare.messages.outbox import Settlement
from healthcare.platform.logs import logger


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: Any) -> list[dict[str, Any]] | None:
    db = Database(None, "sender", context.aws_request_id)
    if "Records" in event:
        notifications = [json.loads(record["Sns"]["Message"]) for record in event["Records"]]
        outbox.suppress(db, [address for found in notifications for address in outbox.rejected_addresses(found)])
        return None
    if event.get("begin"):
        outbox.begin(db)
    if event.get("settle"):
        outbox.settle(db, [Settlement.model_validate(settlement) for settlement in event["settle"]])
    return outbox.claim(db, event["claim"]).model_dump(mode="json")["items"] if event.get("claim") else None
