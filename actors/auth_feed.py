"""Storage's news of users and roles, for those who keep a mirror: the doors, and the watch actor.

They are sent before the events and answers of the batch that made them: what a watcher may not see any more he is not
told, and who asks again because of an old revision is met by a door that knows the new one. A neighbour that is new, or
whose queue was full, is told everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NamedTuple

    from zkv.core.mvcc.machine import StateMachine
    from zkv.wire.messages import AuthNews


class AuthFeed:
    def __init__(self, machine: StateMachine, mirrors: Iterable[str], post: Callable[[str, NamedTuple], bool]) -> None:
        self._post = post
        self._mirrors = dict.fromkeys(mirrors, False)  # neighbour -> does it know what was told until now?
        self.is_behind = True
        """Somebody is to be told everything, or his queue was full."""
        self.serve(machine)

    def serve(self, machine: StateMachine) -> None:
        """The store is this one now."""
        self._users = machine.users
        self._mirrors = dict.fromkeys(self._mirrors, False)
        self.is_behind = True

    def meet(self, actor: str) -> None:
        """It has (re)started."""
        self._mirrors[actor] = False
        self.is_behind = True

    def step(self) -> None:
        if not self._users.is_news and not self.is_behind:
            return
        news = self._users.news()
        for actor, knows in self._mirrors.items():
            self._mirrors[actor] = self._post(actor, _for(actor, news if knows else self._users.everything()))
        self.is_behind = not all(self._mirrors.values())


def _for(actor: str, news: AuthNews) -> AuthNews:
    """Nobody is told what he does not need: hashes and tokens are the doors', permissions the watch actor's."""
    if actor == "watch":
        users = tuple((name, b"", no_password, roles) for name, _, no_password, roles in news.users)
        return news._replace(users=users, tokens=())
    return news._replace(roles=(), roles_gone=())
