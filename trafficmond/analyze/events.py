"""Turns events of the daemon's own logs into rows. The C library reads plain JSON lines. Lines in another form (an
unusual layout, CSV) are read and checked here, and passed to it as plain lines.

A log line has no TCP flags; zero means that they are unknown.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.native import Ledger, Lines, account
from trafficmond.analyze.rows import renumber
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import SHIPPED
from trafficmond.analyze.source import BETWEEN, CHUNK, LINE_MAX, Source
from trafficmond.analyze.values import TIME_MAX, address, count, moment, port, protocol, unset, whole
from trafficmond.flows.batch import Batch

_ACTIONS = frozenset(("LOG", "DROP", "ALLOW", "LIMIT"))
REQUIRED = ("timestamp", "src_ip", "dst_ip", "packet_size", "action")
_NAME_MAX = 31  # TM_LINE_NAME without the NUL
_BRACKETS = (b"[", b"]", b"[]", b",")
_GATHER = 4096
_LOOK_AT = 64


class EventReader:
    """Rows from the events of one source. Call `feed` or `add` for input, `rows` in between, `finish` at the end."""

    def __init__(self, source: Source, stats: RunStats) -> None:
        self._source = source
        self._stats = stats
        self._ledger = Ledger(stats.batching.interval)
        self._lines = Lines(self._ledger)
        self._plain: list[bytes] = []

    def read_lines(self) -> Iterator[Batch]:
        """The rows of a source with one JSON object on each line, which may be elements of an array."""
        data = b""
        final = False
        while not final:
            more = self._source.read(CHUNK)
            final = not more
            data += more
            going = True
            while going:
                used, rejects = self._lines.feed(data, final=final)
                data = data[used:]
                for number, text in rejects:
                    self._other_line(number, text)
                going = self._ledger.full or bool(rejects)
                yield from self.rows()
            if len(data) > LINE_MAX:
                at = self._source.read_bytes - len(data)
                self._source.parse_errors.offset(self._source.name, at, "line too long")
                data = b""
            self._ledger.set_interval(self._stats.batching.interval)
        yield from self.finish()

    def add(self, number: int, value: Mapping[str, Any]) -> None:
        """Adds the event on line `number`. A threat, which the log may also have, is ignored."""
        if value.get("event") == "threat":
            return
        if "timestamp" not in value and SHIPPED in value:
            value = {**value, "timestamp": value[SHIPPED]}
        try:
            self._plain.append(_plain(value))
        except (ValueError, TypeError, OverflowError) as error:
            self._source.parse_errors.line(self._source.name, number, "no event", str(error))

    def rows(self) -> Iterator[Batch]:
        """The rows that are complete."""
        if len(self._plain) >= _GATHER:
            yield from self._feed_plain()
        if self._ledger.waiting:
            yield renumber(self._ledger.take(), self._lines.name, self._stats)

    def finish(self) -> Iterator[Batch]:
        yield from self._feed_plain()
        yield renumber(self._ledger.take(close=True), self._lines.name, self._stats)
        account(self._ledger.totals(), self._stats)

    def _feed_plain(self) -> Iterator[Batch]:
        data, self._plain = b"".join(self._plain), []
        while data:
            used, rejects = self._lines.feed(data, final=True)
            assert not rejects, rejects
            data = data[used:]
            yield renumber(self._ledger.take(), self._lines.name, self._stats)

    def _other_line(self, number: int, line: bytes) -> None:
        """Reads a line that is not in the plain form: it is unusual or damaged."""
        text = line.strip(BETWEEN)
        if text in _BRACKETS:
            return
        try:
            value = json.loads(text.rstrip(b",").lstrip(b"[").rstrip(b"]"), parse_constant=lambda _: None, strict=False)
        except (ValueError, RecursionError):
            self._source.parse_errors.line(self._source.name, number, "not JSON", text)
            return
        if isinstance(value, dict):
            self.add(number, value)
        else:
            self._source.parse_errors.line(self._source.name, number, "not a JSON object", text)


def one_a_line(head: bytes) -> bool:
    """Whether one of the first lines is a whole object; the first one may be only half a line."""
    lines = [line.strip(BETWEEN).rstrip(b",") for line in head.split(b"\n")[:_LOOK_AT]]
    return any(text.startswith(b"{") and (text.endswith(b"}") or len(lines) == 1) for text in lines)


def _plain(value: Mapping[str, Any]) -> bytes:
    """The event as a plain JSON line. Raises ValueError if a field is missing or not valid."""
    missing = [name for name in REQUIRED if value.get(name) in (None, "")]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    action = str(value["action"]).upper()
    if action not in _ACTIONS:
        raise ValueError(f"{value['action']!r} is not a valid action")
    at, size, vlan = moment(value["timestamp"]), whole(value["packet_size"]), count(value.get("vlan"))
    if not 0 <= at < TIME_MAX:
        raise ValueError(f"{at} is not a valid time; write seconds since 1970")
    if not 0 <= size < 1 << 32:
        raise ValueError(f"{size} is not a valid packet size")
    if not 0 <= vlan < 4096:
        raise ValueError(f"{vlan} is not a valid VLAN")
    number = value.get("protocol_num")
    ends = {name: str(value[name]).partition("%")[0] for name in ("src_ip", "dst_ip")}  # without an interface
    for text in ends.values():
        address(text)
    kind = _name(value.get("event"))
    event = ({"event": kind} if kind else {}) | {
        **ends,
        "src_port": port(value.get("src_port")),
        "dst_port": port(value.get("dst_port")),
        "protocol_num": protocol(str(value.get("protocol") if unset(number) else number)),
        "packet_size": size,
        "action": action,
        "interface": _name(value.get("interface")),
        "direction": "egress" if value.get("direction") == "egress" else "ingress",
        "vlan": vlan,
    }
    return f'{{"timestamp":{at:.6f},'.encode() + json.dumps(event, ensure_ascii=False).encode()[1:] + b"\n"


def _name(value: Any) -> str:
    """A name, without characters that the plain form cannot have, and shortened."""
    text = "".join(letter for letter in str(value or "") if letter.isprintable() and letter not in '"\\')
    return text.encode()[:_NAME_MAX].decode(errors="ignore")
