"""Zeek's conn.log: TSV with a header, or JSON as any log shipper writes it, alone or among other logs of Zeek.

Source: https://docs.zeek.org/en/master/logs/conn.html. Bytes are those of IP (Zeek does not count link headers). A
connection is reported more than once in files that are given twice or in two forms, in conn_long, which reports long
connections while they last, and in Corelight's conn_red; `repeats` combines these by the uid.
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Any, NamedTuple

from trafficmond import abi
from trafficmond.analyze.dates import seconds
from trafficmond.analyze.duplicates import EVENT
from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.rows import Records, estimated, recorded
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import SHIPPED, Lacks, Sample
from trafficmond.analyze.source import SEPARATORS, Source
from trafficmond.analyze.values import address, bare, count, hashed, icmp_ends, is_icmp, moment, port, protocol, unset
from trafficmond.flows.batch import Batch
from trafficmond.flows.canonical import MATE
from trafficmond.model import Direction
from trafficmond.protocols import ACK, FIN, ICMPV6, PSH, RST, SYN, TCP

TITLE = "Zeek conn.log"

_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")  # how the header writes its separator
_SCOPED = re.compile(r"(?:id[\W_]{0,3})?((?:orig|resp)_[hp])")  # Log::default_scope_sep may be anything
_CLOCKED = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_UNITS = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w|y)")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
    "y": 31536000.0,
}  # fmt: skip
_HISTORY = {"s": SYN, "h": SYN | ACK, "a": ACK, "d": PSH | ACK, "f": FIN | ACK, "r": RST}
_ID = ("ts", "id.orig_h", "id.resp_h")
_NEEDED = ("ts", "id.orig_h", "id.resp_h", "proto")
_TRUE = (True, "T", "true", "True", "TRUE", "t")
_ENDS = ("id.orig_h", "id.resp_h", "proto")
_PARTS = ("conn-", "conn_")
"""The beginnings of the names of logs that have connections of conn.log, or the same ones again: conn_long, Corelight's
conn_red, or what a filter writes separately (conn-local)."""
_CONN = frozenset(("conn_state", "history", "orig_pkts", "orig_bytes", "orig_ip_bytes", "resp_bytes", "duration"))
"""Fields by which a conn.log is recognised if nothing names it; a log shipper may have dropped some."""

_BESIDE = ("resp_pkts", "resp_ip_bytes", "id.orig_p", "id.resp_p", "uid", "ip_proto", "local_orig")
_USED = _CONN.union(_BESIDE, _NEEDED)


def lacks(sample: Sample) -> Lacks:
    headers = [line for line in sample.lines if line.startswith("#fields")]
    if headers:
        return sample.header_lacks(_ID, lambda line: _header(line, line[7:8]) if line in headers else ())
    if _is_bare(sample):
        return []
    return sample.object_lacks(_ID, lambda found: _flat(found)[1])


def read(source: Source, _stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each record of a connection. Records of other logs are skipped, with a note."""

    def take(record: tuple[str, Mapping[str, Any]], records: Records) -> None:
        path, fields = record
        if path == "conn" or (path.startswith(_PARTS) and fields.get("uid") if path else _has_connections(fields)):
            _add(fields, records, source)
        else:
            source.note(f"records of Zeek's {path[:40] or 'other logs'} were skipped")

    sample = Sample(source.head)
    tsv = _is_bare(sample) or any(line.startswith("#fields") for line in sample.lines)
    values = _tsv(source) if tsv else ((number, _flat(found)) for number, found in objects(source))
    return recorded(values, take, source, "no connection")


def _has_connections(names: Collection[str]) -> bool:
    """Whether these are the fields of a conn.log. Others have some of them: files.log has ends and a duration."""
    return not _CONN.isdisjoint(names) and all(name in names for name in _ENDS)


