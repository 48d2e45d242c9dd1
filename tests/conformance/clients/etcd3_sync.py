"""python-etcd3 (gRPC, synchronous), by its fork that is kept: a walk through all that it can."""

from __future__ import annotations

import sys
import tempfile
import threading

import etcd3

host, _, port = sys.argv[1].rpartition(":")
client = etcd3.client(host=host, port=int(port), timeout=20)

client.put("k", "1")
value, meta = client.get("k")
assert (value, meta.version) == (b"1", 1), meta
assert client.get("none") == (None, None)
for at in range(5):
    client.put(f"p/{at}", str(at))
found = client.get_prefix("p/", sort_order="descend", sort_target="key")
assert [value for value, _ in found] == [b"4", b"3", b"2", b"1", b"0"]
assert len(list(client.get_range("p/1", "p/4"))) == 3
assert client.put("k", "2", prev_kv=True).prev_kv.value == b"1"
assert client.replace("k", "2", "3")
assert not client.replace("k", "2", "4")
assert client.put_if_not_exists("new", "x")
assert not client.put_if_not_exists("new", "y")
assert client.delete("new")
assert not client.delete("new")

done, answers = client.transaction(
    compare=[client.transactions.value("k") == "3", client.transactions.version("k") > 0],
    success=[client.transactions.put("t", "yes"), client.transactions.get("k")],
    failure=[client.transactions.put("t", "no")],
)
assert done, answers

lease = client.lease(60)
client.put("leased", "x", lease=lease)
assert [each.TTL for each in lease.refresh()] == [60]
assert lease.granted_ttl == 60
assert lease.keys == [b"leased"]
lease.revoke()
assert client.get("leased") == (None, None)

events, cancel = client.watch_prefix("w/")
seen: list[tuple[str, bytes, bytes]] = []


def watch() -> None:
    for event in events:
        seen.append((type(event).__name__, event.key, event.value))
        if len(seen) == 2:
            cancel()


watcher = threading.Thread(target=watch)
watcher.start()
client.put("w/a", "1")
client.delete("w/a")
watcher.join(20)
assert seen == [("PutEvent", b"w/a", b"1"), ("DeleteEvent", b"w/a", b"")], seen

with client.lock("l/sync", ttl=20) as lock:
    assert lock.is_acquired()
    assert not client.lock("l/sync", ttl=20).acquire(timeout=1)
assert client.lock("l/sync", ttl=20).acquire(timeout=5)

status = client.status()
assert status.leader is not None
assert status.db_size >= 0
assert len(list(client.members)) == 1
assert not list(client.list_alarms())
client.hash()
client.compact(client.get("k")[1].mod_revision)
client.defragment()
with tempfile.TemporaryFile() as file:
    client.snapshot(file)
    assert file.tell() % 512 == 32
client.close()
print("done")
