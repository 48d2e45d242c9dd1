"""What a state machine makes of logs that hold anything: a line per seed, the same from compiled and interpreted code.

python -m tests.compiled.log_play FIRST LAST
"""

from __future__ import annotations

import hashlib
import sys
from random import Random

from tests.harness.kv_log import entry, everything, group, machine
from tests.unit.core.mvcc.test_hostile_log import hostile_group
from zkv.version import is_compiled
from zkv.wire import messages as m

ENTRIES = 60
GROUPS_MAX = 3


def digest(seed: int) -> str:
    """Of all that is answered, and of all that is held in the end."""
    chance = Random(seed)
    of = machine()
    sha = hashlib.sha256()
    for index in range(1, ENTRIES + 1):
        groups = [hostile_group(chance) for _ in range(chance.randint(1, GROUPS_MAX))]
        if index == 1 and seed % 2:
            groups = [group(m.UserAdd("root"), m.RoleAdd("root"), m.UserGrantRole("root", "root"), m.AuthEnable())]
        outcome = of.apply([entry(index, *groups, time=index)], 1)
        for answered in outcome.answers:
            fields = answered.incarnation, answered.gid, answered.answers, answered.compaction
            sha.update(repr(fields).encode())
    for key, value in everything(of.engine):
        sha.update(b"%d %d %s%s" % (len(key), len(value), key, value))
    return sha.hexdigest()


def main() -> int:
    first, last = map(int, sys.argv[1:])
    print("compiled" if is_compiled() else "interpreted")
    for seed in range(first, last):
        print(seed, digest(seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
