"""Results for people and for programs: one class per output format, one method per kind of result.

What is printed is etcdctl's to the letter, its quirks included where programs may rest on them (they are named
where they stand). Results are the answers of `wire/messages.py` with the header they came with; for the endpoint
commands, which ask several members, a small record each. A printer writes to the stream it is given as it goes, and
a range is printed as its chunks come in: so a get of any size needs little memory.

A format that cannot show a command's result says so (exit code 4). etcdctl says so after it did the work;
here the command asks `require` first, so that a put that "failed" has not been done.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple

from zkv.client.ops import prefix_end
from zkv.client.ticket import Header
from zkv.ctl.go_text import duration, quote, size
from zkv.ctl.options import EXIT_BAD_FEATURE, CommandError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from zkv.client.watch_events import WatchResponse
    from zkv.ctl.cert_facts import CertificateFacts
    from zkv.snapshot_file import Summary


class EndpointStatus(NamedTuple):
    endpoint: str
    header: Header
    status: m.StatusAnswer


class EndpointHealth(NamedTuple):
    """`took`: nanoseconds; `error` is empty when the endpoint is healthy."""

    endpoint: str
    took: int
    error: str


class EndpointHash(NamedTuple):
    endpoint: str
    header: Header
    answer: m.HashKVAnswer


_READS = frozenset({m.PermissionKind.READ, m.PermissionKind.READWRITE})
_WRITES = frozenset({m.PermissionKind.WRITE, m.PermissionKind.READWRITE})


def permitted_keys(key: bytes, end: bytes) -> bytes:
    """The keys of a permission, as people are told of them."""
    if not end:
        return key
    if end == b"\0":
        return b"[%s, <open ended>" % key
    prefix = b" (prefix %s)" % key if key and end == prefix_end(key) else b""
    return b"[%s, %s)%s" % (key, end, prefix)


class Printer:
    """The face all formats show. What a format does not override, it cannot show."""

    name = ""

    def __init__(self, out: IO[bytes], *, as_hex: bool = False, value_only: bool = False) -> None:
        self._out = out
        self.as_hex = as_hex
        self.value_only = value_only

    def require(self, result: str) -> None:
        """Raises CommandError unless this format can show `result` (the name of a method below)."""
        if getattr(type(self), result) is getattr(Printer, result):
            raise CommandError(f"{self.name} not supported as output format", EXIT_BAD_FEATURE)

    def line(self, text: str | bytes = "") -> None:
        self._out.write((text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text) + b"\n")

    def put(self, header: Header, answer: m.PutAnswer) -> None:
        raise NotImplementedError

    def range(self, header: Header, chunks: Iterable[m.RangeAnswer]) -> None:
        """`chunks`: the parts of one answer; `more` and `count` of the last one are the whole's."""
        raise NotImplementedError

    def delete_range(self, header: Header, answer: m.DeleteRangeAnswer) -> None:
        raise NotImplementedError

    def txn(self, header: Header, answer: m.TxnAnswer) -> None:
        raise NotImplementedError

    def member_list(self, header: Header, answer: m.MemberListAnswer) -> None:
        raise NotImplementedError

    def member_add(self, header: Header, answer: m.MemberAddAnswer) -> None:
        raise NotImplementedError

    def member_change(self, header: Header, answer: m.MembersAnswer, member: int, done: str) -> None:
        """`done`: what was done to `member`, in words."""
        raise NotImplementedError

    def alarms(self, header: Header, answer: m.AlarmAnswer) -> None:
        raise NotImplementedError

    def auth_changed(self, header: Header, done: str | bytes) -> None:
        """`done`: what was done to users or roles, in words."""
        raise NotImplementedError

    def auth_status(self, header: Header, answer: m.AuthStatusAnswer) -> None:
        raise NotImplementedError

    def user_get(self, header: Header, name: str, answer: m.UserGetAnswer) -> None:
        raise NotImplementedError

    def user_list(self, header: Header, answer: m.UserListAnswer) -> None:
        raise NotImplementedError

    def role_get(self, header: Header, name: str, answer: m.RoleGetAnswer) -> None:
        raise NotImplementedError

    def role_list(self, header: Header, answer: m.RoleListAnswer) -> None:
        raise NotImplementedError

    def quota(self, header: Header, quota: m.Quota, done: str) -> None:
        """`done`: what was done to it, if anything."""
        raise NotImplementedError

    def quota_list(self, header: Header, answer: m.QuotaListAnswer) -> None:
        raise NotImplementedError

    def snapshot_status(self, summary: Summary, sha256: str, size: int) -> None:
        """`size`: the file's, bytes."""
        raise NotImplementedError

    def certificates(self, found: Sequence[CertificateFacts]) -> None:
        raise NotImplementedError

    def told(self, lines: Sequence[str], facts: Mapping[str, Any]) -> None:
        """What was found or done beside a cluster: for people, and the same for programs."""
        raise NotImplementedError

    def lease_grant(self, header: Header, answer: m.LeaseGrantAnswer) -> None:
        raise NotImplementedError

    def lease_revoke(self, header: Header, lease: int) -> None:
        raise NotImplementedError

    def lease_keep_alive(self, header: Header, answer: m.LeaseKeepAliveAnswer) -> None:
        raise NotImplementedError

    def lease_gone(self, lease: int) -> None:
        """A lease that was to be kept alive is not there any more. Only people are told, as by etcdctl."""

    def lease_time_to_live(self, header: Header, answer: m.LeaseTimeToLiveAnswer, *, keys: bool) -> None:
        """`keys`: those on the lease were asked for."""
        raise NotImplementedError

    def lease_list(self, header: Header, answer: m.LeaseListAnswer) -> None:
        raise NotImplementedError

    def watch(self, response: WatchResponse) -> None:
        raise NotImplementedError

    def watch_canceled(self, header: Header, compact_revision: int) -> None:
        """The last that is said of a watch; `compact_revision` 0: it did not end for want of history."""

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        raise NotImplementedError

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        raise NotImplementedError

    def endpoint_hashkv(self, results: Sequence[EndpointHash]) -> None:
        raise NotImplementedError

    def _inner(self, header: Header, answer: m.TxnAnswer) -> Iterator[None]:
        """Print the answers inside a txn, stopping before each."""
        for inner, each in with_inner_headers(header, answer):
            yield
            if isinstance(each, m.PutAnswer):
                self.put(inner, each)
            elif isinstance(each, m.RangeAnswer):
                self.range(inner, (each,))
            elif isinstance(each, m.DeleteRangeAnswer):
                self.delete_range(inner, each)
            else:
                self.txn(inner, each)


