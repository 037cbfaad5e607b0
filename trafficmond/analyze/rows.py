"""The RECORD batch: flows as other monitors report them, and estimates of what these do not count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from trafficmond import abi
from trafficmond.analyze.dates import Order
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import TIME_MAX, Address, count, unset
from trafficmond.detect.windows import Grouped
from trafficmond.flows.batch import ENDPOINTS, Batch
from trafficmond.flows.services import FTP_DATA, KNOWN
from trafficmond.model import Action, Direction
from trafficmond.protocols import ACK, FIN, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP

T = TypeVar("T")

# A flow as another monitor reports it: both directions in one row, src the initiator. Times are epoch seconds.
RECORD = np.dtype(
    [
        *ENDPOINTS,
        ("start", "f8"),
        ("end", "f8"),
        *((side + name, "u8") for side in ("", "reply_") for name in ("packets", "bytes", "payload_bytes")),
        *((side + name, "u1") for side in ("", "reply_") for name in ("tcp_flags", "first_flags")),
        ("reply_bits", "u1"),  # abi: BIT_SPOKE_FIRST if the format has it
        ("connection", "u8"),  # formats that report a connection several times: its id; 0: reported once
        ("rank", "u1"),  # ... the quality of this record: duplicates.py
    ]
)

BATCH = 4096
_GATHERED = 1024  # rows kept as Python tuples, each ten times as large


def sent(
    proto: int, family: int, packets: int, octets: int, link: int = 14, *, flags: int | None = None
) -> tuple[int, int, int]:
    """(packets, bytes, payload bytes) of one side, if only packets and bytes are known.

    The payload is estimated from the size of ordinary headers: for TCP over IPv4 60 bytes for the SYN with its options,
    52 for each later packet. If nothing was pushed (according to `flags`; without them: if there are few packets), all
    packets may be repeated SYNs, so a handshake never looks like a conversation. `link` is the size of the link header
    that the format counts.
    """
    total = packets * (link + (20 if family == 4 else 40) + _HEADERS.get(proto, 0))
    if proto == TCP and (packets > _MOST_SYNS if flags is None else flags & PSH and packets):
        total -= (packets - 1) * _ONLY_OF_SYN
    return packets, octets, octets - total if octets > total else 0


def one_way_flags(
    all_flags: int | None, ports: tuple[int, int], proto: int, family: int, each: tuple[int, int, int]
) -> _Flags:
    """(all, first) flags of one direction of a TCP flow, from an exporter that reports directions separately.

    Such exporters report the flags of all packets together; some report ACK only with a SYN, or no flags at all (None).
    `each` is the result of `sent`. A side with payload, or one that closed, had been acknowledged. If both sides sent
    SYN and ACK, the one with the lower port answered (of FTP's data port, the other one). Without flags, the size of a
    single packet shows what it is: a reset has no options, an opening SYN has (RFC 9293, 3.7.1).
    """
    packets, octets, payload = each
    if proto != TCP:
        return all_flags or 0, 0
    answers = (ports[0] < ports[1]) != (FTP_DATA in ports)
    if all_flags is None:
        if packets != 1 or payload:
            return 0, 0
        bare = octets <= (20 if family == 4 else 40) + _BARE
        alone = (RST | ACK if bare else SYN | ACK) if answers else 0 if bare else SYN
        return alone, alone & (SYN | ACK)
    if not all_flags & SYN:
        return all_flags, 0
    first = SYN | ACK if answers else SYN
    ended = all_flags & ACK and all_flags & (FIN | RST)  # a connection without a word, such as a health check
    if all_flags & PSH == 0 and not ended:  # one that asks a service has the ACK of another packet
        first = ACK if all_flags & ACK and KNOWN[ports[1]] and not KNOWN[ports[0]] else all_flags & (SYN | ACK)
    went_on = (PSH | ACK) if payload else ACK if all_flags & FIN else 0
    return all_flags | went_on, first


_Flags = tuple[int, int]
_BARE = 20  # bytes of a TCP header without options
_HEADERS = {TCP: 40, UDP: 8, ICMP: 8, ICMPV6: 8, SCTP: 12}
_MOST_SYNS = 3
_ONLY_OF_SYN = 8  # bytes of options that only a SYN has


def estimated(proto: int, family: int, payload: int, others: int, packets: int | None = None) -> tuple[int, int]:
    """(packets, bytes of IP) that a payload needs at least, with `others` packets without payload."""
    if packets is None:
        packets = others + -(-payload // _SEGMENT)
    return packets, payload + packets * ((20 if family == 4 else 40) + _LEAST_HEADERS.get(proto, 0))


def counted_packets(packets: Any, octets: int, source: Source) -> int:
    """The number of packets of so many bytes; if it is `unset`, it is estimated, with a note."""
    if octets and unset(packets):
        source.note("missing counts of packets were estimated from bytes")
        return -(-octets // _FULL)
    return count(packets)


_FULL = 1500  # bytes of a full packet
_SEGMENT = 1448  # payload of a full packet on Ethernet
_LEAST_HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8, SCTP: 28}


def recorded(
    items: Iterable[tuple[int, T]], add: Callable[[T, Records], None], source: Source, kind: str
) -> Iterator[Batch]:
    """RECORD rows of the items, which come with their line: `add` adds those of one. If it raises an error of a value,
    the item counts as damage of that kind ("no flow")."""
    records, order = Records(), Order(source.head)
    if order.unknown:
        source.note("dates like 11/12/2023 were read as month/day; no date near the beginning shows which is meant", 0)
    order.begin()
    for line, item in items:
        try:
            add(item, records)
        except KeyError as error:
            source.parse_errors.line(source.name, line, kind, f"{error.args[0]} missing")
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            source.parse_errors.line(source.name, line, kind, str(error))
        if records.full:
            order.end()
            yield records.take()
            order.begin()  # other sources may have been read meanwhile
    order.end()
    yield records.take()


class Records:
    """Collects RECORD rows; call `take` when `full`, and at the end."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    @property
    def full(self) -> bool:
        return len(self._rows) >= _GATHERED

    def add(
        self,
        src: Address,
        dst: Address,
        ports: tuple[int, int],
        proto: int,
        span: tuple[float, float],  # start, end
        sent: tuple[int, int, int],  # packets, bytes, payload bytes of the initiator
        replied: tuple[int, int, int] = (0, 0, 0),
        flags: tuple[int, int, int, int] = (0, 0, 0, 0),  # all and first of the initiator, all and first of the reply
        *,
        reply_bits: int = 0,
        connection: tuple[int, int] = (0, 0),  # the columns connection and rank
        action: Action = Action.MONITOR,
        direction: Direction = Direction.INGRESS,
        ifindex: int = 0,
        vlan: int = 0,
    ) -> None:
        start, end = span
        if not (0 <= start < TIME_MAX and end < TIME_MAX):
            raise ValueError(f"the times {start} and {end} are not valid; write seconds since 1970")
        if (sent[1] and not sent[0]) or (replied[1] and not replied[0]):
            raise ValueError("it has bytes but no packet")
        src_hi, src_lo, family = src
        dst_hi, dst_lo, _ = dst
        self._rows.append(
            (
                *(src_hi, src_lo, dst_hi, dst_lo, *ports, proto, family, direction, vlan, ifindex),
                *(action << abi.ACTION_SHIFT, start, end if end > start else start),
                *(*sent, *replied, *flags, reply_bits, *connection),
            )
        )

    def take(self) -> Batch:
        rows, self._rows = self._rows, []
        return np.array(rows, RECORD)


def renumber(rows: Batch, name: Callable[[int], str], stats: RunStats) -> Batch:
    """The rows with interface numbers of the run; `name` returns the name for a number in the rows."""
    by = Grouped(rows["ifindex"].astype(np.uint64))
    if len(by):
        rows["ifindex"] = np.array([stats.ifindex(name(number)) for number in by.keys.tolist()], np.uint32)[by.of]
    return rows


def counted_records(rows: Batch, stats: RunStats) -> Batch:
    """Counts the RECORD rows in the run's account, with the mean size of each direction."""
    for prefix in ("", "reply_"):
        packets, octets = rows[prefix + "packets"].astype(np.int64), rows[prefix + "bytes"].astype(np.int64)
        stats.flow(int(packets.sum()), int(octets.sum()))
        stats.sizes.add_means(packets, octets)
    stats.records += len(rows)
    if len(rows):
        stats.reach(float(rows["start"].min()), float(rows["end"].max()))
    return rows
