"""Requests over HTTP/1.1 to the door of etcd's JSON, and all that comes back, as text to be compared."""

from __future__ import annotations

import http.client
import re
from typing import NamedTuple

PATIENCE_S = 20.0
MASKS = [
    (re.compile(rb'"(cluster_id|member_id|ID|leader|lease)":"[1-9]\d{9,}"'), rb'"\1":"ID"'),
    (re.compile(rb'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":"\d+"'), rb'"\1":"N"'),
    (re.compile(rb'"(hash)":\d+'), rb'"\1":HASH'),
    (re.compile(rb'"version":"3[\d.]+"|"version":"0[\d.]+"'), b'"version":VERSION'),
    (re.compile(rb"(http|tcp)://"), b"SCHEME://"),
    (re.compile(rb"127\.0\.0\.1:\d\d+"), b"ADDRESS"),
    (re.compile(rb'"name":"[en]1"'), b'"name":NAME'),
    (re.compile(rb'"TTL":"4\d\d"'), b'"TTL":LEFT'),
    (re.compile(rb',"zkv":"[\w.+]+"'), b""),
    (re.compile(rb'"key":"[\w+/]{20,}=*"'), b'"key":KEY'),
]


class Ask(NamedTuple):
    """`lines`: of a stream, how many are waited for, and then it is left."""

    path: str
    body: bytes | None = b"{}"
    method: str = "POST"
    lines: int = 0
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path} {(self.body or b'')[:60]!r}"


def ask(endpoint: str, what: Ask) -> str:
    """Head and body, with what differs by nature masked."""
    connection = http.client.HTTPConnection(endpoint, timeout=PATIENCE_S)
    try:
        connection.request(what.method, what.path, what.body, dict(what.fields))
        answer = connection.getresponse()
        body = b"".join(answer.readline() for _ in range(what.lines)) if what.lines else answer.read()
    finally:
        connection.close()
    unlike = {"Date", "Content-Length"}
    fields = sorted(f"{name}: {'(some)' if name in unlike else value}" for name, value in answer.getheaders())
    head = [f"{answer.status} {answer.reason}", *fields]
    for mask, shown in MASKS:
        body = mask.sub(shown, body)
    return "\n".join((*head, "", body.decode()))
