"""CURVE keys and their files, with pyzmq's own at the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from zkv.curve_keys import key_file, new_keys, public_of, raw, read_key_file, spelled

if TYPE_CHECKING:
    from pathlib import Path


@given(st.binary(min_size=32, max_size=32))
def test_keys_are_spelled_as_zeromq_spells_them(key: bytes) -> None:
    """And are read back."""
    assert spelled(key) == z85.encode(key)
    assert raw(spelled(key)) == key


@pytest.mark.parametrize("text", [b"", b"short", b"#" * 40, b"~" * 40, b"0" * 39 + b"\xff", b"0" * 45])
def test_what_is_no_key_has_no_raw_form(text: bytes) -> None:
    """Too short, too long, too large a number, or with a character that Z85 has not."""
    with pytest.raises(ValueError, match=r"."):
        raw(text)


def test_a_pair_belongs_together() -> None:
    """As libzmq would say."""
    public, secret = new_keys()
    assert public_of(secret) == public == zmq.curve_public(secret)


def test_files_are_read_by_either_side(tmp_path: Path) -> None:
    """What we write pyzmq reads, and what it writes we do."""
    ours = new_keys()
    (tmp_path / "ours").write_text(key_file("ours", *ours))
    assert zmq.auth.load_certificate(tmp_path / "ours") == ours == read_key_file(tmp_path / "ours")
    for theirs in zmq.auth.create_certificates(tmp_path, "theirs"):
        assert read_key_file(theirs) == zmq.auth.load_certificate(theirs)
