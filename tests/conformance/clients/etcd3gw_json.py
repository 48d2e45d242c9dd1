"""etcd3gw (JSON by grpc-gateway, synchronous): a walk through all that it can."""

from __future__ import annotations

import sys

import etcd3gw

host, _, port = sys.argv[1].rpartition(":")
client = etcd3gw.client(host=host, port=int(port), api_path="/v3/", timeout=20)

assert client.status()["version"]
assert client.put("kg", "1")
assert client.get("kg") == [b"1"]
assert client.get("none") == []
for at in range(5):
    client.put(f"pg/{at}", str(at))
found = client.get_prefix("pg/", sort_order="descend", sort_target="key")
assert [value for value, _ in found] == [b"4", b"3", b"2", b"1", b"0"]
assert len(client.get_all()) >= 6
assert client.create("new", "x")
assert not client.create("new", "y")
assert client.replace("kg", "1", "2")
assert not client.replace("kg", "1", "3")
assert client.delete("new")
assert client.delete_prefix("pg/")

lease = client.lease(60)
assert client.put("leased", "x", lease)
assert lease.refresh() == 60
assert lease.ttl() > 50
assert lease.keys() == [b"leased"]
assert lease.revoke()
assert client.get("leased") == []

events, cancel = client.watch_prefix("w/")
client.put("w/a", "1")
client.delete("w/a")
kinds = []
for event in events:
    kinds.append((event.get("type", "PUT"), event["kv"]["key"]))
    if len(kinds) == 2:
        cancel()
        break
assert kinds == [("PUT", b"w/a"), ("DELETE", b"w/a")], kinds

lock = client.lock("l/json", ttl=20)
assert lock.acquire()
assert lock.is_acquired()
assert not client.lock("l/json", ttl=20).acquire()
assert lock.release()
print("done")
