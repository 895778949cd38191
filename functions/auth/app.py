from healthcare.accounts import users
from healthcare.accounts.users import (
    Credentials,
    EmailTaken,
    NewUser,
    PasswordChange,
    Refresh,
    Tokens,
    User,
    UserChange,
)
from healthcare.database.connection import Session
from healthcare.errors import Forbidden, TooManyAttempts, Unauthenticated
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/auth/register", open=True, status=201, location="/api/auth/me", refusals=[EmailTaken])
def register(session: Session, body: NewUser) -> User:
    """Create an account

    E-mail addresses are compared without regard to case.
    """
    return users.register(session, body)


@api.route("POST", "/api/auth/login", open=True, refusals=[Unauthenticated, TooManyAttempts])
def log_in(session: Session, body: Credentials, source_ip: str) -> Tokens:
    """Log in

    The answer is the same for an unknown e-mail address and for a wrong password, and takes the same time.
    """
    return users.log_in(session, body, source_ip)


@api.route("POST", "/api/auth/refresh", open=True, refusals=[Unauthenticated])
def refresh(session: Session, body: Refresh) -> Tokens:
    """Get new tokens for a refresh token

    The refresh token is spent by this. One that was spent before ends its session.
    """
    return users.refresh(session, body)


@api.route("POST", "/api/auth/logout", open=True, status=204)
def log_out(session: Session, body: Refresh) -> None:
    """Log out

    Ends the session of the refresh token, whether or not it was spent. Access tokens last until they expire.
    """
    return users.log_out(session, body)


@api.route("GET", "/api/auth/me")
def read_me(session: Session) -> User:
    """Read your account"""
    return users.get(session)


@api.route("PATCH", "/api/auth/me")
def change_me(session: Session, body: UserChange, if_match: list[int] | None) -> User:
    """Change your name"""
    return users.rename(session, body, if_match)


@api.route("POST", "/api/auth/password", status=204, refusals=[Forbidden, TooManyAttempts])
def change_password(session: Session, body: PasswordChange) -> None:
    """Change your password

    Every refresh token of yours ends.
    """
    return users.change_password(session, body)


lambda_handler = api.handle
