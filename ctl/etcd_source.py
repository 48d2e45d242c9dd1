"""A live etcd to copy from, by grpcio, which is imported here and nowhere else.

Our own HTTP/2 is a server's half, hardened for strangers; what a client needs beyond (TLS, reconnecting, keep-alive) is
what grpcio is good at, and its price per call does not count where a call brings a page of keys. It weighs as
much as all else that zkv depends on, so it comes with an extra: `pip install 'zkv[migrate]'`.

Errors of the source are SourceError; Compacted, for a revision that is gone; Unreachable, which passes: whoever calls
tries again, at another endpoint.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Final

from zkv.client.ops import key_range
from zkv.ctl.options import CommandError
from zkv.gateway.pb import rpc_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

PAGE_BYTES: Final = 4 << 20
"""What a page is meant to hold: its count of keys goes by what the last one held. (etcd counts all keys behind a page
with each, so many small ones would be slow.)"""
PAGE_KEYS_MAX: Final = 10_000
MESSAGE_BYTES_MAX: Final = 64 << 20
"""A page beyond this is asked for again, with fewer keys."""
RESPONSES_QUEUED_MAX: Final = 8
CALL_S: Final = 10.0
_COMPACTED: Final = "required revision has been compacted"
_BAD_TOKEN: Final = "invalid auth token"  # noqa: S105 - etcd's sentence
_PASSING: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class SourceError(CommandError):
    """The source says no."""


class Compacted(SourceError):
    """The source has forgotten the revision asked for."""


class Unreachable(SourceError):
    """The source does not answer, for now."""


class Credentials:
    """How to get in: files of certificates, and who we are. `user` "" : nobody in particular."""

    def __init__(self, *, cacert: Path | None, cert: Path | None, key: Path | None, user: str, password: str) -> None:
        self.tls = tuple(path.read_bytes() if path else None for path in (cacert, key, cert))
        self.user = user
        self.password = password


class EtcdSource:
    """One etcd cluster, and of it the keys in [key, range_end). One thread calls; raises SourceError."""

    def __init__(self, urls: tuple[str, ...], credentials: Credentials, prefix: bytes, dial_s: float) -> None:
        try:
            import grpc
        except ImportError:
            raise CommandError("reading from etcd needs grpcio: pip install 'zkv[migrate]'") from None
        self._grpc = grpc
        self._urls = urls
        self._credentials = credentials
        self._dial_s = dial_s
        self._at = -1
        self._channel: Any = None
        self._token: tuple[tuple[str, str], ...] = ()
        self._page_keys = 64
        self.key, self.range_end = key_range(None, prefix=prefix)
        self.cluster_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel is not None:
            self._channel.close()

    # --- keys ---

    def revision(self) -> int:
        """The newest, read linearizably."""
        asked = pb.RangeRequest(key=self.key, count_only=True)
        return int(self._noted(self._call("KV/Range", asked, pb.RangeResponse)).header.revision)

    def count(self, revision: int) -> int:
        asked = pb.RangeRequest(key=self.key, range_end=self.range_end, revision=revision, count_only=True)
        return int(self._call("KV/Range", asked, pb.RangeResponse).count)

    def keys(self, revision: int, after: bytes | None) -> Iterator[list[Any]]:
        """The keys behind `after` as of `revision`, page by page."""
        start = self.key if after is None else after + b"\0"
        while True:
            page = self._page(start, revision)
            kvs = list(page.kvs)
            if kvs:
                size = page.ByteSize()
                self._page_keys = max(1, min(PAGE_KEYS_MAX, len(kvs) * PAGE_BYTES // size, 4 * self._page_keys))
                start = kvs[-1].key + b"\0"
                yield kvs
            if not page.more:
                return

    def _page(self, start: bytes, revision: int) -> Any:
        while True:
            asked = pb.RangeRequest(key=start, range_end=self.range_end, revision=revision, limit=self._page_keys)
            try:
                return self._call("KV/Range", asked, pb.RangeResponse)
            except SourceError as error:
                if "larger than max" not in error.text or self._page_keys == 1:
                    raise
                self._page_keys = max(1, self._page_keys // 16)

    def watch(self, revision: int) -> WatchStream:
        """What happens from `revision` on."""
        call = self._method("Watch/Watch", pb.WatchRequest, pb.WatchResponse, streams=True)
        create = pb.WatchCreateRequest(
            key=self.key, range_end=self.range_end, start_revision=revision, fragment=True, progress_notify=True
        )
        return WatchStream(self, call, self._token, pb.WatchRequest(create_request=create))

    # --- leases ---

    def leases(self) -> list[int]:
        return [
            lease.ID
            for lease in self._call("Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse).leases
        ]

    def time_to_live(self, lease: int, *, keys: bool = False) -> Any:
        """Its TTL is below 1 if there is none."""
        return self._call(
            "Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=lease, keys=keys), pb.LeaseTimeToLiveResponse
        )

    # --- users ---

    def roles(self) -> dict[str, list[Any]]:
        """Each with its permissions."""
        names = self._call("Auth/RoleList", pb.AuthRoleListRequest(), pb.AuthRoleListResponse).roles
        asked = (pb.AuthRoleGetRequest(role=name) for name in names)
        return {each.role: list(self._call("Auth/RoleGet", each, pb.AuthRoleGetResponse).perm) for each in asked}

    def users(self) -> dict[str, list[str]]:
        """Each with the names of its roles."""
        names = self._call("Auth/UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse).users
        asked = (pb.AuthUserGetRequest(name=name) for name in names)
        return {each.name: list(self._call("Auth/UserGet", each, pb.AuthUserGetResponse).roles) for each in asked}

    # --- calls ---

    def _noted(self, answer: Any) -> Any:
        if self.cluster_id not in {0, answer.header.cluster_id}:
            raise SourceError("the endpoints of --from are not of one cluster")
        self.cluster_id = answer.header.cluster_id
        return answer

    def _call(self, path: str, request: Any, answer: Any) -> Any:
        """At whichever endpoint answers. Raises SourceError."""
        for tried in range(len(self._urls) + 1):
            try:
                method = self._method(path, type(request), answer)
                try:
                    return method(request, timeout=CALL_S, metadata=self._token)
                except self._grpc.RpcError as error:
                    raise self.explained(error) from None
            except Unreachable:
                self.drop()
                if tried == len(self._urls):
                    raise
            except SourceError as error:
                if _BAD_TOKEN not in error.text or tried == len(self._urls):
                    raise
                self._authenticate()
        raise AssertionError("the last try has raised")

    def _method(self, path: str, request: Any, answer: Any, *, streams: bool = False) -> Any:
        if self._channel is None:
            self._connect()
        make = self._channel.stream_stream if streams else self._channel.unary_unary
        return make(
            f"/etcdserverpb.{path}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )

    def _connect(self) -> None:
        grpc = self._grpc
        self._at = (self._at + 1) % len(self._urls)
        url = self._urls[self._at]
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.keepalive_time_ms", 30_000)]
        scheme, _, address = url.rpartition("://")
        if scheme == "https" or any(self._credentials.tls):
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*self._credentials.tls), options)
        else:
            channel = grpc.insecure_channel(address, options)
        try:
            grpc.channel_ready_future(channel).result(self._dial_s)
        except grpc.FutureTimeoutError:
            channel.close()
            raise Unreachable(f"no connection to etcd at {url} within {self._dial_s:g}s (see --from)") from None
        self._channel = channel
        self._token = ()
        if self._credentials.user:
            self._authenticate()

    def _authenticate(self) -> None:
        asked = pb.AuthenticateRequest(name=self._credentials.user, password=self._credentials.password)
        method = self._method("Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse)
        try:
            self._token = (("token", method(asked, timeout=CALL_S).token),)
        except self._grpc.RpcError as error:
            raise self.explained(error) from None

    def drop(self) -> None:
        """Go on at another endpoint, or with another connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def explained(self, error: Any) -> SourceError:
        name, details = error.code().name, error.details() or ""
        text = f"etcd at {self._urls[self._at]}: {details}"
        if _COMPACTED in details:
            return Compacted(text)
        return Unreachable(text) if name in _PASSING else SourceError(text)


