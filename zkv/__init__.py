"""zkv: a strongly consistent, replicated key-value store with etcd v3 semantics.

    import zkv

    with zkv.Client(["tcp://127.0.0.1:2378"]) as kv:
        kv.put("a", "1")
        print(kv.get("a").value)

Names are resolved when first used, so that a program pays only for what it needs.
"""
