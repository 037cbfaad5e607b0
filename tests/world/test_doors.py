"""The same from every door: one situation as different programs write it down gives the same threats."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import world_attacks as attacks
from world_attacks import Situation
from world_book import HOUR, Book
from world_house import LAPTOP, WEB
from world_judging import judge

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.batch import address_text
from trafficmond.protocols import ACK, FIN, ICMP, RST, SYN, TCP

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


def ends(row: Any) -> tuple[str, str]:
    return tuple(address_text(int(row[f"{side}_hi"]), int(row[f"{side}_lo"]), 4) for side in ("src", "dst"))  # type: ignore[return-value]


def _ip_bytes(row: Any, prefix: str) -> int:
    return int(row[prefix + "bytes"]) - 14 * int(row[prefix + "packets"])


def zeek(row: Any) -> str:
    """A line of conn.log."""
    src, dst = ends(row)
    flags, reply = int(row["tcp_flags"]), int(row["reply_tcp_flags"])
    state, history = "SF", "Dd"
    if row["proto"] == TCP and not reply:
        state, history = "S0", "S"
    elif row["proto"] == TCP and reply & RST:
        state, history = "REJ", "Sr"
    elif row["proto"] == TCP and not flags & ACK:
        state, history = "S1", "Sh"
    elif row["proto"] == TCP:
        order = "hdAD" if row["reply_bits"] else "hADd"
        state, history = ("SF", f"S{order}fF") if flags & FIN else ("S1", f"S{order}")
    elif not row["reply_packets"]:
        state, history = "S0", "D"
    words = [
        f"{row['start']:.6f}", f"C{row['start']:.0f}", src, row["sport"], dst, row["dport"],
        _PROTOCOLS[int(row["proto"])],
        "-", f"{row['end'] - row['start']:.6f}", row["payload_bytes"], row["reply_payload_bytes"], state, history,
        *(each for prefix in ("", "reply_") for each in (row[prefix + "packets"], _ip_bytes(row, prefix))),
    ]  # fmt: skip
    return "\t".join(str(word) for word in words)


ZEEK = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\t"
    "conn_state\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\n"
)


def eve(row: Any) -> str:
    """A flow event of Suricata."""
    src, dst = ends(row)
    stamps = (
        datetime.fromtimestamp(float(row[name]), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000") for name in ("start", "end")
    )
    start, end = stamps
    event: dict[str, Any] = {
        "timestamp": end, "event_type": "flow", "flow_id": int(row["start"] * 1e6) + int(row["sport"]),
        "src_ip": src, "src_port": int(row["sport"]), "dest_ip": dst, "dest_port": int(row["dport"]),
        "proto": _PROTOCOLS[int(row["proto"])].upper(),
        "flow": {
            "pkts_toserver": int(row["packets"]), "pkts_toclient": int(row["reply_packets"]),
            "bytes_toserver": int(row["bytes"]), "bytes_toclient": int(row["reply_bytes"]),
            "start": start, "end": end, "reason": "timeout",
            "state": "closed" if row["tcp_flags"] & FIN else "established",
        },
    }  # fmt: skip
    if row["proto"] == ICMP:
        event |= {"icmp_type": int(row["sport"]), "icmp_code": 0}
    if row["proto"] == TCP:
        ours, theirs = int(row["tcp_flags"]), int(row["reply_tcp_flags"])
        names = {"syn": SYN, "fin": FIN, "rst": RST, "ack": ACK}
        event["tcp"] = {
            "tcp_flags": f"{ours | theirs:02x}", "tcp_flags_ts": f"{ours:02x}", "tcp_flags_tc": f"{theirs:02x}",
            **{name: True for name, bit in names.items() if (ours | theirs) & bit},
        }  # fmt: skip
    return json.dumps(event)


DOORS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "Zeek": ("conn.log", ZEEK, zeek),
    "Suricata": ("eve.json", "", eve),
}
SITUATIONS: dict[str, Callable[[Book], Situation]] = {
    "port scan": lambda book: attacks.port_scan(book, HOUR, WEB),
    "host sweep": lambda book: attacks.host_sweep(book, HOUR, LAPTOP),
    "guessing": lambda book: attacks.guessing(book, HOUR, WEB),
    "slow guessing": lambda book: attacks.guessing(book, HOUR, WEB, 60, 180.0),
    "many guessers": lambda book: attacks.many_guessers(book, HOUR, WEB),
    "beacon": lambda book: attacks.beacon(book, HOUR, LAPTOP),
    "SYN flood": lambda book: attacks.syn_flood(book, HOUR, WEB, 500.0),
    "reflection": lambda book: attacks.reflection(book, HOUR, WEB),
    "DNS tunnel": lambda book: attacks.dns_tunnel(book, HOUR, LAPTOP, attacks.host("192.168.10.2")),
    "slow HTTP": lambda book: attacks.slow_http(book, HOUR, WEB),
    "dead beacon": lambda book: attacks.beacon(book, HOUR, LAPTOP, 42.0, 0.01, 19, alive=False),
    "upload": lambda book: attacks.exfiltration(book, HOUR, LAPTOP, 6e9),
    "datagram flood": lambda book: attacks.datagram_flood(book, HOUR, WEB),
    "ping tunnel": lambda book: attacks.ping_tunnel(book, HOUR, LAPTOP),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_one_situation_is_one_threat_through_each(situation: str, door: str, tmp_path: Path) -> None:
    book = Book(5)
    expected = SITUATIONS[situation](book)
    rows = book.rows()
    name, head, line = DOORS[door]
    order = np.argsort(rows["end"], kind="stable")  # monitors write a flow when it ends
    path = tmp_path / name
    path.write_text(head + "\n".join(line(row) for row in rows[order]) + "\n")
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    told = {(each["detector"], each["src_ip"] or "", each["dst_ip"] or "") for each in report["threats"]}
    direct = {
        (each.detector, each.src_ip or "", each.dst_ip or "")
        for each in judge(rows)
        if each.detector == expected.detector
    }
    assert {each for each in told if each[0] == expected.detector} == direct != set(), report["threats"]
