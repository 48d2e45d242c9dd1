"""The judge of histories finds what is planted, and nothing where all is well."""

from __future__ import annotations

import pytest

from tests.harness.history import Asked, Change, Kind, Outcome, judge

A, B = b"a", b"b"
TAPE = [Change(2, A, b"1"), Change(3, A, b"2"), Change(4, B, b"3"), Change(5, A, None), Change(6, A, b"4")]


def told(kind: Kind, key: bytes, began: float, ended: float, revision: int, **fields: object) -> Asked:
    return Asked(kind, key, began, ended, Outcome.TOLD, revision=revision)._replace(**fields)  # type: ignore[arg-type]


PUT_1 = told(Kind.PUT, A, 0, 1, 2, value=b"1")
SWAP_2 = told(Kind.SWAP, A, 2, 3, 3, value=b"2", expected=b"1")
PUT_3 = Asked(Kind.PUT, B, 4, 9, Outcome.UNKNOWN, value=b"3")
DELETE = told(Kind.DELETE, A, 5, 6, 5)
PUT_4 = told(Kind.PUT, A, 7, 8, 6, value=b"4")
WELL = [PUT_1, SWAP_2, PUT_3, DELETE, PUT_4]


@pytest.mark.parametrize(
    "call",
    [
        told(Kind.READ, A, 2, 4, 2, found=b"1"),
        told(Kind.READ, A, 9, 10, 6, found=b"4"),
        told(Kind.READ, A, 6, 9, 5),
        told(Kind.SERIALIZABLE, A, 9, 10, 3, found=b"2"),
        told(Kind.SWAP, A, 6, 7, 5, value=b"x", expected=b"1", found=None, changed=False),
        told(Kind.DELETE, A, 6, 7, 5, changed=False),
        Asked(Kind.PUT, A, 9, 10, Outcome.UNKNOWN, value=b"never"),
        Asked(Kind.PUT, A, 9, 10, Outcome.REFUSED, value=b"never"),
        Asked(Kind.READ, A, 9, 10, Outcome.REFUSED),
    ],
)
def test_what_fits_is_not_found_fault_with(call: Asked) -> None:
    """Answers at any revision that real time allows, and what is not known."""
    assert judge(TAPE, [*WELL, call]) == []


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (told(Kind.READ, A, 9, 10, 5), "was asked when 6"),  # stale
        (told(Kind.READ, A, 9, 10, 6, found=b"2"), "does not fit"),
        (told(Kind.READ, A, 9, 10, 6), "does not fit"),
        (told(Kind.SERIALIZABLE, A, 9, 10, 3, found=b"1"), "does not fit"),
        (told(Kind.PUT, A, 9, 10, 7, value=b"lost"), "does not fit"),
        (told(Kind.PUT, B, 3, 4, 3, value=b"2"), "does not fit"),  # at another's revision
        (told(Kind.DELETE, B, 9, 10, 7), "does not fit"),  # lost
        (told(Kind.SWAP, A, 6, 7, 5, value=b"x", expected=b"9", found=b"2", changed=False), "does not fit"),
        (told(Kind.SWAP, A, 6, 9, 6, value=b"x", expected=b"4", found=b"4", changed=False), "does not fit"),
    ],
)
def test_an_answer_that_does_not_fit_is_found(call: Asked, fault: str) -> None:
    """Stale reads, lost writes, swaps that met something else."""
    assert fault in "".join(judge(TAPE, [*WELL, call]))


@pytest.mark.parametrize(
    ("tape", "calls", "fault"),
    [
        ([*TAPE, Change(7, A, b"4")], WELL, "made twice"),
        ([*TAPE, Change(7, A, b"9")], WELL, "asked by nobody"),
        ([*TAPE, Change(7, A, None)], WELL, "too often"),
        ([*TAPE, Change(6, B, None)], WELL, "goes back"),
        (TAPE, [*WELL[:2], PUT_3._replace(outcome=Outcome.REFUSED), *WELL[3:]], "refused, and made"),
        (TAPE, [*WELL[:2], PUT_3._replace(began=9), *WELL[3:]], "was asked when 6"),  # made before it was asked
        (TAPE, [PUT_1, SWAP_2._replace(expected=b"9"), *WELL[2:]], "does not fit"),
    ],
)
def test_a_tape_that_nobody_can_have_written_is_found(tape: list[Change], calls: list[Asked], fault: str) -> None:
    """Doubled writes, writes of nobody, and some from the future."""
    assert fault in "".join(judge(tape, calls))
