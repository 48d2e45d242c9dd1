"""A client of etcd's API by grpcio, which knows nothing of our HTTP/2: calls by their names, streams as iterators."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, Self

import grpc

from zkv.gateway.pb import rpc_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 30.0
UNARY: dict[str, tuple[str, Any, Any]] = {
    name: (f"/etcdserverpb.{service}/{name}", getattr(pb, f"{message}Request"), getattr(pb, f"{message}Response"))
    for service, names in {
        "KV": ("Range", "Put", "DeleteRange", "Txn", "Compact"),
        "Lease": ("LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"),
        "Cluster": ("MemberList",),
        "Maintenance": ("Status", "HashKV", "MoveLeader", "Alarm", "Defragment"),
        "Auth": ("Authenticate",),
    }.items()
    for name in names
    for message in ("Compaction" if name == "Compact" else name,)
}


class Chat:
    """A bidirectional call: `say` sends, `hear` waits for the next answer."""

    def __init__(self, call: Callable[..., Any], metadata: tuple[tuple[str, str], ...]) -> None:
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = call(self._sent(), timeout=PATIENCE_S, metadata=metadata)

    def _sent(self) -> Iterator[Any]:
        while (message := self._out.get()) is not None:
            yield message

    def say(self, message: Any) -> None:
        self._out.put(message)

    def hear(self) -> Any:
        """Raises grpc.RpcError, StopIteration at the end."""
        return next(self._call)

    def half_close(self) -> None:
        self._out.put(None)

    def cancel(self) -> None:
        self._out.put(None)
        self._call.cancel()


class EtcdApi:
    """`api.Put(key=b"a")` and its sisters answer with the response; `api.future("Put", ..)` at once, with a future."""

    def __init__(self, url: str) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # each on a connection of its own
        ]
        self.channel = grpc.insecure_channel(url.removeprefix("http://"), options=options)
        self._chats: list[Chat] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for chat in self._chats:
            chat.cancel()
        self.channel.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda timeout=PATIENCE_S, **fields: self.future(name, timeout, **fields).result()

    def future(self, name: str, /, timeout: float = PATIENCE_S, metadata: Any = (), **fields: Any) -> Any:
        path, request, response = UNARY[name]
        call = self.channel.unary_unary(path, request.SerializeToString, response.FromString)
        return call.future(request(**fields), timeout=timeout, metadata=metadata)

    def watch(self, *, metadata: tuple[tuple[str, str], ...] = ()) -> Chat:
        return self._chat("/etcdserverpb.Watch/Watch", pb.WatchRequest, pb.WatchResponse, metadata)

    def keep_alive(self) -> Chat:
        return self._chat("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse, ())

    def _chat(self, path: str, request: Any, response: Any, metadata: tuple[tuple[str, str], ...]) -> Chat:
        call = self.channel.stream_stream(path, request.SerializeToString, response.FromString)
        chat = Chat(call, metadata)
        self._chats.append(chat)
        return chat


def create(**fields: Any) -> pb.WatchRequest:
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(**fields))


def cancel(watch: int) -> pb.WatchRequest:
    return pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch))