class WatchStream:
    """Responses as they come: a thread of its own reads them, and waits while nobody takes them."""

    def __init__(self, source: EtcdSource, call: Any, metadata: Any, first: Any) -> None:
        self._source = source
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._said.put(first)
        self._heard: queue.Queue[Any] = queue.Queue(RESPONSES_QUEUED_MAX)
        self._over = threading.Event()
        self._call = call(iter(self._said.get, None), metadata=metadata)
        self._thread = threading.Thread(target=self._read, name="etcd-watch", daemon=True)
        self._thread.start()

    def ask_progress(self) -> None:
        self._said.put(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def next(self, seconds: float) -> Any:
        """The next response; None if there is none for so long. Raises SourceError."""
        try:
            heard = self._heard.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(heard, Exception):
            raise heard
        if heard.compact_revision:
            raise Compacted(_COMPACTED)
        if heard.canceled:
            raise SourceError(f"etcd has cancelled the watch: {heard.cancel_reason}")
        return heard

    def close(self) -> None:
        self._over.set()
        self._said.put(None)
        self._call.cancel()
        self._thread.join()

    def _read(self) -> None:
        error: Exception = Unreachable("etcd has ended the watch")
        try:
            for response in self._call:
                self._put(response)
        except self._source._grpc.RpcError as failed:  # noqa: SLF001 - two halves of one thing
            error = self._source.explained(failed)
        self._put(error)

    def _put(self, heard: Any) -> None:
        while not self._over.is_set():
            try:
                self._heard.put(heard, timeout=0.2)
            except queue.Full:
                continue
            return
