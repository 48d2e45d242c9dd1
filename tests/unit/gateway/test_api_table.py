"""The table of etcd's API in docs/ETCD.md says what is served: each rpc, each field, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.unit.gateway.test_grpc_desk import DeskWire
from zkv.gateway.grpc_desk import METHODS
from zkv.gateway.pb import election_pb2, health_pb2, lock_pb2, rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor

DOCUMENT = Path(__file__).parents[3] / "docs" / "ETCD.md"
FILES = (rpc_pb2, lock_pb2, election_pb2, health_pb2)


class Row(NamedTuple):
    service: str
    rpc: str
    asks: str
    answers: str
    remark: str


def _rows() -> list[Row]:
    table = DOCUMENT.read_text().partition("| service | rpc | asks |")[2].partition("\n\n")[0]
    rows = [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in table.splitlines()[2:]]
    for at, row in enumerate(rows):
        rows[at] = row._replace(service=row.service or rows[at - 1].service)
    return rows


def _methods() -> dict[tuple[str, str], MethodDescriptor]:
    services = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
    return {
        (service.full_name.removeprefix("etcdserverpb."), method.name): method
        for service in services
        for method in service.methods
    }


def _fields(message: Descriptor) -> list[str]:
    return [field.name for field in message.fields if field.name != "header"]


def _told(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", cell)))


def test_each_rpc_has_a_row_with_its_fields() -> None:
    rows = {(row.service, row.rpc): row for row in _rows()}
    assert rows.keys() == _methods().keys()
    for name, method in _methods().items():
        assert _told(rows[name].asks) == _fields(method.input_type), name
        assert _told(rows[name].answers) == _fields(method.output_type), name


def test_the_fields_of_every_message_are_told() -> None:
    """Also of those that are within others."""
    table = "".join(row.asks + row.answers for row in _rows())
    told = set(re.findall(r"`(\w+)`", table))
    met: set[str] = set()
    todo = [end for method in _methods().values() for end in (method.input_type, method.output_type)]
    while todo:
        message = todo.pop()
        if message.full_name not in met:
            met.add(message.full_name)
            assert message.name == "ResponseHeader" or set(_fields(message)) <= told, message.full_name
            todo += [field.message_type for field in message.fields if field.message_type is not None]


def test_each_rpc_of_the_table_is_served() -> None:
    """What is not is refused as UNIMPLEMENTED."""
    paths = {f"/{method.containing_service.full_name}/{method.name}".encode() for method in _methods().values()}
    assert paths == METHODS.keys()
    for path in sorted(paths):
        client = DeskWire()
        client.ask(1, path, b"")
        assert 1 not in client.answers or client.outcome(1)[0] != 12, path
    client = DeskWire()
    client.ask(1, b"/etcdserverpb.KV/Nothing", b"")
    assert client.outcome(1)[0] == 12
