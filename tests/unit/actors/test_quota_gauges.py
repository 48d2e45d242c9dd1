"""What is told of prefix policies: a bounded number of them, by names that metrics can bear."""

from __future__ import annotations

from tests.harness.kv_log import Feeder
from zkv.actors.insight_metrics import render
from zkv.actors.quota_gauges import TOLD_MAX, quota_gauges
from zkv.wire import messages as m
from zkv.wire.mail import Gauges


def test_usage_limits_and_refusals_of_a_prefix_are_metrics() -> None:
    feeder = Feeder()
    feeder.ask(m.QuotaSet(b'a|"\n\xff', keys_max=1), m.Put(b'a|"\n\xff1', b"value"))
    feeder.ask(m.Put(b'a|"\n\xff2', b""))
    gauges = Gauges("storage", 1, tuple(quota_gauges(feeder.machine.store.quotas)))
    shown = render({"storage": gauges}, {}).decode()
    name = r'{prefix="a\\x7c\"\n\\xff"}'
    for line in (
        "zkv_quota_keys%s 1.0",
        "zkv_quota_keys_max%s 1.0",
        "zkv_quota_bytes%s 11.0",
        "zkv_quota_refused_total%s 1.0",
    ):
        assert line % name in shown, line


def test_no_more_policies_are_told_of_than_metrics_can_bear() -> None:
    feeder = Feeder()
    feeder.ask(*(m.QuotaSet(b"p%04d" % at, keys_max=1) for at in range(TOLD_MAX + 5)))
    told = list(quota_gauges(feeder.machine.store.quotas))
    assert len({prefix for _, prefix, _ in told}) == TOLD_MAX
