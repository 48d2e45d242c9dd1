"""What `zkv top` makes of two looks at the same members, and how it draws it."""

from __future__ import annotations

from zkv.ctl.top_numbers import Latency, Seen, frame, latency_of
from zkv.ctl.top_view import plain, printable
from zkv.wire.messages import LookAnswer

SECOND = 1_000_000_000
BUCKETS = 15


def histogram(**buckets: int) -> tuple[int, ...]:
    """`b0=3`: three below a millisecond."""
    counts = [0] * BUCKETS
    for name, count in buckets.items():
        counts[int(name[1:])] = count
    return (0, *counts)


def seen(at: int, *, writes: int, slow: int = 0, endpoint: str = "a:1", member: int = 7, hot: int = 0) -> Seen:
    answer = LookAnswer(
        (
            ("raft", (("is leader", "", 1), ("leader", "", member), ("term", "", 3), ("committed", "", 10),
                      ("applied", "", 8), ("turns", "", 1), ("busy", "", at // 2), ("turn", "", 2_000_000),
                      ("inbox", "", 4))),
            ("storage", (("revision", "", 99), ("db size", "", 2_000_000), ("db in use", "", 1_000_000),
                         ("alarms", "NOSPACE", 0))),
            ("gateway", (("requests", "write", writes), ("hot", "/a/", hot), ("groups", "", 2),
                         ("durations", "write", histogram(b0=writes, b4=slow)))),
            ("grpc", (("requests", "write", 0),)),
            ("processes", (("cpu", "", at // 4), ("memory", "", 50_000_000), ("cpu of", "raft", at // 4))),
        )
    )  # fmt: skip
    return Seen(endpoint, at, member, answer)


def test_rates_are_what_happened_between_two_looks() -> None:
    before = seen(10 * SECOND, writes=100, hot=1_000)
    now = seen(12 * SECOND, writes=140, slow=10, hot=3_000)
    shown = frame({"a:1": before}, [now])
    (row,) = shown.members
    assert (row.writes, row.cpu, row.leads, row.term, row.revision) == (20.0, 0.25, True, 3, 99)
    assert row.write_latency == Latency(50, 0.001, 0.016)
    raft = next(actor for actor in row.actors if actor.actor == "raft")
    assert (raft.busy, raft.cpu, raft.turn_max, raft.inbox) == (0.5, 0.25, 0.002, 4)
    assert shown.prefixes == (("/a/", 1_000.0),)


def test_a_first_look_has_no_rates() -> None:
    (row,) = frame({}, [seen(SECOND, writes=100)]).members
    assert (row.writes, row.cpu, row.revision) == (None, None, 99)


def test_what_began_anew_counts_from_nothing() -> None:
    """A process that died in between, and another member at the endpoint."""
    before = seen(10 * SECOND, writes=1_000)
    (row,) = frame({"a:1": before}, [seen(11 * SECOND, writes=30)]).members
    assert (row.writes, row.write_latency.count) == (30.0, 30)
    (row,) = frame({"a:1": before}, [seen(11 * SECOND, writes=2_000, member=8)]).members
    assert row.writes is None


def test_latencies_are_told_as_the_bound_they_stayed_below() -> None:
    assert latency_of(histogram(b0=99, b3=1)[1:]) == Latency(100, 0.001, 0.001)
    assert latency_of(histogram(b0=98, b3=2)[1:]) == Latency(100, 0.001, 0.008)
    assert latency_of(histogram(b14=1)[1:]).p99 == float("inf")
    assert latency_of(histogram()[1:]) == Latency(0, 0.0, 0.0)


def test_a_frame_is_drawn_as_text_with_members_that_are_down() -> None:
    before = seen(10 * SECOND, writes=100, hot=0)
    down = Seen("b:2", 11 * SECOND, 8, error="context deadline exceeded")
    shown = frame({"a:1": before}, [seen(11 * SECOND, writes=1_300, hot=160), down])
    text = plain(shown, {7: "n1", 8: "n2"}, "the title")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "the title"
    assert "n1 a:1 leader 3 10 2 99 2.0 MB 1.0 MB 0 25% 50 MB" in lines
    assert "n2 b:2 DOWN" in lines
    assert "b:2: context deadline exceeded" in lines
    refused = down._replace(error="etcdserver: user name is empty", refused=True)
    text = plain(frame({}, [refused]), {7: "n1", 8: "n2"}, "the title")
    assert "n2 b:2 REFUSED" in [" ".join(line.split()) for line in text.splitlines()]
    assert "/a/ 160" in lines
    assert any(line.startswith("n1 1,200 <1ms <1ms") for line in lines)
    assert "\x1b" not in text


def test_a_key_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2J\n/é") == "a\\x1b[2J\\x0a/é"


def test_quotas_that_refuse_come_first_and_then_the_fullest() -> None:
    """As the member tells that has applied most; without any there is no such table."""

    def told(at: int, applied: int, **refused: int) -> Seen:
        names = ("quota keys", "quota keys max", "quota bytes", "quota bytes max", "quota requests max")
        numbers = {"half": (5, 10, 50, 0, 0), "full": (1, 0, 10, 10, 0), "hasty|": (1, 0, 9, 0, 20)}
        values = [(name, prefix, n) for prefix, row in numbers.items() for name, n in zip(names, row, strict=True)]
        values += [("quota refused", prefix, refused.get(prefix.strip("|"), 0)) for prefix in numbers]
        answer = LookAnswer((("raft", (("applied", "", applied),)), ("storage", tuple(values))))
        return Seen(f"a:{applied}", at, 7, answer)

    before = {"a:9": told(0, 9), "a:8": told(0, 8)}
    shown = frame(before, [told(2 * SECOND, 8, half=99), told(2 * SECOND, 9, hasty=30)])
    assert [(row.prefix, row.refused) for row in shown.quotas] == [("hasty|", 15.0), ("full", 0.0), ("half", 0.0)]
    lines = plain(shown, {}, "title").splitlines()
    at = lines.index("Quotas")
    assert lines[at + 1].split() == ["PREFIX", "KEYS", "MAX", "BYTES", "MAX", "MAX", "REQUESTS/s", "REFUSED/s"]
    assert lines[at + 2].split() == ["hasty|", "1", "-", "9", "B", "-", "20", "15"]
    assert "Quotas" not in plain(frame({}, [seen(SECOND, writes=1)]), {}, "title")