class SimplePrinter(Printer):
    name = "simple"

    def put(self, _header: Header, answer: m.PutAnswer) -> None:
        self.line("OK")
        if answer.prev_kv:
            self._key_value(answer.prev_kv)

    def range(self, _header: Header, chunks: Iterable[m.RangeAnswer]) -> None:
        for chunk in chunks:
            for kv in chunk.kvs:
                self._key_value(kv)

    def delete_range(self, _header: Header, answer: m.DeleteRangeAnswer) -> None:
        self.line(str(answer.deleted))
        for kv in answer.prev_kvs:
            self._key_value(kv)

    def txn(self, header: Header, answer: m.TxnAnswer) -> None:
        self.line("SUCCESS" if answer.succeeded else "FAILURE")
        for _ in self._inner(header, answer):
            self.line()

    def member_list(self, _header: Header, answer: m.MemberListAnswer) -> None:
        for row in member_rows(answer):
            self.line(", ".join(row))

    def member_add(self, header: Header, answer: m.MemberAddAnswer) -> None:
        self.line(f"Member {answer.member.id:16x} added to cluster {header.cluster_id:16x}")

    def member_change(self, header: Header, _answer: m.MembersAnswer, member: int, done: str) -> None:
        self.line(f"Member {member:16x} {done} cluster {header.cluster_id:16x}")

    def alarms(self, _header: Header, answer: m.AlarmAnswer) -> None:
        for member, alarm in answer.alarms:
            self.line(f"memberID:{member} alarm:{m.AlarmType(alarm).name} ")

    def auth_changed(self, _header: Header, done: str | bytes) -> None:
        self.line(done)

    def auth_status(self, _header: Header, answer: m.AuthStatusAnswer) -> None:
        self.line(f"Authentication Status: {'true' if answer.enabled else 'false'}")
        self.line(f"AuthRevision: {answer.revision}")

    def user_get(self, _header: Header, name: str, answer: m.UserGetAnswer) -> None:
        self.line(f"User: {name}")
        self.line(" ".join(("Roles:", *answer.roles)))

    def user_list(self, _header: Header, answer: m.UserListAnswer) -> None:
        for user in answer.users:
            self.line(user)

    def role_get(self, _header: Header, name: str, answer: m.RoleGetAnswer) -> None:
        self.line(f"Role {name}")
        for title, kinds in (("Read", _READS), ("Write", _WRITES)):
            self.line(f"KV {title}:")
            for kind, key, end in answer.permissions:
                if kind in kinds:
                    self.line(b"\t" + permitted_keys(key, end))

    def role_list(self, _header: Header, answer: m.RoleListAnswer) -> None:
        for role in answer.roles:
            self.line(role)

    def quota(self, header: Header, quota: m.Quota, done: str) -> None:
        if done:
            self.line(b"Quota of %s %s" % (self._prefix(quota.prefix), done.encode()))
        if done != "deleted":
            self.quota_list(header, m.QuotaListAnswer((quota,)))

    def quota_list(self, _header: Header, answer: m.QuotaListAnswer) -> None:
        for quota in answer.quotas:
            told = f": {_used(quota.keys_used, quota.keys_max)} keys, {_used(quota.bytes_used, quota.bytes_max)} bytes"
            told += f", {quota.requests_max} requests a second" if quota.requests_max else ""
            self.line(self._prefix(quota.prefix) + (told + (", counting" if quota.counting else "")).encode())

    def snapshot_status(self, summary: Summary, sha256: str, size: int) -> None:
        self.line(", ".join(snapshot_row(summary, sha256, size)))

    def certificates(self, found: Sequence[CertificateFacts]) -> None:
        for facts in found:
            for line in facts.lines():
                self.line(line)

    def told(self, lines: Sequence[str], _facts: Mapping[str, Any]) -> None:
        for line in lines:
            self.line(line)
        self._out.flush()

    def lease_grant(self, _header: Header, answer: m.LeaseGrantAnswer) -> None:
        self.line(f"lease {answer.id:016x} granted with TTL({answer.ttl}s)")

    def lease_revoke(self, _header: Header, lease: int) -> None:
        self.line(f"lease {lease:016x} revoked")

    def lease_keep_alive(self, _header: Header, answer: m.LeaseKeepAliveAnswer) -> None:
        self.line(f"lease {answer.id:016x} keepalived with TTL({answer.ttl})")

    def lease_gone(self, lease: int) -> None:
        self.line(f"lease {lease:016x} expired or revoked.")

    def lease_time_to_live(self, _header: Header, answer: m.LeaseTimeToLiveAnswer, *, keys: bool) -> None:
        if answer.granted_ttl == 0 and answer.ttl == -1:
            self.line(f"lease {answer.id:016x} already expired")
            return
        text = f"lease {answer.id:016x} granted with TTL({answer.granted_ttl}s), remaining({answer.ttl}s)"
        on_it = b", attached keys([" + b" ".join(answer.keys) + b"])" if keys else b""
        self.line(text.encode() + on_it)

    def lease_list(self, _header: Header, answer: m.LeaseListAnswer) -> None:
        self.line(f"found {len(answer.leases)} leases")
        for lease in answer.leases:
            self.line(f"{lease:016x}")

    def watch(self, response: WatchResponse) -> None:
        for event in response.events:
            self.line(event.type)
            if event.prev_kv:
                self._key_value(event.prev_kv)
            self._key_value(event.kv)

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        for row in status_rows(results):
            self.line(", ".join(row))

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        """Healthy ones; the others' troubles the command tells on stderr, as etcdctl does."""
        for endpoint, took, error in results:
            if not error:
                self.line(f"{endpoint} is healthy: successfully committed proposal: took = {duration(took)}")

    def endpoint_hashkv(self, results: Sequence[EndpointHash]) -> None:
        for row in hash_rows(results):
            self.line(", ".join(row))

    def _prefix(self, prefix: bytes) -> bytes:
        return (hexadecimal(prefix).encode() if self.as_hex else prefix) or b'""'

    def _key_value(self, kv: m.KeyValue) -> None:
        if not self.value_only:
            self.line(hexadecimal(kv.key) if self.as_hex else kv.key)
        self.line(hexadecimal(kv.value) if self.as_hex else kv.value)


