"""Argus flows as `ra` writes them: its table, or with `ra -c ,` its default columns, or any columns that include the
needed ones.

A line is one bidirectional flow with the packets of both sides together. The share of each side is known only if its
packets or bytes are among the columns; otherwise an answered flow is split in half.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from trafficmond.analyze.dates import in_order, padded, seconds
from trafficmond.analyze.duplicates import EVENT, FLOW
from trafficmond.analyze.rows import Records, recorded, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import SEPARATORS, Source
from trafficmond.analyze.values import address, count, flags, icmp_ends, is_icmp, moment, port, protocol
from trafficmond.flows.batch import Batch
from trafficmond.protocols import TCP, WITH_PORTS

TITLE = "Argus binetflow"

_NEEDED = ("starttime", "proto", "srcaddr", "dstaddr", "totpkts", "totbytes")
_ALIASES = {  # the names that `ra -s` takes, which some files have in their header
    "stime": "starttime", "ltime": "lasttime", "saddr": "srcaddr", "daddr": "dstaddr", "pkts": "totpkts",
    "bytes": "totbytes", "spkts": "srcpkts", "dpkts": "dstpkts", "sbytes": "srcbytes", "dbytes": "dstbytes",
}  # fmt: skip
_SUMS = (("totpkts", "srcpkts", "dstpkts"), ("totbytes", "srcbytes", "dstbytes"))
_TABLE = ["starttime", "flgs", "proto", "srcaddr", "sport", "dir", "dstaddr", "dport", "totpkts", "totbytes", "state"]
_ARROWS = frozenset("<>-?|o.")
_SUMMARY = "Totalrecords "  # `ra -A`
_WHO = "who"  # ARP's arrow
_CUT = ("srcaddr", "sport", "dstaddr", "dport")  # the columns that the table may cut
_DOTS = 3
_NOT_IP = frozenset(("arp", "rarp", "llc", "ipx", "loop", "lldp", "stp", "eth", "isis", "mpls"))
_DIGITS = 3  # of a protocol of IP; a longer number is an EtherType (`ra -nn`)
_NO_YEAR = re.compile(r"(\d{1,2})/(\d{1,2})[. ](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)")
_NO_DATE = re.compile(r"\d{1,2}:\d{2}:\d{2}(?:\.\d+)?")
_DAY_S = 86400.0
_MAC = re.compile(r"(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}", re.IGNORECASE)
_PROTOCOLS = {  # names that only Argus uses; "unas" is any number that IANA has not assigned
    "unas": 255, "ip": 0, "st2": 5, "bbn-rcc": 10, "nvp": 11, "dcn": 19, "sep": 33, "mhrp": 48, "ipv6-no": 59,
    "ipcv": 71, "igrp": 88, "ipip": 94, "aes-sp3-d": 96, "pri-enc": 99, "ipx-n-ip": 111, "zero": 114,
    "ipv6-*": 58,
    "sccopmce": 128, "ib": 253,
}  # fmt: skip
_ICMP_STATES = {"ECO": 8, "ECR": 0}
_ICMP_TYPES = {
    "echo": 8, "dstunreach": 3, "srcquench": 4, "redirect": 5, "rtrad": 9, "rtrsel": 10, "timeexceed": 11, "param": 12,
    "tstamp": 13, "maskreq": 17, "trace": 30, "extecho": 42,
}  # fmt: skip
_ICMP_CODES = {"unrnet": "0", "unrhost": "1", "unrproto": "2", "unrport": "3", "unrfilter": "13", "redhost": "1"}
_ICMP_WITH_CODES = (1, 3, 5, 11, 12)
_ICMP_CODE_MAX = 15
_OF_BOTH = ("CON", "EST", "FIN", "RST")
"""In these states both sides usually sent packets; if the arrow has a "?", only one side did."""
_TCP_STATES = {  # flags of each side, for states that are written as a name
    "REQ": ("S", ""), "ACC": ("S", "SA"), "EST": ("SPA", "SPA"), "CON": ("SPA", "SPA"), "FIN": ("FSPA", "FSPA"),
    "CLO": ("FSPA", "FSPA"), "TIM": ("SPA", "SPA"), "RST": ("S", "RA"),
}  # fmt: skip


def lacks(sample: Sample) -> Lacks:
    return sample.header_lacks(_NEEDED, lambda line: _summed((_table(line) or _separated(line))[1]))


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each flow. Flows that are not IP are counted as such."""
    return recorded(_lines(source), _Flows(source, stats).take, source, "no flow")


