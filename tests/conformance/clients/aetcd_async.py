"""aetcd (gRPC, asyncio): a walk through all that it can."""

from __future__ import annotations

import asyncio
import sys

import aetcd


async def main(host: str, port: int) -> None:
    async with aetcd.Client(host=host, port=port, timeout=20) as client:
        await client.put(b"k", b"1")
        found = await client.get(b"k")
        assert found is not None
        assert found.value == b"1"
        assert await client.get(b"none") is None
        await asyncio.gather(*(client.put(b"pa/%d" % at, b"%d" % at) for at in range(20)))
        assert len(list(await client.get_prefix(b"pa/"))) == 20
        assert len(list(await client.get_range(b"pa/1", b"pa/2"))) == 11
        assert await client.replace(b"k", b"1", b"2")
        assert not await client.replace(b"k", b"1", b"3")
        assert await client.delete(b"k", prev_kv=True)
        done, _ = await client.transaction(
            compare=[client.transactions.version(b"ta") == 0],
            success=[client.transactions.put(b"ta", b"yes")],
            failure=[client.transactions.put(b"ta", b"no")],
        )
        assert done
        lease = await client.lease(60)
        await client.put(b"leased", b"x", lease=lease)
        assert await lease.remaining_ttl() > 50
        await lease.refresh()
        await lease.revoke()
        assert await client.get(b"leased") is None
        watch = await client.watch_prefix(b"w/")
        await client.put(b"w/a", b"1")
        await client.delete(b"w/a")
        kinds = []
        async for event in watch:
            kinds.append((str(event.kind), event.kv.key))
            if len(kinds) == 2:
                break
        await watch.cancel()
        assert kinds == [("PUT", b"w/a"), ("DELETE", b"w/a")], kinds
        async with client.lock(b"l/async", ttl=20) as lock:
            assert await lock.is_acquired()
        status = await client.status()
        assert status.leader is not None
        await client.compact((await client.put(b"c", b"1")).header.revision)
        await client.defragment()
    print("done")


host, _, port = sys.argv[1].rpartition(":")
asyncio.run(main(host, int(port)))
