from healthcare import delegates, invitations
from healthcare.database.connection import Database
from healthcare.delegates import Delegate, DelegateChange, DelegationNotFound, RepresentedOwner
from healthcare.doctors import DoctorNotFound, NotYourDoctor
from healthcare.errors import TooManyAttempts
from healthcare.fields import IdText, Page, PageQuery
from healthcare.invitations import (
    Acceptance,
    Accepted,
    AlreadyLinked,
    CodeNotFound,
    Invitation,
    InvitationWithCode,
    NewInvitation,
    PatientsStillOpen,
)
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/invitations", status=201, shows_secret=True, refusals=[DoctorNotFound, NotYourDoctor])
def create_invitation(db: Database, body: NewInvitation) -> InvitationWithCode:
    """Invite somebody to act for you, or a doctor's account

    Give `code` to whom you invite, in a way that nobody else sees. It is good for one use and for 7 days. Only the
    creator of a doctor or an admin invites the doctor's account.
    """
    return invitations.create(db, body)


@api.route("GET", "/api/invitations")
def list_invitations(db: Database, query: PageQuery) -> Page[Invitation]:
    """List your open invitations"""
    return invitations.search(db, query)


@api.route("DELETE", "/api/invitations/{id}", status=204)
def withdraw_invitation(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Withdraw an invitation"""
    return invitations.withdraw(db, id, if_match)


@api.route(
    "POST", "/api/invitations/accept", refusals=[CodeNotFound, AlreadyLinked, PatientsStillOpen, TooManyAttempts]
)
def accept_invitation(db: Database, body: Acceptance) -> Accepted:
    """Accept an invitation

    From then on you act for its owner with the header `Acting-For`, or your account is that of the doctor.
    """
    return invitations.accept(db, body)


@api.route("GET", "/api/delegates")
def list_delegates(db: Database, query: PageQuery) -> Page[Delegate]:
    """List who acts for you"""
    return delegates.search(db, query)


@api.route("PATCH", "/api/delegates/{id}")
def change_delegate(db: Database, id: IdText, body: DelegateChange, if_match: list[int] | None) -> Delegate:
    """Change what a delegate may do"""
    return delegates.update(db, id, body, if_match)


@api.route("DELETE", "/api/delegates/{id}", status=204)
def delete_delegate(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Remove a delegate

    Their next request for you is refused.
    """
    return delegates.delete(db, id, if_match)


@api.route("GET", "/api/owners")
def list_owners(db: Database, query: PageQuery) -> Page[RepresentedOwner]:
    """List whom you may act for

    Send an owner's `user_id` as `Acting-For` to act for them.
    """
    return delegates.search_owners(db, query)


@api.route("DELETE", "/api/owners/{id}", status=204, refusals=[DelegationNotFound])
def leave_owner(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Stop acting for an owner"""
    return delegates.leave_owner(db, id, if_match)


lambda_handler = api.handle
