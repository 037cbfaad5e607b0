"""REPORT rows as IPFIX, read back by the RFC's letter."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from export_reports import DROPPED, every_kind, reports, totals
from ipfix_decoder import Decoder, Record, number

from trafficmond.export.ipfix import Stream, parts
from trafficmond.export.templates import TEMPLATES
from trafficmond.flows.batch import Batch, split_address
from trafficmond.flows.report import End
from trafficmond.model import Direction

REVERSE = 29305
OCTETS, PACKETS, PROTOCOL, FLAGS, SPORT, DPORT = 1, 2, 4, 6, 7, 11
SRC4, DST4, SRC6, DST6, INGRESS, EGRESS = 8, 12, 27, 28, 10, 14
ICMP4, VLAN, DIRECTION, STATUS, END, ICMP6, START_MS, END_MS, FIREWALL = 32, 58, 61, 89, 136, 139, 152, 153, 233


def sent(rows: Batch, max_bytes: int = 1452, *, biflow: bool = False) -> Decoder:
    stream, decoder = Stream(7), Decoder()
    for message in stream.templates(max_bytes, 1_700_000_000.9):
        assert len(message) <= max_bytes
        decoder.message(message)
    for part in parts(rows, max_bytes, biflow=biflow):
        message = stream.message(part.sets, part.records, 1_700_000_000.9)
        assert len(message) <= max_bytes
        decoder.message(message)
    assert (decoder.gaps, decoder.unknown) == (0, 0)
    return decoder


def only(rows: Batch, *, biflow: bool = False) -> Record:
    ((_, record),) = sent(rows, biflow=biflow).records
    return record


def test_every_element_of_an_unanswered_flow() -> None:
    rows = reports(1, reply_packets=0, reply_bytes=0, packets=3, bytes=300, verdict=DROPPED)
    record = only(rows)
    assert record[0, SRC4] == socket.inet_aton("192.0.2.1")
    assert record[0, DST4] == socket.inet_aton("198.51.100.2")
    told = {element: number(record, element) for _, element in record if element not in (SRC4, DST4)}
    assert told == {
        START_MS: 1_699_999_998_750,
        END_MS: 1_700_000_000_250,
        SPORT: 1024,
        DPORT: 443,
        FLAGS: 0x1B,
        PROTOCOL: 6,
        PACKETS: 3,
        OCTETS: 300,
        INGRESS: 2,
        EGRESS: 0,
        VLAN: 100,
        DIRECTION: 0,
        END: End.CLOSED,
        STATUS: 130,
        FIREWALL: 3,
    }


def test_the_two_records_of_an_answered_flow() -> None:
    decoder = sent(reports(1, packets=3, bytes=300, reply_packets=2, reply_bytes=90, end=End.ACTIVE))
    there, back = (record for _, record in decoder.records)
    assert (number(there, PACKETS), number(there, OCTETS), number(there, FLAGS)) == (3, 300, 0x1B)
    assert (number(back, PACKETS), number(back, OCTETS), number(back, FLAGS)) == (2, 90, 0x12)
    assert (back[0, SRC4], back[0, DST4]) == (there[0, DST4], there[0, SRC4])
    assert (number(back, SPORT), number(back, DPORT)) == (443, 1024)
    assert (number(there, INGRESS), number(back, EGRESS), number(back, DIRECTION)) == (2, 2, 1)
    assert (number(there, STATUS), number(there, FIREWALL)) == (64, 5)


def test_the_one_record_of_a_biflow() -> None:
    record = only(reports(1, packets=3, bytes=300, reply_packets=2, reply_bytes=90), biflow=True)
    assert (number(record, PACKETS), number(record, OCTETS), number(record, FLAGS)) == (3, 300, 0x1B)
    assert [number(record, element, REVERSE) for element in (PACKETS, OCTETS, FLAGS)] == [2, 90, 0x12]


@pytest.mark.parametrize("biflow", [False, True])
def test_replies_alone_are_a_record_of_the_responder(biflow: bool) -> None:
    record = only(reports(1, packets=0, bytes=0, reply_packets=2, reply_bytes=90), biflow=biflow)
    assert record[0, SRC4] == socket.inet_aton("198.51.100.2")
    assert (number(record, PACKETS), number(record, OCTETS), number(record, SPORT)) == (2, 90, 443)


def test_ipv6() -> None:
    hi, lo = split_address(socket.inet_pton(socket.AF_INET6, "2001:db8::7"))
    rows = reports(1, family=6, src_hi=hi, src_lo=lo, dst_hi=0, dst_lo=1, reply_packets=0, direction=Direction.EGRESS)
    record = only(rows)
    assert record[0, SRC6] == socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    assert record[0, DST6] == socket.inet_pton(socket.AF_INET6, "::1")
    assert (number(record, INGRESS), number(record, EGRESS), number(record, DIRECTION)) == (0, 2, 1)


def test_icmp_has_types_and_codes_and_no_ports() -> None:
    there, back = (record for _, record in sent(reports(1, proto=1, sport=8, dport=0)).records)
    assert (there[0, ICMP4], back[0, ICMP4]) == (b"\x08\x00", b"\x00\x00")
    assert (0, SPORT) not in there
    unreachable = only(reports(1, proto=58, family=6, sport=1, dport=4, reply_packets=0))
    assert unreachable[0, ICMP6] == b"\x01\x04"


@pytest.mark.parametrize("max_bytes", [528, 1452, 16384])
@pytest.mark.parametrize("biflow", [False, True])
def test_totals_and_sizes_of_every_kind(max_bytes: int, biflow: bool) -> None:
    rows = every_kind(200)
    decoder = sent(rows, max_bytes, biflow=biflow)
    told = {
        "packets": decoder.sums(PACKETS) + decoder.sums(PACKETS, REVERSE),
        "bytes": decoder.sums(OCTETS) + decoder.sums(OCTETS, REVERSE),
    }
    wanted = totals(rows)
    assert told["packets"] == wanted["packets"] + wanted["reply_packets"]
    assert told["bytes"] == wanted["bytes"] + wanted["reply_bytes"]
    used = {number for number, _ in decoder.records}
    assert used == {template.id for template in TEMPLATES if biflow or not template.biflow}
    assert decoder.messages <= 2 + len(decoder.records) * 110 // (max_bytes - 120) + 1, "messages are well filled"


def test_every_row_is_reported_once() -> None:
    rows = every_kind(300)
    for biflow in (False, True):
        assert sum(part.flows for part in parts(rows, 1452, biflow=biflow)) == len(rows)


def test_the_sequence_counts_data_records_and_wraps() -> None:
    stream = Stream(1, sequence=0xFFFFFFFF)
    first = stream.message(b"", 3, 0.0)
    assert int.from_bytes(first[8:12], "big") == 0xFFFFFFFF
    assert stream.sequence == 2
    stream.templates(1452, 0.0)
    assert stream.sequence == 2, "templates are not counted"


def test_nothing_is_no_message() -> None:
    assert list(parts(reports(0), 1452, biflow=True)) == []


def test_encoding_keeps_pace() -> None:
    """10,000 flows in well under a second: columns, not objects (some 30 ms; the bound is for busy hosts)."""
    import time

    rows = np.tile(every_kind(125), 10)
    began = time.process_time()
    records = sum(part.records for part in parts(rows, 1452, biflow=False))
    assert records > len(rows)
    assert time.process_time() - began < 0.5