def _lines(source: Source) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line, fields) of each flow; a header takes effect up to the next one (joined files)."""
    names: list[str] = []
    separator = ","
    for number, line in source.lines():
        text = line.decode("utf-8", "replace")
        if names is _TABLE:
            values = _cells(text)
        else:
            values = [*map(str.strip, text.split(separator))]
            if '"' in text or "'" in text:
                values = [value.strip("\"'") for value in values]
        if not text.lstrip(" \"'")[:1].isdigit() and (found := _header(text)):
            separator, names = found
            continue
        if len(values) < len(names) or not names:
            if text.strip() and not text.lstrip().startswith(_SUMMARY):
                source.parse_errors.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            continue
        yield number, dict(zip(names, values, strict=False))


_WHILE_OPEN = ("ACC", "EST", "CON")


class _Flows:
    """Adds the flows of one source to its records."""

    def __init__(self, source: Source, stats: RunStats) -> None:
        self._source, self._stats, self._clock = source, stats, _Clock(source)

    def take(self, fields: Mapping[str, str], records: Records) -> None:
        proto = fields["proto"].lower()
        packets, octets = _total(fields, *_SUMS[0]), _total(fields, *_SUMS[1])
        if proto == "man":
            self._source.note("Argus's own records (man) were skipped")
        elif _not_ip(proto, fields["srcaddr"]):
            self._stats.other(packets, octets)
            self._stats.records += 1
        else:
            try:
                self._add(fields, packets, octets, records)
            except ValueError:
                if any(fields.get(name, "").endswith("*") for name in _CUT):
                    what = "flows whose port or address ra had cut short (*) were skipped; `ra -n -c ,` cuts nothing"
                    self._source.note(what)
                raise

    def _add(self, fields: Mapping[str, str], packets: int, octets: int, records: Records) -> None:
        start, proto = self._clock.read(fields["starttime"]), _protocol(fields["proto"])
        end = start + seconds(fields["dur"]) if fields.get("dur") else start
        if not fields.get("dur") and fields.get("lasttime"):
            end = self._clock.read(fields["lasttime"])
        state, arrow = fields.get("state", ""), fields.get("dir", "->")
        ours, theirs = _flags(state, arrow, proto, more=packets > 2)
        ends = (fields["srcaddr"], fields.get("sport"), fields["dstaddr"], fields.get("dport"))
        connection = abs(hash(ends)) if proto == TCP and "_" not in state else 0  # flags show where it began
        rank = EVENT if state in _WHILE_OPEN else FLOW
        to_right, to_left = ">" in arrow or "<" not in arrow, "<" in arrow
        began = to_right  # the initiator; if the arrow has both ends, the direction in the file
        seen_both = bool(ours and theirs) if "_" in state else "?" not in arrow and state in _OF_BOTH
        answered = (to_right and to_left) or seen_both
        src, dst = address(fields["srcaddr"]), address(fields["dstaddr"])
        first, octets_first = self._shares(fields, packets, octets, began=began, answered=answered and packets > 1)
        one = sent(proto, src.family, first, octets_first)
        other = sent(proto, src.family, packets - first, octets - octets_first)
        ports = _ports(fields, proto, state)
        if not began:
            src, dst, ours, theirs = dst, src, theirs, ours
            ports = ports if is_icmp(proto) else (ports[1], ports[0])
        if proto != TCP:
            ours = theirs = ""
        seen = (flags(ours), _first_flags(ours, opened=True), flags(theirs), _first_flags(theirs, opened=False))
        records.add(src, dst, ports, proto, (start, end), one, other, seen, connection=(connection, rank))

    def _shares(
        self, fields: Mapping[str, str], packets: int, octets: int, *, began: bool, answered: bool
    ) -> tuple[int, int]:
        """(packets, bytes) of the initiator."""
        sent = _share(fields, _SUMS[0][1:], packets, began=began)
        sent_octets = _share(fields, _SUMS[1][1:], octets, began=began)
        if answered and (sent is None or sent_octets is None):
            self._source.note("answered flows without the counts of each side were split in half")
        if sent is None:
            sent = -(-packets // 2) if answered else packets
        if sent_octets is None:
            sent_octets = octets // 2 if answered and sent < packets else octets if sent else 0
        if sent_octets < octets and sent == packets and packets > 1:
            sent -= 1  # bytes of the other side were in a packet
        return sent, sent_octets


def _not_ip(proto: str, address: str) -> bool:
    """By its name, its EtherType or its addresses."""
    number = len(proto) > _DIGITS and proto.isdecimal()
    return proto in _NOT_IP or number or bool(address[1:3].count(":") and _MAC.fullmatch(address))


def _total(fields: Mapping[str, str], total: str, one: str, other: str) -> int:
    return count(fields[total]) if total in fields else count(fields[one]) + count(fields[other])


def _header(line: str) -> tuple[str, list[str]] | None:
    """(separator, names) of a line that has the needed names."""
    found = _table(line) or _separated(line)
    return found if set(_NEEDED).issubset(_summed(found[1])) else None


def _table(line: str) -> tuple[str, list[str]] | None:
    return ("", _TABLE) if "\t" not in line and line.lower().split() == _TABLE else None


def _separated(line: str) -> tuple[str, list[str]]:
    separator = max(SEPARATORS, key=line.count)
    names = [name.strip().strip("\"'").lower() for name in line.split(separator)]
    return separator, [_ALIASES.get(name, name) for name in names]


def _cells(line: str) -> list[str]:
    """Splits a line of the table. Its flags may be blank or separated, and its ports are joined to the addresses; a
    value that is too wide ends in "*". Empty if it is not such a line."""
    words = line.split()
    at = next((at for at, word in enumerate(words) if at > 2 and (_ARROWS.issuperset(word) or word == _WHO)), 0)
    if "man" in words[1:3]:
        return [words[0], "", "man", "0", "", "", "0", "", "0", "0", ""]
    if not at or len(words) < at + 4:
        return []
    (src, sport), (dst, dport) = _end(words[at - 1]), _end(words[at + 1])
    state = words[at + 4] if len(words) > at + 4 else ""
    return [words[0], "", words[at - 2], src, sport, words[at], dst, dport, *words[at + 2 : at + 4], state]


def _end(text: str) -> tuple[str, str]:
    """Address and port."""
    joined = "." in text if ":" in text else text.count(".") > _DOTS
    address, _, number = text.rpartition(".") if joined else (text, "", "")
    return address, number


def _summed(names: Iterable[str]) -> list[str]:
    found = list(names)
    return found + [total for total, one, other in _SUMS if one in found and other in found]


@lru_cache(maxsize=1024)
def _protocol(name: str) -> int:
    known = _PROTOCOLS.get(name.lower())
    return protocol(name) if known is None else known


@lru_cache(maxsize=4096)
def _flags(state: str, arrow: str, proto: int, *, more: bool) -> tuple[str, str]:
    """TCP flags of each side, as far as the state has them; a "?" in the arrow: no handshake was seen. If there are
    `more` than two packets, a reset ended a conversation, and did not refuse it; without them, FIN is only the end of
    one."""
    if "_" in state:
        ours, theirs = state.split("_", 1)
        return ours, theirs
    if proto != TCP or "?" in arrow:
        return "", ""
    ours, theirs = _TCP_STATES.get(state, ("", ""))
    if more and state == "RST":
        return "SPA", "RSPA"
    return ("FPA", "FPA") if state == "FIN" and not more else (ours, theirs)


def _ports(fields: Mapping[str, str], proto: int, state: str) -> tuple[int, int]:
    """Ports; for ICMP type and code; for ESP, Argus writes the SPI there."""
    if is_icmp(proto):
        return _icmp(fields.get("sport", ""), fields.get("dport", ""), _ICMP_STATES.get(state) if proto == 1 else None)
    if proto not in WITH_PORTS:
        return 0, 0
    return port(fields.get("sport")), port(fields.get("dport"))


@lru_cache(maxsize=4096)
def _icmp(sport: str, dport: str, kind: int | None) -> tuple[int, int]:
    """Type and code: in one number before Argus 5 (0x0303: type 3, code 3; its Dport is something else), separately
    since then, and by name without -n. `kind` is the type according to the state."""
    name = sport.lower()
    if not name or name in _ICMP_TYPES:
        kind = _ICMP_TYPES.get(name, kind)
    elif name[0].isdigit():
        both = port(name)
        if both > 0xFF:
            return icmp_ends(both & 0xFF, both >> 8)
        kind = both
    code = _ICMP_CODES.get(dport.lower(), dport)
    number = port(code) if code[:1].isdigit() else 0
    return icmp_ends(kind, number if kind in _ICMP_WITH_CODES and number <= _ICMP_CODE_MAX else 0)


def _share(fields: Mapping[str, str], sides: tuple[str, ...], total: int, *, began: bool) -> int | None:
    """The initiator's part of a total; None if no column has it."""
    mine, other = sides if began else sides[::-1]
    if text := fields.get(mine):
        return min(count(text), total)
    if text := fields.get(other):
        return total - min(count(text), total)
    return None


