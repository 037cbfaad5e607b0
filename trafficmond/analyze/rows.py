"""Converts the values of text formats to columns: addresses, protocols, times, and the RECORD batch."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from trafficmond import abi
from trafficmond.analyze.iana import IANA
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import ENDPOINTS, V4_MAPPED, Batch, split_address
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.model import Action, Direction
from trafficmond.protocols import ACK, FIN, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, URG, protocol_number

# A flow as another monitor reports it: both directions in one row, src the initiator. Times are epoch seconds.
RECORD = np.dtype(
    [
        *ENDPOINTS,
        ("start", "f8"),
        ("end", "f8"),
        ("packets", "u8"),
        ("bytes", "u8"),
        ("payload_bytes", "u8"),
        ("reply_packets", "u8"),
        ("reply_bytes", "u8"),
        ("reply_payload_bytes", "u8"),
        ("tcp_flags", "u1"),
        ("first_flags", "u1"),
        ("reply_tcp_flags", "u1"),
        ("reply_first_flags", "u1"),
        ("reply_bits", "u1"),  # abi: BIT_SPOKE_FIRST if the format has it
        ("connection", "u8"),  # formats that report a connection several times: its id; 0: reported once
        ("rank", "u1"),  # ... the quality of this record: duplicates.py
    ]
)

BATCH = 4096
_GATHERED = 1024  # rows kept as Python tuples, each ten times as large
TIME_MAX = 1e11  # epoch seconds; a later time is an error of the file

_MAPPED = int(V4_MAPPED)

_ALIASES = {
    "icmp6": 58,
    "ipv6-icmp": 58,
    "ipv6": 41,
    "unknown_transport": 255,
    "unknown": 255,
    "any": 255,  # Suricata: a number that IANA has not assigned
    "ipnip": 4,  # Argus
    "ip-in-ip": 4,  # Suricata 8
    "ipv4": 4,
    "ipencap": 4,
    "ospfigp": 89,
    "ospfv2": 89,
    "is-is": 124,
    "mobile": 55,
    "rtp": 17,  # Argus: recognised inside UDP
    "rtcp": 17,
    "udt": 17,
}
_PORTS = {"domain": 53, "http": 80, "https": 443, "ssh": 22, "telnet": 23, "smtp": 25, "ntp": 123}  # no netbase


class Address(NamedTuple):
    """An address as in a batch: see flows/batch.py."""

    hi: int
    lo: int
    family: int


@lru_cache(maxsize=65536)
def address(text: str) -> Address:
    """Parses an address. Raises ValueError if it is not valid."""
    try:
        if ":" not in text:
            return Address(*split_address(socket.inet_pton(socket.AF_INET, text)), 4)
        hi, lo = split_address(socket.inet_pton(socket.AF_INET6, text.split("%")[0]))
    except OSError:
        raise ValueError(f"{text!r} is not a valid address") from None
    return Address(hi, lo, 4 if hi == 0 and lo & ~0xFFFFFFFF == _MAPPED else 6)


@lru_cache(maxsize=1024)
def protocol(text: str) -> int:
    """The IANA number of a protocol given by name, alias or number. Raises ValueError if it is unknown."""
    name = text.strip().lower()
    known = _ALIASES.get(name, IANA.get(name))
    if known is None:
        with contextlib.suppress(ValueError):  # pandas turns a column with gaps into floats
            known = whole(name)
    if known is None or not 0 <= known < 256:
        known = protocol_number(text)
    return known


def whole(value: Any) -> int:
    """Parses a whole number, which may be written as a float (5.0, "5.0"). Raises ValueError."""
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else _exact(float(value))
    except (ValueError, TypeError):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return _exact(float(value))
        raise ValueError(f"{value!r} is not a valid number") from None


def _exact(value: float) -> int:
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value} is not a whole number")
    return int(value)


def count(value: Any) -> int:
    """Parses a count as Zeek and others write it; 0 if it is `unset`. Raises ValueError."""
    try:
        number = int(value) if type(value) is str else value if type(value) is int else _counted(value)
    except ValueError:
        number = _counted(value)
    if 0 <= number < _COUNT_END:
        return number
    raise ValueError(f"{number} is not a valid count; the maximum is {_COUNT_END - 1}")


_COUNT_END = 1 << 48
"""No flow has so many packets or bytes (281 TB), and the sum of a batch of such counts still fits into 64 bits."""


def _counted(value: Any) -> int:
    return 0 if unset(value) else whole(value)


def unset(value: Any) -> bool:
    """Whether a value only says that there is none, as Zeek, AWS, pandas, R, MySQL and Hive write it."""
    return value is None or (type(value) is str and value in _UNSET)


_UNSET = frozenset(("", "-", "(empty)", "nan", "NaN", "NULL", "null", "None", "NA", "\\N"))


def port(value: Any) -> int:
    """Parses a port, also in hexadecimal or as the name of a service; 0 if it is `unset`. Raises ValueError."""
    try:
        number = int(value) if type(value) is str else value if type(value) is int else _named(value)
    except ValueError:
        number = _named(value)
    if 0 <= number <= 65535:
        return number
    raise ValueError(f"{number} is not a valid port")


def _named(value: Any) -> int:
    if unset(value):
        return 0
    if isinstance(value, str) and value.startswith("0x"):
        return int(value, 16)
    try:
        return whole(value)
    except ValueError:
        return _service(str(value))


@lru_cache(maxsize=4096)
def _service(name: str) -> int:
    known = _PORTS.get(name)
    if known is not None:
        return known
    try:
        return socket.getservbyname(name)
    except (OSError, ValueError, UnicodeError):
        raise ValueError(f"{name!r} is not a valid port") from None


def icmp_ends(kind: int | None, code: int | None = 0) -> tuple[int, int]:
    """The values for the port columns of ICMP: type and code; None for a type that the log does not have."""
    if kind is None:
        return TYPE_UNKNOWN, 0
    if not (0 <= kind <= 255 and 0 <= (code or 0) <= 255):
        raise ValueError(f"{kind}/{code} is not an ICMP type and code")
    return kind, code or 0


def is_icmp(proto: int) -> bool:
    """Whether a protocol has types and codes instead of ports."""
    return proto in (ICMP, ICMPV6)


def moment(value: Any) -> float:
    """Parses a time to epoch seconds: a number of seconds, milli-, micro- or nanoseconds, or ISO 8601 (UTC without a
    zone).

    Raises ValueError.
    """
    if type(value) is str and value[4:5] == "-":
        return iso_time(value)
    try:
        number = float(value)
    except (ValueError, TypeError):
        return iso_time(str(value))
    if number > TIME_MAX:
        return number / next(unit for limit, unit in _UNITS if number > limit)
    return number


_UNITS = ((1e17, 1e9), (1e14, 1e6), (TIME_MAX, 1e3))


def iso_time(text: str) -> float:
    """Epoch seconds of an ISO 8601 time; without a zone it is taken for UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:  # Athena's zone; small letters (RFC 3339, 5.6)
        moment = datetime.fromisoformat(text.upper().replace("UTC", "").strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@lru_cache(maxsize=4096)
def flags(letters: str) -> int:
    """Parses TCP flags written as letters (Argus: "FSPA"). Other letters (Argus: E, C) are ignored."""
    value = 0
    for letter in letters:
        value |= _LETTERS.get(letter, 0)
    return value


_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG}


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
    SYN and ACK, the one with the lower port answered. Without flags, the size of a single packet shows what it is: a
    reset has no options, an opening SYN has (RFC 9293, 3.7.1).
    """
    packets, octets, payload = each
    if proto != TCP:
        return all_flags or 0, 0
    answers = ports[0] < ports[1]
    if all_flags is None:
        if packets != 1 or payload:
            return 0, 0
        bare = octets <= (20 if family == 4 else 40) + _BARE
        alone = (RST | ACK if bare else SYN | ACK) if answers else 0 if bare else SYN
        return alone, alone & (SYN | ACK)
    if not all_flags & SYN:
        return all_flags, 0
    if all_flags & PSH == 0:
        answers = bool(all_flags & ACK)
    went_on = (PSH | ACK) if payload else ACK if all_flags & FIN else 0
    return all_flags | went_on, SYN | ACK if answers else SYN


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
        source.note("packets that were not counted were estimated from bytes")
        return -(-octets // _FULL)
    return count(packets)


_FULL = 1500  # bytes of a full packet
_SEGMENT = 1448  # payload of a full packet on Ethernet
_LEAST_HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8, SCTP: 28}


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
            raise ValueError("bytes without a packet")
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
    numbers, which = np.unique(rows["ifindex"], return_inverse=True)
    if len(numbers):
        rows["ifindex"] = np.array([stats.ifindex(name(number)) for number in numbers.tolist()], np.uint32)[which]
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
