"""The referees: a few plain lines a format, which read it by its document and know nothing of trafficmon."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conversations import Conversations, Ends, add, name_of
from dissected import tshark

_SYN_ACK = (
    "the line's history is H: the originator's first packet was a SYN with ACK, and so an answer "
    "(docs.zeek.org, conn.log, history)"
)


def zeek(path: Path) -> Conversations:
    """conn.log. A line without a packet stands for one."""
    found: Conversations = {}
    for value in _zeek_lines(path):
        both = int(value.get("orig_pkts", 0)) + int(value.get("resp_pkts", 0))
        octets = int(value.get("orig_ip_bytes", 0)) + int(value.get("resp_ip_bytes", 0))
        protocol = value["proto"]
        if protocol == "icmp" and ":" in value["id.orig_h"]:
            protocol = "icmpv6"
        ports = (0, 0) if protocol.startswith("icmp") else (int(value["id.orig_p"]), int(value["id.resp_p"]))
        start = float(value["ts"])
        doubt = _SYN_ACK if value.get("history", "").startswith("H") else ""
        ends = Ends(value["id.orig_h"], ports[0], value["id.resp_h"], ports[1], protocol)
        add(found, ends, start, start + float(value.get("duration", 0)), both or 1, octets, doubt)
    return found


def _zeek_lines(path: Path) -> Iterator[dict[str, Any]]:
    names: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("{"):
            yield json.loads(line)
        elif line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif not line.startswith("#"):
            yield {name: value for name, value in zip(names, line.split("\t"), strict=False) if value != "-"}


def argus(path: Path) -> Conversations:
    """`ra -c ,`; what is not IP is not compared."""
    found: Conversations = {}
    with path.open() as file:
        for line in csv.DictReader(file):
            protocol = {"rtp": "udp", "rtcp": "udp", "udt": "udp", "ipv6-icmp": "icmpv6"}.get(
                line["Proto"], line["Proto"]
            )
            if protocol in ("arp", "llc", "ipx", "rarp"):
                continue
            with_ports = protocol in ("tcp", "udp", "sctp")
            ports = [int(line[name] or "0", 0) if with_ports else 0 for name in ("Sport", "Dport")]
            sides = [(line["SrcAddr"], ports[0]), (line["DstAddr"], ports[1])]
            if line["Dir"].strip() in ("<-", "<?"):
                sides.reverse()
            start = datetime.strptime(line["StartTime"], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
            ends = Ends(*sides[0], *sides[1], protocol)
            add(found, ends, start, start + float(line["Dur"] or 0), int(line["TotPkts"]), int(line["TotBytes"]))
    return found


def eve(path: Path) -> Conversations:
    """The last that each flow_id says of its flow."""
    flows = {event["flow_id"]: event for event in map(json.loads, path.read_text().splitlines()) if "flow" in event}
    found: Conversations = {}
    for event in flows.values():
        flow = event["flow"]
        start = datetime.fromisoformat(flow["start"]).timestamp()
        end = datetime.fromisoformat(flow.get("end", flow["start"])).timestamp()
        packets, octets = (flow[f"{what}_toserver"] + flow[f"{what}_toclient"] for what in ("pkts", "bytes"))
        ends = Ends(event["src_ip"], event["src_port"], event["dest_ip"], event["dest_port"], event["proto"].lower())
        add(found, ends, start, end, packets, octets)
    return found


def vpc(path: Path) -> Conversations:
    """Text with a header and commas."""
    found: Conversations = {}
    with path.open() as file:
        for line in csv.DictReader(file):
            ends = Ends(
                line["srcaddr"],
                int(line["srcport"]),
                line["dstaddr"],
                int(line["dstport"]),
                name_of(int(line["protocol"])),
            )
            add(found, ends, float(line["start"]), float(line["end"]), int(line["packets"]), int(line["bytes"]))
    return found


def ocsf(path: Path) -> Conversations:
    """One event in a file, as the schema's examples are."""
    event = json.loads(path.read_text())
    src, dst, traffic = event["src_endpoint"], event["dst_endpoint"], event["traffic"]
    ends = Ends(src["ip"], src["port"], dst["ip"], dst["port"], name_of(event["connection_info"]["protocol_num"]))
    times = [_ocsf_time(event, name) for name in ("start_time", "end_time")]
    found: Conversations = {}
    add(found, ends, times[0], times[1], traffic["packets"], traffic["bytes"])
    return found


def _ocsf_time(event: dict[str, Any], name: str) -> float:
    for each in (name, "time"):
        if each + "_dt" in event:
            return datetime.fromisoformat(event[each + "_dt"]).timestamp()
        if each in event:
            return float(event[each]) / (1000 if event[each] > 1e11 else 1)
    raise KeyError(name)


def own(path: Path) -> Conversations:
    """The daemon's log and the original program's, a packet a line; the first of two ends to send is who began."""
    text = path.read_text()
    lines = (
        list(csv.DictReader(text.splitlines()))
        if not text.startswith("{")
        else list(map(json.loads, text.splitlines()))
    )
    found: Conversations = {}
    for line in sorted(lines, key=lambda line: float(line["timestamp"])):
        at, protocol = float(line["timestamp"]), name_of(int(line["protocol_num"]))
        ports = (0, 0) if protocol.startswith("icmp") else (int(line["src_port"]), int(line["dst_port"]))
        ends = Ends(line["src_ip"], ports[0], line["dst_ip"], ports[1], protocol)
        key = (frozenset({(ends.src, ends.sport), (ends.dst, ends.dport)}), protocol)
        known = found.get(key)
        add(found, ends, at, at, 1, int(line["packet_size"]))
        if known:
            known.began.discard((ends.src, ends.sport)) if len(known.began) > 1 else None
    return found


BY_TITLE: dict[str, Callable[[Path], Conversations]] = {
    "packet capture (pcap, pcapng)": tshark,
    "Zeek conn.log": zeek,
    "Argus binetflow": argus,
    "Suricata EVE": eve,
    "AWS VPC flow log": vpc,
    "OCSF network activity": ocsf,
    "traffic log (JSON)": own,
    "traffic log (CSV)": own,
}
"""By the title that the report gives a format."""