def _tsv(source: Source) -> Iterator[tuple[int, tuple[str, Mapping[str, Any]]]]:
    """(line, (path, fields)) of each record; a header takes effect up to the next one (joined files)."""
    separator, path, named = "\t", "", ""
    unset, empty = "-", "(empty)"
    names: list[str] = []
    used: list[tuple[int, str]] = []
    header, behind = "", 0  # of CSV, which joined files repeat; the line behind it
    for number, line in source.lines():
        text = line.decode("utf-8", "replace")
        if text.startswith("#"):
            name, _, value = text[1:].partition(" " if text.startswith("#separator") else separator)
            if name in ("separator", "fields"):
                header = ""  # Zeek's own format follows
            if name == "separator":
                separator = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value) or "\t"
                unset, empty, named = "-", "(empty)", ""
            elif name == "unset_field":
                unset = value
            elif name == "empty_field":
                empty = value
            elif name == "path":
                named = value
            elif text.startswith("#fields"):
                if text[7:] and not text[7:].startswith(separator):  # it declares another separator, or none
                    separator = text[7]
                names = _header(text, separator)
                used = [(at, name) for at, name in enumerate(names) if name in _USED]
                path = named or ("conn" if _has_connections(names) else "")
        elif text:
            bare = None if names else _bare_header(text)
            if bare is not None:
                header, behind, (separator, names), unset, empty = text, number + 1, bare, "-", ""
                used = [(at, name) for at, name in enumerate(names) if name in _USED]
                path = "conn" if _has_connections(names) else ""
            if text == header or (number == behind and "." not in text and ":" not in text):  # ClickHouse: types
                continue
            values = _cells(text, separator) if header else text.split(separator)
            if len(values) < len(names) or not names:
                source.parse_errors.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            else:
                known = {name: value for at, name in used if (value := values[at]) != unset and value != empty}
                yield number, (path, known)


def _is_bare(sample: Sample) -> bool:
    """Whether the first line is a header without #fields, as pandas and csvcut write it."""
    return bool(sample.lines) and _bare_header(sample.lines[0]) is not None


def _bare_header(line: str) -> tuple[str, list[str]] | None:
    """(separator, names) of a line that has the names that a conn.log needs."""
    for separator in SEPARATORS:
        names = [_plain(name.strip().strip('"')) for name in line.split(separator)]
        if not set(_NEEDED).difference(names):
            return separator, names
    return None


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error:  # a cell too long, or a NUL
        return line.split(separator)


def _header(line: str, separator: str) -> list[str]:
    return [_plain(name) for name in line.split(separator or "\t")[1:]]


def _plain(name: str) -> str:
    scoped = _SCOPED.fullmatch(name)
    return f"id.{scoped[1]}" if scoped else name


