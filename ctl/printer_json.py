"""`--write-out=json`: one line of JSON, with the fields, letter case and order of etcdctl's.

Those are what Go's encoding/json makes of etcd's protobuf structs, which explains what looks odd: fields with a zero
value are left out (except in `endpoint health` and `endpoint hashkv`'s own records), bytes are base64, `<`, `>` and `&`
are escaped, and `member list` spells `clientURLs`, but `clientURLS` with `--hex`.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any

from zkv.ctl.go_text import duration
from zkv.ctl.printers import EndpointHash, EndpointHealth, EndpointStatus, Printer, with_inner_headers
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zkv.client.ticket import Header
    from zkv.client.watch_events import WatchResponse
    from zkv.ctl.cert_facts import CertificateFacts
    from zkv.snapshot_file import Summary

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def _member(member: m.Member) -> dict[str, Any]:
    return _filled(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)


def _filled(**fields: Any) -> dict[str, Any]:
    """Go's omitempty."""
    return {name: value for name, value in fields.items() if value}


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _header(header: Header) -> dict[str, Any]:
    return _filled(
        cluster_id=header.cluster_id,
        member_id=header.member_id,
        revision=header.revision,
        raft_term=header.raft_term,
    )


def _key_value(kv: m.KeyValue) -> dict[str, Any]:
    return _filled(
        key=_base64(kv.key),
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        value=_base64(kv.value),
        lease=kv.lease,
    )


def _quota(quota: m.Quota) -> dict[str, Any]:
    return _filled(
        prefix=_base64(quota.prefix),
        keysMax=quota.keys_max,
        bytesMax=quota.bytes_max,
        requestsMax=quota.requests_max,
        keysUsed=quota.keys_used,
        bytesUsed=quota.bytes_used,
        counting=quota.counting,
    )


def _body(header: Header, answer: m.TxnAnswerBody) -> dict[str, Any]:
    fields: dict[str, Any] = {"header": _header(header)}
    if isinstance(answer, m.PutAnswer):
        fields |= _filled(prev_kv=answer.prev_kv and _key_value(answer.prev_kv), lease=answer.lease)
    elif isinstance(answer, m.RangeAnswer):
        fields |= _filled(kvs=[_key_value(kv) for kv in answer.kvs], more=answer.more, count=answer.count)
    elif isinstance(answer, m.DeleteRangeAnswer):
        fields |= _filled(deleted=answer.deleted, prev_kvs=[_key_value(kv) for kv in answer.prev_kvs])
    else:
        responses = [
            {"Response": {_RESPONSES[type(each)]: _body(inner, each)}}
            for inner, each in with_inner_headers(header, answer)
        ]
        fields |= _filled(succeeded=answer.succeeded, responses=responses)
    return fields


_RESPONSES: dict[type, str] = {
    m.RangeAnswer: "response_range",
    m.PutAnswer: "response_put",
    m.DeleteRangeAnswer: "response_delete_range",
    m.TxnAnswer: "response_txn",
}


