from healthcare.accounts import logins, sessions, users
from healthcare.accounts.logins import Credentials, WrongCredentials
from healthcare.accounts.sessions import Refresh, RefreshTokenSpent, Session, Tokens
from healthcare.accounts.users import EmailTaken, NewUser, PasswordChange, User, UserChange, WrongPassword
from healthcare.database.connection import Database
from healthcare.errors import TooManyAttempts
from healthcare.fields import IdText, Page, PageQuery
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/auth/register", open=True, status=201, location="/api/auth/me", refusals=[EmailTaken])
def register(db: Database, body: NewUser) -> User:
    """Create an account

    E-mail addresses are compared without regard to case.
    """
    return users.register(db, body)


@api.route("POST", "/api/auth/login", open=True, refusals=[WrongCredentials, TooManyAttempts])
def log_in(db: Database, body: Credentials, source_ip: str, user_agent: str) -> Tokens:
    """Log in

    The answer is the same for an unknown e-mail address and for a wrong password, and takes the same time.
    """
    return logins.log_in(db, body, source_ip, user_agent)


@api.route("POST", "/api/auth/refresh", open=True, refusals=[RefreshTokenSpent])
def refresh(db: Database, body: Refresh) -> Tokens:
    """Get new tokens for a refresh token

    The refresh token is spent by this. Sent again within 60 seconds, because the answer was lost or from two tabs at
    once, it gives the same new one again, as long as that has not been used; otherwise it ends its session.
    """
    return sessions.refresh(db, body)


@api.route("POST", "/api/auth/logout", open=True, status=204)
def log_out(db: Database, body: Refresh) -> None:
    """Log out

    Ends the session of the refresh token, whether or not it was spent. Access tokens last until they expire.
    """
    return sessions.log_out(db, body)


@api.route("GET", "/api/auth/me")
def read_me(db: Database) -> User:
    """Read your account"""
    return users.get(db)


@api.route("PATCH", "/api/auth/me")
def change_me(db: Database, body: UserChange, if_match: list[int] | None) -> User:
    """Change your name"""
    return users.rename(db, body, if_match)


@api.route("GET", "/api/auth/sessions")
def list_sessions(db: Database, query: PageQuery) -> Page[Session]:
    """List your sessions

    One for each login that has not ended, oldest first.
    """
    return sessions.search(db, query)


@api.route("DELETE", "/api/auth/sessions/{id}", status=204)
def end_session(db: Database, id: IdText) -> None:
    """End a session

    Its refresh token is not good any more; its access token lasts until it expires.
    """
    return sessions.end(db, id)


@api.route("POST", "/api/auth/password", status=204, refusals=[WrongPassword, TooManyAttempts])
def change_password(db: Database, body: PasswordChange) -> None:
    """Change your password

    Every refresh token of yours ends.
    """
    return users.change_password(db, body)


lambda_handler = api.handle
