"""docs/PROTOCOL.md says what the code does: tables, fields, limits, bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from zkv import errors
from zkv.client.session import Session
from zkv.limits import Limits
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.ticket import Ticket

TEXT = (Path(__file__).parents[3] / "docs" / "PROTOCOL.md").read_text()
MEMBERS_ONLY = {m.Op.PUBLISH, m.Op.LEASE_RENEW, m.Op.LEASE_EXPIRE, m.Op.QUOTA_COUNT, m.Op.LOGIN, m.Op.FENCE}
RECORDS = (
    *(m.REQUEST_CLASSES[op] for op in m.Op if op not in MEMBERS_ONLY),
    *dict.fromkeys(m.ANSWER_CLASSES[op] for op in m.Op if op not in MEMBERS_ONLY),
    m.Watch,
    m.Compare,
    m.KeyValue,
    m.Member,
    m.Quota,
    m.Answers,
)


def section(title: str) -> str:
    """A section's own text, without those below it."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#)", TEXT + "\n#", re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The first table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def example(name: str) -> bytes:
    """The bytes of an example: pairs of hex digits at the head of each line."""
    found = re.search(rf"^```{name}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    heads = (cast("re.Match[str]", re.match(r"(?: *[0-9a-f]{2}(?= |$))+", line)) for line in found[1].splitlines())
    return bytes.fromhex("".join(head[0] for head in heads))


def test_the_version_is_ours() -> None:
    assert TEXT.startswith(f"# The native protocol, version {m.PROTOCOL_VERSION}\n")


def test_every_error_is_listed_as_it_is() -> None:
    """Code, name, text, whether it is retryable, and what it says of a write."""
    expected = [
        [
            str(code),
            error.__name__,
            error.text,
            "yes" if issubclass(error, errors.RetryableError) else "no",
            "maybe" if error.maybe_applied else "no",
        ]
        for code, error in sorted(errors.BY_CODE.items())
    ]
    assert rows("Errors") == expected


def test_every_operation_is_listed_as_it_is() -> None:
    expected = [
        [str(int(op)), op.name, m.REQUEST_CLASSES[op].__name__, m.ANSWER_CLASSES[op].__name__]
        for op in m.Op
        if op not in MEMBERS_ONLY
    ]
    assert rows("Operations") == expected


def test_every_kind_of_message_is_listed_as_it_is() -> None:
    records: dict[str, Any] = {
        "REQUESTS": m.Requests,
        "CREDIT": m.Credit,
        "CANCEL": m.Cancel,
        "PING": m.Ping,
        "WATCH": m.Watches,
        "UNWATCH": m.Unwatch,
        "WATCH_CREDIT": m.WatchCredit,
        "WATCH_PROGRESS": m.WatchProgress,
    }
    expected = [[str(int(kind)), kind.name, ", ".join(records[kind.name]._fields)] for kind in m.ClientKind]
    assert [row[:3] for row in rows("What a client sends")] == expected


def test_every_kind_of_watch_answer_is_listed_as_it_is() -> None:
    assert [row[:2] for row in rows("Watches")] == [[str(int(kind)), kind.name] for kind in m.WatchKind]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_listed_with_its_fields(record: Any) -> None:
    """In their order, and with the defaults that may be left off."""
    found = re.search(rf"^{record.__name__} += \[(.*)\]$", TEXT, re.MULTILINE)
    assert found is not None
    fields = [field.partition("=") for field in found[1].split(", ")] if found[1] else []
    assert tuple(name for name, _, _ in fields) == record._fields
    words: dict[str, object] = {
        "false": False,
        "true": True,
        "nil": None,
        "0": 0,
        "-1": -1,
        'b""': b"",
        '""': "",
        "[]": (),
    }
    assert {name: words[default] for name, equals, default in fields if equals} == record._field_defaults


def test_the_limits_are_those_of_the_configuration() -> None:
    limits = Limits()
    for name, default, _ in rows("Limits"):
        assert getattr(limits, name) == int(default), name


def _asked(request: m.Request, session: Session) -> tuple[Ticket, bytes]:
    ticket = session.submit(request, 1000)
    ((_, data),) = session.outgoing(0)
    return ticket, data


def test_the_worked_example_is_what_is_sent_and_understood() -> None:
    """Byte by byte."""
    session = Session(1, bytes(range(16)), 0)
    session.connected(0, 0)
    ticket, data = _asked(m.Put(b"a", b"1"), session)
    assert data == example("put-request")
    session.received(0, example("put-answer"), 0)
    assert (ticket.answer, ticket.header) == (m.PutAnswer(None), (0xC0FFEE, 0x2A, 2, 3))
    ticket, data = _asked(m.Range(b"a"), session)
    assert data == example("range-request")
    session.received(0, example("range-answer"), 0)
    assert ticket.answer == m.RangeAnswer((m.KeyValue(b"a", 2, 2, 1, b"1", 0),), more=False, count=1)


def test_the_worked_example_of_a_watch_is_what_is_sent_and_understood() -> None:
    session = Session(1, bytes(range(16)), 0)
    session.connected(0, 0)
    feed = session.watching.open(m.Watch(0, b"a", start_revision=3, fragment=True), None)
    assert session.outgoing(0) == [(0, example("watch-request"))]
    session.received(0, example("watch-created"), 0)
    assert feed.begun
    session.received(0, example("watch-events"), 0)
    batch = session.watching.take(feed, 0)
    assert batch is not None
    ((header, (event,), _),) = batch.responses
    assert header == (0xC0FFEE, 0x2A, 3, 3)
    assert event == ("DELETE", m.KeyValue(b"a", 0, 3, 0, b"", 0), None)
    assert session.watching.take(feed, 0) is None
    assert session.outgoing(1000) == [(0, example("watch-credit"))]
