from healthcare.accounts import closing, logins, mailed, second_factor, sessions, users
from healthcare.accounts.closing import Closing
from healthcare.accounts.logins import Credentials, WrongCredentials
from healthcare.accounts.mailed import EmailChange, Forgot, MailNotConfigured, Reset, Spent, Verify
from healthcare.accounts.second_factor import (
    Authenticator,
    Confirmation,
    EndOfSecondFactor,
    MfaFailed,
    MfaLogin,
    MfaOn,
    MfaRequired,
    NewSecondFactor,
    SecondFactorOn,
    WrongCode,
)
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


@api.route("POST", "/api/auth/login", open=True, refusals=[WrongCredentials, MfaRequired, TooManyAttempts])
def log_in(db: Database, body: Credentials, source_ip: str, user_agent: str) -> Tokens:
    """Log in

    The answer is the same for an unknown e-mail address and for a wrong password, and takes the same time. An account
    with a second factor gets 401 `mfa-required` with an `mfa_token`, which goes to `POST /api/auth/mfa` with a code.
    """
    return logins.log_in(db, body, source_ip, user_agent)


@api.route("POST", "/api/auth/refresh", open=True, refusals=[RefreshTokenSpent])
def refresh(db: Database, body: Refresh) -> Tokens:
    """Get new tokens for a refresh token

    Each refresh token works once. Sent again within 60 seconds (a lost answer, two tabs), it gives the same new one, as
    long as that has not been used. Otherwise its session ends.
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


@api.route("POST", "/api/auth/close", status=204, refusals=[WrongPassword, WrongCode, TooManyAttempts])
def close_account(db: Database, body: Closing) -> None:
    """Close your account

    Ends sessions, delegations, invitations and webhooks, unlinks your doctor entry, cancels booked appointments and
    deletes patients without a history. Patients with past appointments, records or documents stay, but no account
    can reach them. Your name and address are erased, and the address can be registered again; the audit stays.
    """
    return closing.close(db, body)


@api.route("POST", "/api/auth/forgot", open=True, status=202, refusals=[MailNotConfigured])
def forgot_password(db: Database, body: Forgot) -> None:
    """Ask for a link that sets a new password

    The answer is always the same, and takes the same time. A mail goes out where there is an account, three an hour at
    most.
    """
    return mailed.forgot(db, body)


@api.route("POST", "/api/auth/reset", open=True, status=204, refusals=[Spent])
def reset_password(db: Database, body: Reset) -> None:
    """Set a new password with the token of a mail

    Ends all sessions and logs nobody in. A second factor stays on.
    """
    return mailed.reset(db, body)


@api.route("POST", "/api/auth/verify", open=True, status=204, refusals=[Spent, EmailTaken])
def verify_address(db: Database, body: Verify) -> None:
    """Confirm an e-mail address with the token of a mail

    The user's `email_verified` is true from then on. A token that was sent to a new address makes it the user's.
    """
    return mailed.verify(db, body)


@api.route("POST", "/api/auth/verification", status=202, refusals=[MailNotConfigured])
def request_verification(db: Database) -> None:
    """Ask for the mail that confirms your address once more

    Three an hour at most are sent, and none to an address that is confirmed.
    """
    return mailed.request_verification(db)


@api.route("POST", "/api/auth/email", status=202, refusals=[WrongPassword, TooManyAttempts, MailNotConfigured])
def change_address(db: Database, body: EmailChange) -> None:
    """Change your e-mail address

    Mails a token to the new address and a notice to the old one. `POST /api/auth/verify` with that token makes the
    change. At most three mails are sent an hour.
    """
    return mailed.request_change(db, body)


@api.route("POST", "/api/auth/mfa", open=True, refusals=[MfaFailed, TooManyAttempts])
def log_in_with_code(db: Database, body: MfaLogin, user_agent: str) -> Tokens:
    """Log in: the second step

    Send the `mfa_token` of the login and a code from the authenticator app, or a recovery code. Each code works once.
    """
    return second_factor.log_in(db, body, user_agent)


@api.route(
    "POST", "/api/auth/mfa/totp", status=201, shows_secret=True, refusals=[WrongPassword, MfaOn, TooManyAttempts]
)
def set_up_second_factor(db: Database, body: NewSecondFactor) -> Authenticator:
    """Set up a second factor

    Shows the secret for an authenticator app (RFC 6238: SHA-1, 6 digits, 30 seconds). The second factor is on once a
    code from the app has confirmed it.
    """
    return second_factor.set_up(db, body)


@api.route("POST", "/api/auth/mfa/totp/confirm", refusals=[WrongCode, MfaOn, TooManyAttempts])
def confirm_second_factor(db: Database, body: Confirmation) -> SecondFactorOn:
    """Turn the second factor on

    With a code of the app. Shows ten recovery codes, this once.
    """
    return second_factor.confirm(db, body)


@api.route("POST", "/api/auth/mfa/totp/disable", status=204, refusals=[WrongPassword, WrongCode, TooManyAttempts])
def disable_second_factor(db: Database, body: EndOfSecondFactor) -> None:
    """Turn the second factor off"""
    return second_factor.disable(db, body)


lambda_handler = api.handle