def _flat(found: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(path, fields) of a JSON record with any kind of scopes; null means unset."""
    wrapper = "conn" if "conn" in found else next(iter(found)) if len(found) == 1 else ""  # {"conn": {...}}
    if isinstance(inner := found.get(wrapper), Mapping):
        found = {SHIPPED: found.get(SHIPPED), **inner} if SHIPPED in found else inner
    else:
        wrapper = ""
    if "id.orig_h" not in found:
        inner = found.get("id")
        if isinstance(inner, Mapping):
            found = {**found, **{f"id.{name}": value for name, value in inner.items()}}
        else:
            found = {_plain(name): value for name, value in found.items()}
    if "ts" not in found and SHIPPED in found:
        found = {**found, "ts": found[SHIPPED]}
    return str(found.get("_path") or ("" if _has_connections(found) else wrapper)), found


def _add(fields: Mapping[str, Any], records: Records, source: Source) -> None:
    if missing := [name for name in _NEEDED if fields.get(name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")
    start, proto = moment(fields["ts"]), _protocol(fields)
    history = fields.get("history") or _OF_STATE.get(str(fields.get("conn_state", "")), "")
    seen = _parsed(history if type(history) is str else str(history))
    orig, resp = address(str(fields["id.orig_h"])), address(str(fields["id.resp_h"]))
    first = _side(fields, _ORIG, seen.orig, proto, orig.family, source)
    other = _side(fields, _RESP, seen.resp, proto, orig.family, source)
    if not first[0] and not other[0]:  # Zeek saw a packet, otherwise there would be no line
        counted = fields.get("orig_pkts") is not None
        first = (1, first[1], first[2]) if counted else (*estimated(proto, orig.family, 0, 1), 0)
        source.note("connections for which Zeek counted no packet were counted as one packet")
    span, ports = (start, start + _duration(fields.get("duration"))), _ports(fields, proto)
    flags, spoke_first = (seen.flags, seen.spoke_first) if proto == TCP else ((0, 0, 0, 0), False)
    bits, uid = abi.BIT_SPOKE_FIRST if spoke_first else 0, (hashed(fields.get("uid")), EVENT)
    way = Direction.EGRESS if fields.get("local_orig") in _TRUE else Direction.INGRESS
    records.add(orig, resp, ports, proto, span, first, other, flags, reply_bits=bits, connection=uid, direction=way)


def _duration(value: Any) -> float:
    """Seconds; pandas and Zed write intervals as words."""
    if unset(value):
        return 0.0
    value = bare(value)
    try:
        return seconds(value)
    except ValueError:
        return _interval(str(value))


def _interval(text: str) -> float:
    """Seconds of "1h2m3.5s" (Zed), "0 days 01:02:03.5" or "P0DT1H2M3.5S" (pandas). Raises ValueError."""
    text = text[1:].replace("T", "").lower() if text.startswith("P") else text
    if found := _CLOCKED.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds
    if not text or _UNITS.sub("", text):
        raise ValueError(f"{text!r} is not a valid duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in _UNITS.findall(text))


def _protocol(fields: Mapping[str, Any]) -> int:
    name = str(fields["proto"])
    if name == "unknown_transport" and not unset(fields.get("ip_proto")):  # since Zeek 7.1
        return protocol(str(fields["ip_proto"]))
    return ICMPV6 if name == "icmp" and ":" in str(fields["id.orig_h"]) else protocol(name)


def _ports(fields: Mapping[str, Any], proto: int) -> tuple[int, int]:
    """In Zeek's ports, ICMP has its type and the type that answers it; if none does, the code. 0 and 0: unknown."""
    orig, resp = port(fields.get("id.orig_p")), port(fields.get("id.resp_p"))
    if not is_icmp(proto):
        return orig, resp
    kind, code = icmp_ends(orig, resp) if orig or resp else icmp_ends(None)
    return kind, 0 if MATE[proto, kind] >= 0 else code


def _side(
    fields: Mapping[str, Any], names: tuple[str, str, str], others: int, proto: int, family: int, source: Source
) -> tuple[int, int, int]:
    """(packets, bytes, payload bytes) of a side. A missing count is estimated, with a note.

    `others`: packets without payload, according to the history.
    """
    packets, octets = fields.get(names[0]), fields.get(names[1])
    payload = count(fields.get(names[2]))
    if packets is not None and octets is not None:
        return count(packets), count(octets), payload
    guess, size = estimated(proto, family, payload, others)
    if guess:
        source.note("packets or bytes of a direction were missing; estimated from its payload bytes and `history`")
    known = guess if packets is None else count(packets)
    if octets is not None:
        return max(known, 1 if count(octets) else 0), count(octets), payload
    return known, size if packets is None else estimated(proto, family, payload, 0, known)[1], payload


_ORIG, _RESP = ("orig_pkts", "orig_ip_bytes", "orig_bytes"), ("resp_pkts", "resp_ip_bytes", "resp_bytes")

# The meaning of a state, if there is no history.
_OF_STATE = {
    "S0": "S", "S1": "Sha", "SF": "ShADadFf", "REJ": "Sr", "S2": "ShADadF", "S3": "ShADadf", "RSTO": "ShADadR",
    "RSTR": "ShADadr", "RSTOS0": "SR", "RSTRH": "hr", "SH": "SF", "SHR": "hf",
}  # fmt: skip


class _History(NamedTuple):
    """Information from a history: TCP flags (all and first of the originator, all and first of the responder), packets
    without payload of each side, and whether the responder sent payload first."""

    flags: tuple[int, int, int, int]
    orig: int
    resp: int
    spoke_first: bool


@lru_cache(maxsize=4096)
def _parsed(history: str) -> _History:
    text = history.replace("^", "")
    orig, resp = ([letter.lower() for letter in text if letter.isupper() == upper] for upper in (True, False))
    return _History(
        (*_flags(orig), *_flags(resp)),
        len(orig) - orig.count("d"),
        len(resp) - resp.count("d"),
        "d" in text and "D" not in text[: text.index("d")],
    )


def _flags(letters: list[str]) -> tuple[int, int]:
    """(all flags, flags of the first packet) of one side."""
    seen = [_HISTORY[letter] for letter in letters if letter in _HISTORY]
    return reduce(or_, seen, 0), seen[0] if seen else 0
