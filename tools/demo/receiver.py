"""`make webhooks`: shows the webhooks of the demo's first user as they arrive, each after its signature is verified.

It registers itself when it starts, and takes that back when it ends.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from local.settings import CannotStart, read
from tools.demo.__main__ import LOCAL_PASSWORD
from tools.demo.people import USERS

EVENTS = [
    *(f"appointment.{what}" for what in ("booked", "rescheduled", "cancelled", "arrived", "fulfilled", "noshow")),
    *("record.created", "document.available"),
]


class Receiver(BaseHTTPRequestHandler):
    secret = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            event = Webhook(self.secret).verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            print(f"refused: {error}", flush=True)
            self.send_response(401)
        else:
            print(f"{event['timestamp'][11:19]}  {event['type']:<24} {json.dumps(event['data'])}", flush=True)
            self.send_response(204)
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
