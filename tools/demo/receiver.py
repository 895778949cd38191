"""`make webhooks`: shows the webhooks of the demo's first user as they arrive, each after its signature is verified.

It registers itself when it starts, and takes that back when it ends.
"""

import hmac
import json
import os
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

from local.settings import CannotStart, read
from tools.demo.__main__ import LOCAL_PASSWORD
from tools.demo.people import USERS

EVENTS = [
    *(f"appointment.{what}" for what in ("booked", "rescheduled", "cancelled", "arrived", "fulfilled", "noshow")),
    *("record.created", "document.available"),
]
TOLERANCE = 300  # seconds


def verified(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """As Standard Webhooks says: one of the signatures is ours, and the delivery is not an old one sent again."""
    name, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent.isdecimal() or abs(time.time() - int(sent)) > TOLERANCE:
        return False
    key = b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + b64encode(hmac.digest(key, f"{name}.{sent}.".encode() + body, "sha256")).decode()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)


class Receiver(BaseHTTPRequestHandler):
    secret = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        accepted = verified(headers, body, self.secret)
        if accepted:
            event = json.loads(body)
            print(f"{event['timestamp'][11:19]}  {event['type']:<24} {json.dumps(event['data'])}", flush=True)
        else:
            print("refused: the signature is not right", flush=True)
        self.send_response(204 if accepted else 401)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> int:
    try:
        address = os.environ.get("API") or f"http://127.0.0.1:{read(os.environ).port}"
        password = os.environ.get("DEMO_PASSWORD") or LOCAL_PASSWORD
        with httpx.Client(base_url=address, timeout=30) as api, HTTPServer(("127.0.0.1", 0), Receiver) as server:
            login = api.post("/api/auth/login", json={"email": USERS[0]["email"], "password": password})
            if login.is_error:
                print("The demo's first user can't log in: `make demo` makes the account.", file=sys.stderr)
                return 1
            authorization = {"Authorization": f"Bearer {login.json()['access_token']}"}
            body = {"url": f"http://127.0.0.1:{server.server_port}/", "events": EVENTS}
            made = api.post("/api/webhooks", json=body, headers=authorization).raise_for_status().json()
            Receiver.secret = made["secret"]
            print(f"Listening for what happens to the patients of {USERS[0]['email']}; Ctrl-C stops it.", flush=True)
            try:
                server.serve_forever()
            finally:
                # Not with the token of the beginning: it may have expired meanwhile.
                login = api.post("/api/auth/login", json={"email": USERS[0]["email"], "password": password})
                authorization = {"Authorization": f"Bearer {login.json()['access_token']}"}
                api.delete(f"/api/webhooks/{made['id']}", headers=authorization)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"The API does not answer as it should: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
