"""How a session says who it is: a name and a password, and the token they get. Part of `Session`, and pure as it is.

    WANTED --(somebody asks for something)--> ASKED --> KNOWN, with a token, or none where nobody is asked
      ^                                         |
      +---- the token is refused (void) --------+---- name or password are wrong: whoever waits is told

While it is not KNOWN, all else waits. What is refused because of a token is asked again with the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.client.ticket import FOREVER, Ticket
from zkv.errors import AuthNotEnabled, AuthOldRevision, InvalidAuthToken, UserEmpty
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.errors import ZkvError

JWT_DOTS = 2


class Login:
    """`token`: None when it is to be asked for."""

    def __init__(self, name: str, password: str) -> None:
        self._request = m.Authenticate(name, password)
        self.token: str | None = None
        self.ticket: Ticket | None = None
        """The question, while it is under way."""

    def ask(self, lane: int) -> Ticket:
        if self.ticket is None:
            self.ticket = Ticket(self._request, int(m.Op.AUTHENTICATE), lane, FOREVER, None)
        return self.ticket

    def told(self, ticket: Ticket) -> ZkvError | None:
        """The question was answered: what to tell those who wait, if they wait in vain."""
        self.ticket = None
        if ticket.error is None:
            assert isinstance(ticket.answer, m.AuthenticateAnswer)
            self.token = ticket.answer.token
        elif isinstance(ticket.error, AuthNotEnabled):
            self.token = ""
        else:
            return ticket.error
        return None

    def refused(self, error: ZkvError, *, first: bool) -> ZkvError:
        """What a request's error means to who can ask for another token. `first`: it was its first attempt."""
        if isinstance(error, UserEmpty) and self.token == "" and first:
            error = InvalidAuthToken()  # nobody was asked when this began
        if isinstance(error, InvalidAuthToken):
            self.token = None
            return AuthOldRevision()
        if isinstance(error, AuthOldRevision) and self.token and self.token.count(".") == JWT_DOTS:
            self.token = None
        return error
