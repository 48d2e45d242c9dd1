"""The boxes that CURVE is made of; handshakes and messages are tried with libzmq (test_zmtp_with_libzmq.py)."""

from __future__ import annotations

import os

import pytest
from nacl import bindings

from zkv import curve
from zkv.curve import NotCurve

NONCE, SHARED = bytes(range(24)), bytes(range(32))


@pytest.mark.parametrize("size", [0, 1, 33, 300, 70_000])
def test_boxes_are_those_of_pynacl_s_own_functions(size: int) -> None:
    """Which are passed by for what they cost."""
    payload = os.urandom(size)
    box = curve._seal(payload, NONCE, SHARED)
    assert box == bindings.crypto_box_easy_afternm(payload, NONCE, SHARED)
    assert curve._open(box, NONCE, SHARED) == payload
    assert type(box) is bytes
    assert (b"", bytes(1)) == (bytes(bytearray()), bytes(bytearray(1))), "what is written to is nobody else's"


@pytest.mark.parametrize("box", [b"", bytes(15), bytes(16), bytes(300)])
def test_what_nobody_has_sealed_is_not_opened(box: bytes) -> None:
    with pytest.raises(NotCurve):
        curve._open(box, NONCE, SHARED)


def test_a_box_that_was_changed_is_not_opened() -> None:
    """In any of its bytes; nor by another key, or under another number."""
    box = curve._seal(b"payload", NONCE, SHARED)
    for at in range(len(box)):
        with pytest.raises(NotCurve):
            curve._open(box[:at] + bytes((box[at] ^ 1,)) + box[at + 1 :], NONCE, SHARED)
    for nonce, shared in ((NONCE[::-1], SHARED), (NONCE, SHARED[::-1])):
        with pytest.raises(NotCurve):
            curve._open(box, nonce, shared)


@pytest.mark.parametrize(("nonce", "shared"), [(NONCE[1:], SHARED), (NONCE, SHARED[1:])])
def test_libsodium_reads_nothing_beyond_a_key_or_a_nonce(nonce: bytes, shared: bytes) -> None:
    with pytest.raises(AssertionError):
        curve._seal(b"payload", nonce, shared)
    with pytest.raises(AssertionError):
        curve._open(bytes(40), nonce, shared)
