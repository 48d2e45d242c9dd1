"""`zkv` and `etcdctl` given the same command line, and what they print compared.

What cannot agree (ids, names, addresses, times, sizes) is masked, alike in both, and keeps its shape. Of an error, the
sentence must begin as etcdctl's; ours may go on to say what to do.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.harness.etcd import binary
from zkv.ctl.command import Streams
from zkv.ctl.main import run

if TYPE_CHECKING:
    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)

FORMATS = ("simple", "json", "fields", "table")
TROUBLE = re.compile(r"Error: |Failed |\S+ is unhealthy: |Invalid command|watch was canceled |command \[")
MASKS = [
    (r"rpc error: code = \w+ desc = (?=context deadline exceeded)", ""),  # whose clock was first
    (r": no connection within [\w.]+", ""),
    (r"127\.0\.0\.1:(?!1\b)\d+", "ADDRESS"),
    (r"(http|tcp)://", "SCHEME://"),
    (r"\b[0-9a-f]{13,16}\b", "ID"),
    (r'("(ClusterID|MemberID|ID|Leader|PrevLease)" : )[1-9]\d+', r"\1ID"),
    (r'"(cluster_id|member_id|ID|leader)":[1-9]\d+', r'"\1":ID'),
    (r'("Lease" : |"(lease|id)":)[1-9]\d{9,}', r"\1ID"),
    (r'("TTL" : |"ttl":)4\d\d\b', r"\1LEFT"),
    (r'"key":"[\w+/=]{24,}"', '"key":KEY'),
    (r'("?(Raft|raft)_?(Term|Index|AppliedIndex|term)"? ?: ?)[1-9]\d*', r"\1N"),
    (r"\b[\d.]+ ?([kM]?B)\b", "SIZE"),
    (r'("DBSize" : |"dbSize(InUse)?":)\d+', r"\1SIZE"),
    (r'("Hash" : |"hash":)\d+', r"\1HASH"),
    (r"(ADDRESS, )\d+$", r"\1HASH"),
    (r'("[vV]ersion" ?: ?)"[\w.+-]+"', r"\1VERSION"),
    (r"(ID, )[\w.+-]+(, SIZE, (true|false), (true|false)), \d+, \d+, \d+", r"\1VERSION\2, N, N, N"),
    (r"\b(\d+m)?[\d.]+(µs|ms|s)\b", "TIME"),
    (r'("name":|"Name" : )"[en][123]"', r"\1NAME"),
    (r"started, [en][123],", "started, NAME,"),
]
UNLIKE = re.compile(r"(\w*ID|cluster_id|member_id|raft_term): -?\d+|(name|peerURLs|clientURLs): .*")
CELL_MASK = re.compile(r"^(\d+|\d+\.\d+\.\d+|[en][123])$")


class Step(NamedTuple):
    """In `line`, LEASE stands for the lease that was granted last (see `Leases`)."""

    line: str
    stdin: str = ""


class Outcome(NamedTuple):
    stdout: str
    stderr: str
    code: int


def each_format(*lines: str) -> list[Step]:
    return [Step(f"{line} -w {name}") for line in lines for name in FORMATS]


class Leases:
    """The id of the lease granted last, which steps that come after it can name."""

    def __init__(self) -> None:
        self._last = "0"

    def filled(self, step: Step) -> Step:
        return step._replace(line=step.line.replace("LEASE", self._last))

    def note(self, outcome: Outcome) -> Outcome:
        if granted := re.search(r"^lease ([0-9a-f]+) granted with", outcome.stdout):
            self._last = granted[1]
        return outcome


def play_etcdctl(endpoints: str, step: Step) -> Outcome:
    program = binary("etcdctl")
    assert program is not None
    words = shlex.split(step.line)
    if "--endpoints" not in words:
        words = ["--endpoints", endpoints, *words]
    done = subprocess.run([program, *words], input=step.stdin.encode(), capture_output=True, check=False, timeout=60)
    return Outcome(done.stdout.decode(errors="surrogateescape"), done.stderr.decode(), done.returncode)


def read_protobuf(message: type[M], printed: str) -> M:
    """What `-w protobuf` printed."""
    found = message()
    found.ParseFromString(printed.encode(errors="surrogateescape"))
    return found


def shown(message: Message) -> str:
    """As text, without what cannot agree."""
    return UNLIKE.sub(r"\1\2", str(message))


def play_zkv(endpoints: str, step: Step) -> Outcome:
    streams = Streams(io.BytesIO(step.stdin.encode()), io.BytesIO(), io.BytesIO())
    code = run(shlex.split(step.line), streams, {"ZKV_ENDPOINTS": endpoints})
    out, err = streams.out, streams.err
    assert isinstance(out, io.BytesIO)
    assert isinstance(err, io.BytesIO)
    return Outcome(out.getvalue().decode(), err.getvalue().decode(), code)


def assert_alike(ours: Outcome, theirs: Outcome, *, in_order: bool = True) -> None:
    """Output, exit code and complaints. Not `in_order`: members may come in another order, which goes by their ids."""
    arranged = list if in_order else sorted
    assert ours.code == theirs.code, ours.stderr
    if theirs.stdout.startswith("NAME:"):
        assert not ours.stdout  # etcdctl's help
    elif theirs.stdout.startswith("+--"):
        assert arranged(_rows(ours.stdout)) == arranged(_rows(theirs.stdout))
    else:
        assert arranged(_parts(ours.stdout)) == arranged(_parts(theirs.stdout))
    _assert_same_complaints(ours, theirs)


def _masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return text


def _rows(text: str) -> list[list[str]]:
    """The cells of a table, whose widths go with addresses, versions and times."""
    lines = [line for line in _masked(text).splitlines() if not line.startswith("+")]
    return [[CELL_MASK.sub("MASKED", cell.strip()) for cell in line.split("|")] for line in lines]


def _parts(text: str) -> list[str]:
    """What belongs to one member, be it a line, lines up to an empty one, or an object."""
    masked = _masked(text)
    if masked.startswith(("[", "{")):
        return re.split(r"(?<=\}),(?=\{)", masked.strip("[]\n"))
    return masked.split("\n\n" if '" : ' in masked else "\n")


def _assert_same_complaints(ours: Outcome, theirs: Outcome) -> None:
    """Each line of trouble begins as etcdctl's, which says some twice, and has its log and help between."""
    wanted = dict.fromkeys(line for line in theirs.stderr.splitlines() if TROUBLE.match(line))
    found = [line for line in ours.stderr.splitlines() if not line.startswith("Run 'zkv ")]
    assert len(found) == len(wanted), ours.stderr + theirs.stderr
    for line, sentence in zip(found, wanted, strict=True):
        assert _masked(line).startswith(_masked(sentence).replace("etcdctl", "zkv").rstrip(")"))


def assert_same(ours: Outcome, theirs: Outcome, *, in_order: bool = True) -> None:
    """Of the same program on two clusters: what it prints, its exit code, and each line of trouble to its end."""
    arranged = list if in_order else sorted
    assert ours.code == theirs.code, ours.stderr
    if theirs.stdout.startswith("+--"):
        assert arranged(_rows(ours.stdout)) == arranged(_rows(theirs.stdout))
    else:
        assert arranged(_parts(ours.stdout)) == arranged(_parts(theirs.stdout))
    troubles = [[_masked(line) for line in each.stderr.splitlines() if TROUBLE.match(line)] for each in (ours, theirs)]
    assert troubles[0] == troubles[1]