@lru_cache(maxsize=4096)
def _first_flags(letters: str, *, opened: bool) -> int:
    """The flags of the first packet: a side that sent a SYN began with it; otherwise the connection was open before."""
    if "S" in letters:
        return flags("S" if opened else "SA")
    return flags(letters) & flags("A")


class _Clock:
    """Parses the times of one source: in the format of RA_TIME_FORMAT, in epoch seconds (`ra -u`), or without a year or
    a date. A missing year or day (UTC) is taken from the file's own time; without a date, another day begins where the
    time goes back by more than half a day."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._written = datetime.fromtimestamp(source.modified, UTC)
        self._latest = 0.0  # of times without a date

    def read(self, text: str) -> float:
        """Epoch seconds; a time without a zone is UTC. Raises ValueError."""
        text = in_order(text.strip())
        if found := _NO_YEAR.fullmatch(text):
            return self._in_year(int(found[1]), int(found[2]), found[3])
        if _NO_DATE.fullmatch(text):
            self._source.note(f"times without a date were given the date of the file, {self._written:%Y-%m-%d}", 0)
            at = moment(f"{self._written:%Y-%m-%d}T{padded(text)}")
            if self._latest:
                at += round((self._latest - at) / _DAY_S) * _DAY_S
            self._latest = max(self._latest, at)
            return at
        return moment(text)

    def _in_year(self, month: int, day: int, clock: str) -> float:
        year = self._written.year
        at = moment(f"{year}-{month:02}-{day:02}T{padded(clock)}")
        if at > self._source.modified + _DAY_S:  # it was written before the turn of the year
            year -= 1
            at = moment(f"{year}-{month:02}-{day:02}T{padded(clock)}")
        self._source.note(f"times without a year were given the year {year}, by the date of the file", 0)
        return at
