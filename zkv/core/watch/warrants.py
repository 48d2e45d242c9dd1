"""Who may watch what, where users are asked who they are: at the start of a watch, and for as long as it lasts.

A stream (one connection) is whose last said who he was: all its watches are his. Storage tells of changes to users
and roles before it tells the events that come after them, so a watch that is ended here for lack of permission has been
told no event that it should not. Its user's watches of other keys go on.

Streams of whom nothing is known, because nobody was asked when they began, end as lost once everybody is: their clients
begin them anew, and are asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zkv.errors import AuthOldRevision, PermissionDenied, StreamLost, UserEmpty, ZkvError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.core.auth import Book
    from zkv.core.watch.parties import Stream
    from zkv.core.watch.roster import Roster
    from zkv.wire.messages import AuthNews, Caller


class Warrants:
    """`book` is a mirror of storage's."""

    def __init__(self, book: Book, roster: Roster) -> None:
        self._book = book
        self._roster = roster
        self._users: dict[int, str] = {}  # stream -> who

    def permitted(self, number: int, asked: Iterable[Sequence[Any]], caller: Caller | None = None) -> list[Any]:
        """Of watches that stream `number` asks for, those that may begin; the others are refused here."""
        asked = list(asked)
        if not self._book.enabled:
            self._users.pop(number, None)
            return asked
        try:
            name = self._book.identified(caller)
        except (UserEmpty, PermissionDenied):
            return self._refuse(number, asked, PermissionDenied)
        except AuthOldRevision:
            return self._refuse(number, asked, StreamLost)
        stream = self._roster.streams.get(number)
        if stream is not None and self._users.get(number) != name:
            self._users[number] = name
            self._judge(stream)
        self._users[number] = name
        good: list[Any] = []
        bad: list[Any] = []
        for fields in asked:
            key, range_end = fields[1] or b"\0", fields[2] if len(fields) > 2 else b""
            (good if self._book.may_read(name, key, range_end) else bad).append(fields)
        self._refuse(number, bad, PermissionDenied)
        return good

    def _refuse(self, number: int, asked: Iterable[Sequence[Any]], error: type[ZkvError]) -> list[Any]:
        ids = [fields[0] for fields in asked]
        if ids:
            self._roster.outbox.refuse(number, ids, self._roster.head, error.code)
        return []

    def news(self, news: AuthNews) -> None:
        self._book.install(news)
        streams = self._roster.streams
        self._users = {number: name for number, name in self._users.items() if number in streams}
        if self._book.enabled:
            for stream in list(streams.values()):
                self._judge(stream)

    def _judge(self, stream: Stream) -> None:
        """End those of its watches that may not go on."""
        name = self._users.get(stream.number)
        watches = {id_: (party.claim.key, party.claim.range_end) for id_, party in stream.watches.items()}
        watches |= {id_: (watch.key or b"\0", watch.range_end) for id_, watch in stream.held.items()}
        if name is None:
            self._roster.end_watches(stream, sorted(watches), StreamLost.code)
            return
        judged = {keys: self._book.may_read(name, *keys) for keys in set(watches.values())}
        self._roster.end_watches(
            stream, sorted(id_ for id_, keys in watches.items() if not judged[keys]), PermissionDenied.code
        )
