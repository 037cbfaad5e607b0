"""Answers of DNS, read in C and by a referee in plain Python; and the ring that they come in."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import numpy as np
import pytest
from dns_referee import Unreadable, answered
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trafficmond.datapath.names_seen import NAMED, AnswerReader
from trafficmond.flows import compiled

MOST = 128
A, NS, CNAME, AAAA = 1, 2, 5, 28


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".") if label) + b"\0"


def asking(name: str, kind: int = A, group: int = 1) -> bytes:
    return encoded(name) + struct.pack(">HH", kind, group)


def record(owner: bytes, kind: int, data: bytes, group: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", kind, group, 60, len(data)) + data


def answer(question: bytes, *records: bytes, flags: int = 0x8180) -> bytes:
    return struct.pack(">6H", 7, flags, 1, len(records), 0, 0) + question + b"".join(records)


def four(text: str) -> bytes:
    return socket.inet_aton(text)


def read(asked: bytes, message: bytes) -> list[tuple[str, str]] | None:
    """What the C finds, None for what is unreadable. The bytes end where their memory does."""
    rows = np.full(MOST, b"\xff" * NAMED.itemsize, f"V{NAMED.itemsize}").view(NAMED)
    count = compiled.library().tm_dns_read_answer(asked, len(asked), message, len(message), rows.ctypes.data)
    return None if count < 0 else [told(row) for row in rows[:count]]


def told(row: Any) -> tuple[str, str]:
    address = ipaddress.IPv6Address(bytes(row["address"]))
    return str(address.ipv4_mapped or address), row["name"].decode("ascii")


def refereed(asked: bytes, message: bytes) -> list[tuple[str, str]] | None:
    try:
        return answered(asked, message)
    except Unreadable:
        return None


WEB = asking("www.shop.example")
OWNER, ALIAS = b"\xc0\x0c", encoded("cdn.example.net")
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
NAME = "www.shop.example"
LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])
NOBODYS = ("0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255")
ITSELF = struct.pack(">H", 0xC000 | 12 + len(WEB))
CASES: dict[str, tuple[bytes, bytes, list[tuple[str, str]] | None]] = {
    "an address": (WEB, answer(WEB, record(OWNER, A, four("192.0.2.7"))), [("192.0.2.7", NAME)]),
    "of six": (
        asking(NAME, AAAA),
        answer(asking(NAME, AAAA), record(OWNER, AAAA, SIX)),
        [("2001:db8::7", NAME)],
    ),
    "by aliases": (
        WEB,
        answer(WEB, record(OWNER, CNAME, ALIAS), *(record(ALIAS, A, four(f"192.0.2.{end}")) for end in (7, 8))),
        [("192.0.2.7", NAME), ("192.0.2.8", NAME)],
    ),
    "capitals": (
        asking("wWw.SHOP.example"),
        answer(asking("WWW.shop.EXAMPLE"), record(encoded("www.Shop.example"), A, four("192.0.2.7"))),
        [("192.0.2.7", NAME)],
    ),
    "somebody else's address beside it": (
        WEB,
        answer(WEB, record(encoded("bank.example"), A, four("192.0.2.9")), record(OWNER, A, four("192.0.2.7"))),
        [("192.0.2.7", NAME)],
    ),
    "an alias that comes too late": (
        WEB,
        answer(WEB, record(ALIAS, A, four("192.0.2.7")), record(OWNER, CNAME, ALIAS)),
        [],
    ),
    "another question": (WEB, answer(asking("bank.example"), record(OWNER, A, four("192.0.2.9"))), None),
    "another type": (WEB, answer(asking(NAME, AAAA), record(OWNER, AAAA, SIX)), None),
    "no such name": (WEB, answer(WEB, flags=0x8183), []),
    "nobody's addresses": (
        WEB,
        answer(WEB, *(record(OWNER, A, four(each)) for each in NOBODYS)),
        [],
    ),
    "another class": (WEB, answer(WEB, record(OWNER, A, four("192.0.2.7"), group=3)), []),
    "a pointer to itself": (WEB, answer(WEB, record(ITSELF, A, four("192.0.2.7"))), None),
    "a pointer ahead": (WEB, answer(WEB, record(b"\xc0\xff", A, four("192.0.2.7"))), None),
    "a pointer into the header": (WEB, answer(WEB, record(b"\xc0\x04", A, four("192.0.2.7"))), None),
    "a name that would steer terminals": (asking("\x1b[2J.example"), answer(asking("\x1b[2J.example")), None),
    "a name with a dot in a label": (b"\4a.bc\0\0\1\0\1", answer(b"\4a.bc\0\0\1\0\1"), None),
    "the root": (asking(""), answer(asking(""), record(b"\0", A, four("192.0.2.7"))), []),
    "a name of 253": (
        asking(LONGEST),
        answer(asking(LONGEST), record(OWNER, A, four("192.0.2.7"))),
        [("192.0.2.7", LONGEST)],
    ),
    "a name of 254": (asking(LONGEST + "b"), answer(asking(LONGEST + "b")), None),
    "what is cut": (
        WEB,
        answer(WEB, *[record(OWNER, A, four("192.0.2.7"))] * 2, flags=0x8380)[:-3],
        [("192.0.2.7", NAME)],
    ),
    "what ends too early": (WEB, answer(WEB, *[record(OWNER, A, four("192.0.2.7"))] * 2)[:-3], None),
    "nothing": (b"", b"", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_an_answer_tells(name: str) -> None:
    asked, message, expected = CASES[name]
    assert read(asked, message) == expected
    assert refereed(asked, message) == expected


LABELS = st.sampled_from(["www", "shop", "example", "a", "cdn", "X" * 63, "under_score", "\xe9", "a.b", " "])
NAMES = st.lists(LABELS, min_size=0, max_size=5).map(
    lambda labels: b"".join(bytes([len(each)]) + each.encode("latin-1") for each in labels)
)
ENDS = st.one_of(st.just(b"\0"), st.integers(0, 400).map(lambda to: struct.pack(">H", 0xC000 | to)), st.just(b""))
OWNERS = st.one_of(st.just(OWNER), st.tuples(NAMES, ENDS).map(b"".join))
DATA = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16), OWNERS, st.binary(max_size=20))
RECORDS = st.builds(record, OWNERS, st.sampled_from([A, NS, CNAME, AAAA]), DATA, st.sampled_from([1, 1, 1, 3]))
FLAGS = st.sampled_from([0x8180, 0x8380, 0x8183])


@settings(max_examples=600, deadline=None)
@given(OWNERS, st.sampled_from([A, AAAA, NS]), st.lists(RECORDS, max_size=6), FLAGS, st.data())
@example(OWNER, A, [], 0x8180, None)
def test_the_referee_agrees(name: bytes, kind: int, records: list[bytes], flags: int, data: Any) -> None:
    question = name + struct.pack(">HH", kind, 1)
    message = bytearray(answer(question, *records, flags=flags))
    if data is not None:
        for _ in range(data.draw(st.integers(0, 3))):
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
        message = message[: data.draw(st.sampled_from([len(message)] * 3 + [len(message) // 2, len(message) - 1]))]
    assert read(question, bytes(message)) == refereed(question, bytes(message))


RING = 1 << 16


class Ring:
    """A ring buffer as the kernel fills it."""

    def __init__(self) -> None:
        self.positions = np.zeros(2, np.uint64)  # consumed, produced
        self.data = np.zeros(2 * RING, np.uint8)
        self.reader = AnswerReader(
            compiled.library(), self.positions.ctypes.data, self.positions.ctypes.data + 8, self.data.ctypes.data, RING
        )

    def write(self, octets: bytes, bits: int = 0) -> None:
        at = int(self.positions[1])
        entry = struct.pack("<II", len(octets) | bits, 0) + octets
        for i, octet in enumerate(entry):
            self.data[(at + i) % RING] = self.data[RING + (at + i) % RING] = octet
        self.positions[1] = at + (len(entry) + 7 & ~7)

    def put(self, asked: bytes, message: bytes, at_ns: int = 5) -> None:
        self.write(struct.pack("<QII", at_ns, len(asked), len(message)) + asked.ljust(260, b"\0") + message)


def test_the_ring_goes_round_and_what_is_broken_in_it_is_passed_over() -> None:
    ring = Ring()
    good = answer(WEB, record(OWNER, A, four("192.0.2.7")))
    for number in range(400):  # some 130 KiB
        ring.put(WEB, good, number)
        ring.put(WEB, good[:-1])
        ring.write(b"short")
        ring.write(struct.pack("<QII", 5, 9999, 9999) + bytes(300))
        ring.write(bytes(100), bits=0x40000000)
        (row,) = ring.reader.take()
        assert (int(row["at_ns"]), told(row)) == (number, ("192.0.2.7", NAME))
    assert ring.reader.unreadable == 400
    assert ring.positions[0] == ring.positions[1]


def test_what_is_being_written_is_waited_for() -> None:
    ring = Ring()
    ring.put(WEB, answer(WEB, record(OWNER, A, four("192.0.2.7"))))
    place = ring.data[:4].view("<u4")
    place |= 0x80000000
    assert len(ring.reader.take()) == 0
    place &= 0x7FFFFFFF
    assert len(ring.reader.take()) == 1


def test_answers_of_many_addresses_are_taken_whole() -> None:
    ring = Ring()
    records = [record(OWNER, A, four(f"192.0.2.{number}")) for number in range(1, 120)]
    for _ in range(20):
        ring.put(WEB, answer(WEB, *records))
    rows = ring.reader.take()
    assert [told(row)[0] for row in rows] == [f"192.0.2.{number}" for number in range(1, 120)] * 20
