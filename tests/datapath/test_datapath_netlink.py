"""Dumps as the kernel answers them, and what is made of broken ones."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from trafficmond.datapath.netlink import asking, attributes, dump
from trafficmond.errors import DatapathError

OPEN = Path("/proc/self/fd")
GETLINK, NO_SUCH_REQUEST = 18, 126


def test_a_dump_has_every_message_of_the_answer() -> None:
    names = {attributes(message[16:])[3].rstrip(b"\0").decode() for message in dump(0, GETLINK, bytes(16))}
    assert names == {name for _, name in socket.if_nameindex()}


def test_who_has_heard_enough_stops_listening() -> None:
    before = len(list(OPEN.iterdir()))
    for _ in dump(0, GETLINK, bytes(16)):
        break
    assert len(list(OPEN.iterdir())) == before


def test_what_the_kernel_refuses_is_said() -> None:
    with pytest.raises(DatapathError, match=r"^cannot ask this: .*; allow AF_NETLINK sockets$"), asking("ask this"):
        list(dump(0, NO_SUCH_REQUEST, b""))
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):  # strictly: a request of another length
        list(dump(0, GETLINK, b"\0", strict=True))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", {}),
        (b"\x05\0\x01\0x", {1: b"x"}),
        (b"\x05\0\x01\0x\0\0\0\x04\0\x02\x80", {1: b"x", 2: b""}),
        (b"\x05\0\x01\0x\0\0\0\x02\0\x02\0", {1: b"x"}),  # shorter than itself: no end without a check
        (b"\x05\0\x01", {}),
        (struct.pack("=HH", 9999, 7) + b"cut", {7: b"cut"}),
    ],
)
def test_attributes_end_where_their_octets_do(octets: bytes, expected: dict[int, bytes]) -> None:
    assert attributes(octets) == expected
