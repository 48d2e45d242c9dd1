"""What is answered to who asks whether a member is well."""

from __future__ import annotations

import json

import pytest

from zkv.core.health import Findings, health, livez, readyz, wanted
from zkv.errors import NoLeader, RequestTimeout
from zkv.wire.messages import AlarmType

WELL = Findings(("storage", "raft"), (), (), "", "")
NOSPACE = WELL._replace(alarms=((7, AlarmType.NOSPACE),))
CORRUPT = WELL._replace(alarms=((7, AlarmType.CORRUPT),))


def test_one_that_is_well_says_so_in_etcds_bytes() -> None:
    assert health(WELL, {}) == (200, '{"health":"true","reason":""}')


@pytest.mark.parametrize(
    ("findings", "reason"),
    [
        (NOSPACE, "ALARM NOSPACE"),
        (CORRUPT, "ALARM CORRUPT"),
        (WELL._replace(alarms=((7, 9),)), "ALARM UNKNOWN"),
        (WELL._replace(quorum=NoLeader.text), "RAFT NO LEADER"),
        (WELL._replace(quorum=RequestTimeout.text), f"RANGE ERROR:{RequestTimeout.text}"),
        (WELL._replace(local=RequestTimeout.text), f"RANGE ERROR:{RequestTimeout.text}"),
        (NOSPACE._replace(quorum=NoLeader.text), "ALARM NOSPACE"),
    ],
)
def test_one_that_is_not_says_why_as_etcd_does(findings: Findings, reason: str) -> None:
    status, body = health(findings, {})
    assert (status, json.loads(body)) == (503, {"health": "false", "reason": reason})
    assert body.endswith("\n")


def test_a_reason_with_quotes_is_json_all_the_same() -> None:
    body = health(WELL._replace(local='a "b" \\ c'), {}).body
    assert json.loads(body)["reason"] == 'RANGE ERROR:a "b" \\ c'


def test_an_alarm_that_is_excluded_does_not_count_and_another_does() -> None:
    query = {"exclude": ["NOSPACE", ""]}
    assert health(NOSPACE, query).status == 200
    assert health(CORRUPT, query).status == 503
    assert health(NOSPACE._replace(alarms=(*NOSPACE.alarms, *CORRUPT.alarms)), query).status == 503


def test_only_reads_that_the_question_is_about_are_made() -> None:
    assert wanted("/health", {}) == (True, True)
    assert wanted("/health", {"serializable": ["true"]}) == (True, False)
    assert wanted("/health", {"serializable": ["1"]}) == (True, True)
    assert wanted("/readyz", {"serializable": ["true"]}) == (True, True)
    assert wanted("/livez", {}) == (False, False)


def test_what_lives_is_live_though_no_read_works() -> None:
    findings = Findings(("storage", "raft"), (), NOSPACE.alarms, RequestTimeout.text, NoLeader.text)
    assert livez(findings, {}) == (200, "ok\n")


def test_a_silent_process_is_named() -> None:
    verdict = livez(WELL._replace(silent=("raft",)), {})
    assert verdict == (
        503,
        "[+]process_storage ok\n[-]process_raft failed: nothing was heard of it for too long\nnot ok\n",
    )


def test_a_member_that_is_ready_lists_its_checks_when_asked() -> None:
    assert readyz(WELL, {}) == (200, "ok\n")
    assert readyz(WELL, {"verbose": [""]}) == (
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
    )


def test_a_full_store_is_ready_and_a_corrupt_one_is_not() -> None:
    """Who reads and deletes is to come through."""
    assert readyz(NOSPACE, {}).status == 200
    assert readyz(CORRUPT, {}) == (
        503,
        (
            "[-]data_corruption failed: alarm activated: CORRUPT\n"
            "[+]serializable_read ok\n[+]linearizable_read ok\nnot ok\n"
        ),
    )


def test_a_check_that_is_excluded_does_not_count() -> None:
    findings = WELL._replace(quorum=NoLeader.text)
    assert readyz(findings, {}).status == 503
    assert readyz(findings, {"exclude": ["linearizable_read"], "verbose": [""]}) == (
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read excluded: ok\nok\n",
    )
