"""Closing an account, by its user."""

from healthcare.accounts import second_factor
from healthcare.accounts.passwords import GivenPassword
from healthcare.accounts.second_factor import Code, WrongCode
from healthcare.accounts.users import confirm_password, get
from healthcare.database.connection import Database
from healthcare.fields import Input


class Closing(Input):
    current_password: GivenPassword
    code: Code | None = None


def close(db: Database, given: Closing) -> None:
    """What is too much for one request, the sender goes on with."""
    user = get(db)
    confirm_password(db, given.current_password)
    if user.second_factor:
        if given.code is None:
            raise WrongCode("The account has a second factor: send a code of it.")
        second_factor.spend(db, given.code)
    db.execute("SELECT close_account()")
