"""Zeek's conn.log, as TSV with its header or as JSON.

Source: https://docs.zeek.org/en/master/logs/conn.html. Bytes are those of IP (Zeek does not count link headers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond import abi
from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import looks_like, objects
from trafficmond.analyze.rows import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Records,
    address,
    count,
    counted_records,
    iso_time,
    port,
    protocol,
)  # fmt: skip
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Direction

TITLE = "Zeek conn.log"

_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")  # how the header writes its separator
_HISTORY = {"s": SYN, "h": SYN | ACK, "a": ACK, "d": PSH | ACK, "f": FIN | ACK, "r": RST}
_NEEDED = ("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")


def matches(head: bytes) -> bool:
    """Whether a file that begins so is a conn.log."""
    if head.startswith(b"#separator") or head.startswith(b"#fields\t"):
        return any(line.startswith(b"#fields") and b"id.orig_h" in line for line in head.split(b"\n"))
    return looks_like(head, "id.orig_h", "id.resp_h", "proto")


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """RECORD rows, one a connection."""
    values = _tsv(source) if source.head.startswith(b"#") else objects(source)
    records = Records()
    for number, fields in values:
        try:
            _add(fields, records)
        except (ValueError, TypeError) as error:
            source.damage.line(source.name, number, "no connection", str(error))
        if records.full:
            yield counted_records(records.take(), intake)
    yield counted_records(records.take(), intake)


def _tsv(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    separator = "\t"
    names: list[str] = []
    for number, line in source.lines():
        text = line.decode("utf-8", "replace")
        if text.startswith("#separator "):
            separator = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text.split(" ", 1)[1]) or "\t"
        elif text.startswith("#fields"):
            names = text.split(separator)[1:]
        elif text and not text.startswith("#"):
            values = text.split(separator)
            if len(values) < len(names):
                source.damage.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            else:
                yield number, {name: value for name, value in zip(names, values, strict=False) if value != "-"}


def _add(fields: Mapping[str, Any], records: Records) -> None:
    missing = [name for name in _NEEDED if name not in fields]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    start = _seconds(fields["ts"])
    history = str(fields.get("history", "")) or _OF_STATE.get(str(fields.get("conn_state", "")), "")
    tcp = str(fields["proto"]) == "tcp"
    flags, reply_flags = (_flags(history, upper=upper) if tcp else (0, 0) for upper in (True, False))
    sent = [count(str(fields.get(name, 0))) for name in ("orig_pkts", "orig_ip_bytes", "orig_bytes")]
    replied = [count(str(fields.get(name, 0))) for name in ("resp_pkts", "resp_ip_bytes", "resp_bytes")]
    if not sent[0] and not replied[0]:  # Zeek saw something, or there would be no line
        sent[0] = 1
    text = history.replace("^", "")
    spoke_first = tcp and "d" in text and "D" not in text[: text.index("d")]
    records.add(
        address(str(fields["id.orig_h"])),
        address(str(fields["id.resp_h"])),
        (port(fields["id.orig_p"]), port(fields["id.resp_p"])),
        protocol(str(fields["proto"])) if fields["proto"] != "icmp" or ":" not in str(fields["id.orig_h"]) else 58,
        (start, start + float(fields.get("duration", 0))),
        (sent[0], sent[1], sent[2]),
        (replied[0], replied[1], replied[2]),
        (*flags, *reply_flags),
        reply_bits=abi.BIT_SPOKE_FIRST if spoke_first else 0,
        direction=Direction.EGRESS if str(fields.get("local_orig")).upper() in ("T", "TRUE") else Direction.INGRESS,
    )


# What a state says where there is no history.
_OF_STATE = {
    "S0": "S", "S1": "Sha", "SF": "ShADadFf", "REJ": "Sr", "S2": "ShADadF", "S3": "ShADadf", "RSTO": "ShADadR",
    "RSTR": "ShADadr", "RSTOS0": "SR", "RSTRH": "hr", "SH": "SF", "SHR": "hf",
}  # fmt: skip


def _flags(history: str, *, upper: bool) -> tuple[int, int]:
    """(OR of all, those of the first packet) of one side; upper case is the originator."""
    seen = [_HISTORY[letter.lower()] for letter in history if letter.isupper() == upper and letter.lower() in _HISTORY]
    total = 0
    for value in seen:
        total |= value
    return total, seen[0] if seen else 0


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return iso_time(str(value))
