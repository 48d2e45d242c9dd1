"""Linearizable reads without a log entry (thesis section 6.4), many for the price of one round.

A read that reaches the leader may be served at the leader's commit index of that moment, once a majority has
confirmed *afterwards* that it is still the leader. The leader asks by heartbeat, numbering the rounds: first as many
followers as it needs, all of them when one is silent. A follower's answer carries the number back and confirms every
round up to it. One round is in flight at a time
and all reads that come meanwhile gather for the next: under load a round serves hundreds.

    reads   r1      r2 r3 r4                   r5
    rounds  |-- 1 (r1) --|-- 2 (r2 r3 r4) --|     |-- 3 (r5) --|

A follower asks the leader in just the same way: one question in flight, the next gathers. The question is of the
leader's term and was asked after its reads had come, so it is itself what a heartbeat's answer would be: the word of
one voter that nobody else leads yet. Where leader and asker are a quorum, of three members then, it needs no round.
Questions are repeated, for messages get lost; that is safe, since an index handed out later is never lower. The numbers
of a follower's questions start at random: an answer to a question asked before a restart must not fit a younger one.
"""

from __future__ import annotations


class ReadRounds:
    """The leader's side. A read is (member who asked, its context)."""

    def __init__(self) -> None:
        self.number = 0
        """The newest round; every heartbeat carries it."""
        self._gathered: list[tuple[int, int]] = []
        self._in_flight: list[tuple[int, int]] = []
        self._index = 0

    def add(self, member: int, context: int) -> None:
        self._gathered.append((member, context))

    def begin(self, commit: int) -> bool:
        """Start a round for what has gathered, unless one is in flight. True: send heartbeats now."""
        if self._in_flight or not self._gathered:
            return False
        self._in_flight, self._gathered = self._gathered, []
        self._index = commit
        self.number += 1
        return True

    @property
    def is_due(self) -> bool:
        """Does any read wait?"""
        return bool(self._in_flight or self._gathered)

    @property
    def waits(self) -> bool:
        """Is a round in flight?"""
        return bool(self._in_flight)

    def confirm(self, number: int) -> tuple[int, list[tuple[int, int]]]:
        """A quorum has confirmed rounds up to `number`: the index to read at, and who may."""
        if number < self.number:
            return 0, []
        served, self._in_flight = self._in_flight, []
        return self._index, served

    def abandon(self) -> list[tuple[int, int]]:
        """Leadership is over: all reads that wait."""
        return self._in_flight + self._gathered


class ReadQuestions:
    """The follower's side. `number` names the question in flight, 0: none."""

    def __init__(self, number_first: int) -> None:
        self.number = 0
        self.asked_at = 0
        """When the question was first asked, ms."""
        self.repeat_at = 0
        """When to ask it again, ms."""
        self._number_next = number_first + 1
        self._gathered: list[int] = []
        self._in_flight: list[int] = []

    def add(self, context: int) -> None:
        self._gathered.append(context)

    def begin(self, now: int) -> bool:
        """Start a question for what has gathered, unless one is in flight. True: ask now."""
        if self._in_flight or not self._gathered:
            return False
        self._in_flight, self._gathered = self._gathered, []
        self.number = self._number_next
        self._number_next += 1
        self.asked_at = now
        return True

    def answer(self, number: int) -> list[int]:
        """The contexts served by the answer to question `number`; none when that is an old one."""
        if number != self.number:
            return []
        return self._end()

    def give_up(self) -> list[int]:
        """The question in flight will not be answered: the contexts it was for."""
        return self._end()

    def abandon(self) -> list[int]:
        """There is nobody to ask: all contexts that wait."""
        abandoned = self._end() + self._gathered
        self._gathered = []
        return abandoned

    def _end(self) -> list[int]:
        ended, self._in_flight = self._in_flight, []
        self.number = 0
        return ended
