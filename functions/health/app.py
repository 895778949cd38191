from typing import Literal

from healthcare.database.connection import Database
from healthcare.fields import Output
from healthcare.web.api import Api

api = Api()


class Health(Output):
    status: Literal["ok"] = "ok"


@api.route("GET", "/health", open=True)
def read_health(db: Database) -> Health:
    """See whether the API and its database answer"""
    db.execute("SELECT 1")
    return Health()


lambda_handler = api.handle
