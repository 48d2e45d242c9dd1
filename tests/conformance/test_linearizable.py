"""What clients are told while members die and stand still is linearizable (tests/harness/history.py)."""

from __future__ import annotations

import pytest

from tests.torture.linearizable import play


@pytest.mark.slow
def test_what_clients_are_told_is_linearizable() -> None:
    """A leader sleeps through an election, members are killed, all at once too. More: tests/torture/linearizable.py."""
    told, wrong = play(["paused", "killed", "an actor killed", "all killed"], seed=5)
    assert wrong == []
    assert told > 400
