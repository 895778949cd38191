from typing import Literal

from healthcare.database.connection import Session
from healthcare.fields import Output
from healthcare.web.api import Api

api = Api()


class Health(Output):
    status: Literal["ok"] = "ok"


@api.route("GET", "/health", open=True)
def read_health(session: Session) -> Health:
    """See whether the API and its database answer"""
    session.execute("SELECT 1")
    return Health()


lambda_handler = api.handle