class FieldsPrinter(Printer):
    """A line per field; what is bytes or text is quoted. `--hex` changes nothing here, as in etcdctl."""

    name = "fields"

    def field(self, name: str, value: object) -> None:
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, str):
            value = quote(value.encode("utf-8", "surrogateescape"))
        elif isinstance(value, bytes):
            value = quote(value)
        self.line(f'"{name}" : {value}')

    def put(self, header: Header, answer: m.PutAnswer) -> None:
        self._header(header)
        if answer.prev_kv:
            self._key_value("Prev", answer.prev_kv)
        if answer.lease:
            self.field("Lease", answer.lease)

    def range(self, header: Header, chunks: Iterable[m.RangeAnswer]) -> None:
        self._header(header)
        last = m.RangeAnswer((), more=False, count=0)
        for last in chunks:
            for kv in last.kvs:
                self._key_value("", kv)
        self.field("More", last.more)
        self.field("Count", last.count)

    def delete_range(self, header: Header, answer: m.DeleteRangeAnswer) -> None:
        self._header(header)
        self.field("Deleted", answer.deleted)
        for kv in answer.prev_kvs:
            self._key_value("Prev", kv)

    def txn(self, header: Header, answer: m.TxnAnswer) -> None:
        self._header(header)
        self.field("Succeeded", answer.succeeded)
        for _ in self._inner(header, answer):
            pass

    def member_list(self, header: Header, answer: m.MemberListAnswer) -> None:
        self._header(header._replace(revision=0))
        for member in answer.members:
            self.field("ID", member.id)
            self.field("Name", member.name)
            for url in member.peer_urls:
                self.field("PeerURL", url)
            for url in member.client_urls:
                self.field("ClientURL", url)
            self.field("IsLearner", member.is_learner)
            self.line()

    def alarms(self, header: Header, answer: m.AlarmAnswer) -> None:
        self._header(header)
        for member, alarm in answer.alarms:
            self.field("MemberID", member)
            self.line(f'"AlarmType" : {m.AlarmType(alarm).name}')
            self.line()

    def auth_changed(self, header: Header, _done: str | bytes) -> None:
        self._header(header)

    def role_get(self, header: Header, _name: str, answer: m.RoleGetAnswer) -> None:
        self._header(header)
        for kind, key, end in answer.permissions:
            self.line(f'"PermType" :  {m.PermissionKind(kind).name}')
            self.line(f'"Key" : {quote(key)}')
            self.line(f'"RangeEnd" : {quote(end)}')

    def role_list(self, header: Header, answer: m.RoleListAnswer) -> None:
        self._header(header)
        self.line('"Roles" :' + "".join(f" {quote(role.encode('utf-8', 'surrogateescape'))}" for role in answer.roles))

    def quota(self, header: Header, quota: m.Quota, _done: str) -> None:
        self._header(header)
        self._quota(quota)

    def quota_list(self, header: Header, answer: m.QuotaListAnswer) -> None:
        self._header(header)
        for quota in answer.quotas:
            self._quota(quota)
            self.line()

    def _quota(self, quota: m.Quota) -> None:
        for name, value in zip(QUOTA_FIELDS, quota, strict=True):
            self.field(name, value)

    def snapshot_status(self, summary: Summary, sha256: str, size: int) -> None:
        self.field("Hash", int(sha256[:8], 16))
        self.field("Revision", summary.revision)
        self.field("Keys", summary.keys)
        self.field("Size", size)
        self.field("Sha256", sha256)

    def lease_grant(self, header: Header, answer: m.LeaseGrantAnswer) -> None:
        self._header(header)
        self.field("ID", answer.id)
        self.field("TTL", answer.ttl)

    def lease_revoke(self, header: Header, _lease: int) -> None:
        self._header(header)

    def lease_keep_alive(self, header: Header, answer: m.LeaseKeepAliveAnswer) -> None:
        self._header(header)
        self.field("ID", answer.id)
        self.field("TTL", answer.ttl)

    def lease_time_to_live(self, header: Header, answer: m.LeaseTimeToLiveAnswer, *, keys: bool) -> None:  # noqa: ARG002
        self._header(header)
        self.field("ID", answer.id)
        self.field("TTL", answer.ttl)
        self.field("GrantedTTL", answer.granted_ttl)
        for key in answer.keys:
            self.field("Key", key)

    def lease_list(self, header: Header, answer: m.LeaseListAnswer) -> None:
        self._header(header)
        for lease in answer.leases:
            self.field("ID", lease)

    def watch(self, response: WatchResponse) -> None:
        self._header(response.header)
        for event in response.events:
            self.line(f'"Type" : {event.type}')
            if event.prev_kv:
                self._key_value("Prev", event.prev_kv)
            self._key_value("", event.kv)

    def watch_canceled(self, header: Header, _compact_revision: int) -> None:
        self._header(header)

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        for endpoint, header, status in results:
            self._header(header)
            self.field("Version", status.version)
            self.field("DBSize", status.db_size)
            self.field("Leader", status.leader)
            self.field("IsLearner", status.is_learner)
            self.field("RaftIndex", status.raft_index)
            self.field("RaftTerm", status.raft_term)
            self.field("RaftAppliedIndex", status.raft_applied_index)
            self.line(f'"Errors" : [{" ".join(status.errors)}]')
            self.field("Endpoint", endpoint)
            self.line()

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        for endpoint, took, error in results:
            self.field("Endpoint", endpoint)
            self.field("Health", not error)
            self.line(f'"Took" : {duration(took)}')
            self.line(f'"Error" : {error}')
            self.line()

    def endpoint_hashkv(self, results: Sequence[EndpointHash]) -> None:
        for endpoint, header, answer in results:
            self._header(header)
            self.field("Endpoint", endpoint)
            self.field("Hash", answer.hash)
            self.line()

    def _header(self, header: Header) -> None:
        self.field("ClusterID", header.cluster_id)
        self.field("MemberID", header.member_id)
        self.field("Revision", header.revision)
        self.field("RaftTerm", header.raft_term)

    def _key_value(self, prefix: str, kv: m.KeyValue) -> None:
        self.field(f"{prefix}Key", kv.key)
        self.field(f"{prefix}CreateRevision", kv.create_revision)
        self.field(f"{prefix}ModRevision", kv.mod_revision)
        self.field(f"{prefix}Version", kv.version)
        self.field(f"{prefix}Value", kv.value)
        self.field(f"{prefix}Lease", kv.lease)