class JsonPrinter(Printer):
    name = "json"

    def put(self, header: Header, answer: m.PutAnswer) -> None:
        self.line(dumps(_body(header, answer)))

    def range(self, header: Header, chunks: Iterable[m.RangeAnswer]) -> None:
        """Written piece by piece, so that no more than a chunk is held."""
        write = self._out.write
        write(b'{"header":' + dumps(_header(header)).encode())
        before = b',"kvs":['
        last = m.RangeAnswer((), more=False, count=0)
        for last in chunks:
            for kv in last.kvs:
                write(before + dumps(_key_value(kv)).encode())
                before = b","
        if before == b",":
            write(b"]")
        rest = _filled(more=last.more, count=last.count)
        write(b"".join(f",{dumps(name)}:{dumps(value)}".encode() for name, value in rest.items()) + b"}\n")

    def delete_range(self, header: Header, answer: m.DeleteRangeAnswer) -> None:
        self.line(dumps(_body(header, answer)))

    def txn(self, header: Header, answer: m.TxnAnswer) -> None:
        self.line(dumps(_body(header, answer)))

    def member_list(self, header: Header, answer: m.MemberListAnswer) -> None:
        """The header of a member list has no revision."""
        head = _header(header._replace(revision=0))
        if self.as_hex:
            head |= {name: f"{head[name]:x}" for name in ("cluster_id", "member_id") if name in head}
            members = [
                {
                    "ID": f"{member.id:x}",
                    "name": member.name,
                    "peerURLs": member.peer_urls,
                    "clientURLS": member.client_urls or None,
                }
                for member in answer.members
            ]
        else:
            members = [_member(member) for member in answer.members]
        self.line(dumps({"header": head, "members": members}))

    def member_add(self, header: Header, answer: m.MemberAddAnswer) -> None:
        members = [_member(member) for member in answer.members]
        head = _header(header._replace(revision=0))
        self.line(dumps({"header": head, "member": _member(answer.member), "members": members}))

    def member_change(self, header: Header, answer: m.MembersAnswer, _member_id: int, _done: str) -> None:
        members = [_member(member) for member in answer.members]
        self.line(dumps({"header": _header(header._replace(revision=0)), "members": members}))

    def alarms(self, header: Header, answer: m.AlarmAnswer) -> None:
        alarms = [{"memberID": member, "alarm": alarm} for member, alarm in answer.alarms]
        self.line(dumps({"header": _header(header), **_filled(alarms=alarms)}))

    def auth_changed(self, header: Header, _done: str | bytes) -> None:
        self.line(dumps({"header": _header(header)}))

    def auth_status(self, header: Header, answer: m.AuthStatusAnswer) -> None:
        told = _filled(enabled=answer.enabled, authRevision=answer.revision)
        self.line(dumps({"header": _header(header), **told}))

    def user_get(self, header: Header, _name: str, answer: m.UserGetAnswer) -> None:
        self.line(dumps({"header": _header(header), **_filled(roles=answer.roles)}))

    def user_list(self, header: Header, answer: m.UserListAnswer) -> None:
        self.line(dumps({"header": _header(header), **_filled(users=answer.users)}))

    def role_get(self, header: Header, _name: str, answer: m.RoleGetAnswer) -> None:
        permissions = [
            _filled(permType=kind, key=_base64(key), range_end=_base64(end)) for kind, key, end in answer.permissions
        ]
        self.line(dumps({"header": _header(header), **_filled(perm=permissions)}))

    def role_list(self, header: Header, answer: m.RoleListAnswer) -> None:
        self.line(dumps({"header": _header(header), **_filled(roles=answer.roles)}))

    def quota(self, header: Header, quota: m.Quota, _done: str) -> None:
        self.line(dumps({"header": _header(header), "quota": _quota(quota)}))

    def quota_list(self, header: Header, answer: m.QuotaListAnswer) -> None:
        quotas = [_quota(quota) for quota in answer.quotas]
        self.line(dumps({"header": _header(header), **_filled(quotas=quotas)}))

    def snapshot_status(self, summary: Summary, sha256: str, size: int) -> None:
        """As etcdutl, and the whole digest."""
        told = {"hash": int(sha256[:8], 16), "revision": summary.revision, "totalKey": summary.keys, "totalSize": size}
        self.line(dumps({**told, "sha256": sha256}))

    def lease_grant(self, header: Header, answer: m.LeaseGrantAnswer) -> None:
        self.line(dumps({**_header(header), "ID": answer.id, "TTL": answer.ttl, "Error": ""}))

    def lease_revoke(self, header: Header, _lease: int) -> None:
        self.line(dumps({"header": _header(header)}))

    def lease_keep_alive(self, header: Header, answer: m.LeaseKeepAliveAnswer) -> None:
        self.line(dumps({**_header(header), "ID": answer.id, "TTL": answer.ttl}))

    def lease_time_to_live(self, header: Header, answer: m.LeaseTimeToLiveAnswer, *, keys: bool) -> None:  # noqa: ARG002
        fields = {
            "id": answer.id,
            "ttl": answer.ttl,
            "granted-ttl": answer.granted_ttl,
            "keys": [_base64(key) for key in answer.keys] or None,
        }
        self.line(dumps(_header(header) | fields))

    def lease_list(self, header: Header, answer: m.LeaseListAnswer) -> None:
        self.line(dumps({**_header(header), "leases": [{"id": lease} for lease in answer.leases]}))

    def watch(self, response: WatchResponse) -> None:
        events = [
            _filled(
                type=1 if event.type == "DELETE" else 0,
                kv=_key_value(event.kv),
                prev_kv=event.prev_kv and _key_value(event.prev_kv),
            )
            for event in response.events
        ]
        self._watch(response.header, events)

    def watch_canceled(self, header: Header, compact_revision: int) -> None:
        self._watch(header, [], compact_revision, canceled=True)

    def _watch(
        self, header: Header, events: list[dict[str, Any]], compact_revision: int = 0, *, canceled: bool = False
    ) -> None:
        fields = {"Events": events, "CompactRevision": compact_revision, "Canceled": canceled, "Created": False}
        self.line(dumps({"Header": _header(header), **fields}))

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        self.line(
            dumps(
                [
                    {"Endpoint": endpoint, "Status": {"header": _header(header), **_status(status)}}
                    for endpoint, header, status in results
                ]
            )
        )

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        self.line(
            dumps(
                [
                    {"endpoint": endpoint, "health": not error, "took": duration(took), **_filled(error=error)}
                    for endpoint, took, error in results
                ]
            )
        )

    def certificates(self, found: Sequence[CertificateFacts]) -> None:
        self.line(dumps([facts._asdict() for facts in found]))

    def told(self, _lines: Sequence[str], facts: Mapping[str, Any]) -> None:
        self.line(dumps(facts))
        self._out.flush()

    def endpoint_hashkv(self, results: Sequence[EndpointHash]) -> None:
        self.line(
            dumps(
                [
                    {
                        "Endpoint": endpoint,
                        "HashKV": {
                            "header": _header(header),
                            **_filled(hash=answer.hash, compact_revision=answer.compact_revision),
                        },
                    }
                    for endpoint, header, answer in results
                ]
            )
        )


def _status(status: m.StatusAnswer) -> dict[str, Any]:
    return _filled(
        version=status.version,
        dbSize=status.db_size,
        leader=status.leader,
        raftIndex=status.raft_index,
        raftTerm=status.raft_term,
        raftAppliedIndex=status.raft_applied_index,
        errors=status.errors,
        dbSizeInUse=status.db_size_in_use,
        isLearner=status.is_learner,
    )
