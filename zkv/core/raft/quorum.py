"""Majorities, plain and joint: the one arithmetic behind commits, elections, leases and reads.

Whatever Raft asks of "a majority" is one of two questions:

- *How far has a quorum come?* (`reached`) Give every voter a number that only grows: the last entry it holds
  on disk, the time it was last heard of, the read round it confirmed. The greatest number that a majority has
  reached or passed is then the commit index, the start of the leader's lease, the confirmed round.

      voter      A    B    C    D    E
      number     7    3    9    3    5      sorted: 3 3 5 7 9; the third of five is reached by a majority: 5

- *Who won the vote?* (`tally`)

While a joint configuration is in force (Raft section 6), both its halves must agree: what is reached is the lesser
of the two, what is won must be won in both.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zkv.wire.messages import ConfState


class Vote(Enum):
    PENDING = auto()
    WON = auto()
    LOST = auto()


def reached(conf: ConfState, numbers: dict[int, int]) -> int:
    """The greatest value that a quorum of voters equals or exceeds. `numbers`: by member, of every voter."""
    incoming = _reached(conf.voters, numbers)
    return min(incoming, _reached(conf.voters_outgoing, numbers)) if conf.voters_outgoing else incoming


def _reached(voters: tuple[int, ...], numbers: dict[int, int]) -> int:
    assert voters, "a configuration has voters"
    of_voters = [numbers[member] for member in voters]
    of_voters.sort()
    return of_voters[(len(of_voters) - 1) // 2]


def tally(conf: ConfState, votes: Mapping[int, bool]) -> Vote:
    """How an election stands in which `votes` (granted or refused, by voter) have come in."""
    results = {_tally(voters, votes) for voters in (conf.voters, conf.voters_outgoing) if voters}
    if Vote.LOST in results:
        return Vote.LOST
    return Vote.PENDING if Vote.PENDING in results else Vote.WON


def _tally(voters: tuple[int, ...], votes: Mapping[int, bool]) -> Vote:
    needed = len(voters) // 2 + 1
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted >= needed:
        return Vote.WON
    return Vote.LOST if len(voters) - refused < needed else Vote.PENDING