class TablePrinter(Printer):
    """For what is a list of members or endpoints."""

    name = "table"

    def member_list(self, _header: Header, answer: m.MemberListAnswer) -> None:
        self._table(MEMBER_COLUMNS, member_rows(answer))

    def snapshot_status(self, summary: Summary, sha256: str, size: int) -> None:
        self._table(SNAPSHOT_COLUMNS, [snapshot_row(summary, sha256, size)])

    def quota(self, header: Header, quota: m.Quota, _done: str) -> None:
        self.quota_list(header, m.QuotaListAnswer((quota,)))

    def quota_list(self, _header: Header, answer: m.QuotaListAnswer) -> None:
        self._table(QUOTA_COLUMNS, [quota_row(quota, as_hex=self.as_hex) for quota in answer.quotas])

    def certificates(self, found: Sequence[CertificateFacts]) -> None:
        self._table(CERTIFICATE_COLUMNS, [facts.row() for facts in found])

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        self._table(STATUS_COLUMNS, status_rows(results))

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        rows = [[endpoint, _truth(not error), duration(took), error] for endpoint, took, error in results]
        self._table(HEALTH_COLUMNS, rows)

    def endpoint_hashkv(self, results: Sequence[EndpointHash]) -> None:
        self._table(HASH_COLUMNS, hash_rows(results))

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Titles stand in the middle, cells to the right."""
        widths = [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
        rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
        self.line(rule)
        titles = (
            " " * ((width - len(title)) // 2) + title + " " * ((width - len(title) + 1) // 2)
            for title, width in zip(columns, widths, strict=True)
        )
        self.line("| " + " | ".join(titles) + " |")
        self.line(rule)
        for row in rows:
            self.line("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        self.line(rule)


def with_inner_headers(header: Header, answer: m.TxnAnswer) -> Iterator[tuple[Header, m.TxnAnswerBody]]:
    """The answers inside a txn, each with the header that etcd gives it: the revision, and nothing else.

    A txn that changes something makes one revision; what ran before its first change still saw the one before.
    """
    unchanged = header.revision - changes(answer)
    changed = False
    for _op, each in answer.responses:
        changed = changed or changes(each)
        yield Header(0, 0, header.revision if changed else unchanged, 0), each


def changes(answer: m.TxnAnswerBody) -> bool:
    """Has what was answered so changed the store?"""
    if isinstance(answer, m.TxnAnswer):
        return any(changes(each) for _op, each in answer.responses)
    return isinstance(answer, m.PutAnswer) or (isinstance(answer, m.DeleteRangeAnswer) and answer.deleted > 0)


MEMBER_COLUMNS = ("ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER")
STATUS_COLUMNS = (
    "ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER", "IS LEARNER",
    "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "ERRORS",
)  # fmt: skip
SNAPSHOT_COLUMNS = ("HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE")
CERTIFICATE_COLUMNS = ("FILE", "SUBJECT", "ISSUER", "NAMES", "USAGE", "NOT AFTER", "DAYS LEFT", "FINGERPRINT")
HEALTH_COLUMNS = ("ENDPOINT", "HEALTH", "TOOK", "ERROR")
QUOTA_COLUMNS = ("PREFIX", "KEYS", "MAX KEYS", "BYTES", "MAX BYTES", "MAX REQUESTS/S", "STATE")
QUOTA_FIELDS = ("Prefix", "KeysMax", "BytesMax", "RequestsMax", "KeysUsed", "BytesUsed", "Counting")
HASH_COLUMNS = ("ENDPOINT", "HASH")


def member_rows(answer: m.MemberListAnswer) -> list[list[str]]:
    return [
        [
            f"{member.id:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peer_urls),
            ",".join(member.client_urls),
            _truth(member.is_learner),
        ]
        for member in answer.members
    ]


def status_rows(results: Sequence[EndpointStatus]) -> list[list[str]]:
    return [
        [
            endpoint,
            f"{header.member_id:x}",
            status.version,
            size(status.db_size),
            _truth(status.leader == header.member_id),
            _truth(status.is_learner),
            str(status.raft_term),
            str(status.raft_index),
            str(status.raft_applied_index),
            ", ".join(status.errors),
        ]
        for endpoint, header, status in results
    ]


def snapshot_row(summary: Summary, sha256: str, bytes_: int) -> list[str]:
    """The hash is the beginning of the file's SHA-256, as long as etcd's."""
    return [sha256[:8], str(summary.revision), str(summary.keys), size(bytes_)]


def quota_row(quota: m.Quota, *, as_hex: bool) -> list[str]:
    prefix = (hexadecimal(quota.prefix) if as_hex else quote(quota.prefix)[1:-1]) or '""'
    numbers = (quota.keys_used, quota.keys_max, quota.bytes_used, quota.bytes_max, quota.requests_max)
    limits = ["" if at % 2 and not number else str(number) for at, number in enumerate(numbers[:4])]
    return [prefix, *limits, str(quota.requests_max or ""), "counting" if quota.counting else "in force"]


def _used(used: int, most: int) -> str:
    return f"{used} of {most}" if most else str(used)


def hash_rows(results: Sequence[EndpointHash]) -> list[list[str]]:
    return [[endpoint, str(answer.hash)] for endpoint, _header, answer in results]


def hexadecimal(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def make_printer(name: str, out: IO[bytes], **options: Any) -> Printer:
    """The printer for `--write-out=name`.

    Raises CommandError.
    """
    if name == "json":
        from zkv.ctl.printer_json import JsonPrinter

        return JsonPrinter(out, **options)
    if name == "protobuf":
        raise CommandError("protobuf is not an output format of zkv: use --write-out=json", EXIT_BAD_FEATURE)
    for cls in (SimplePrinter, FieldsPrinter, TablePrinter):
        if cls.name == name:
            return cls(out, **options)
    raise CommandError("unsupported output format", EXIT_BAD_FEATURE)
