"""One situation as different programs write it down: each door is a function that writes a world to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import world_packets
from opened_store import flushed, opened

from trafficmond.analyze.order import HOLD, intervals
from trafficmond.analyze.run_stats import BatchInterval
from trafficmond.analyze.spread import spread
from trafficmond.flows.batch import Batch, address_text
from trafficmond.flows.names import Names
from trafficmond.flows.table import FlowTable
from trafficmond.protocols import ACK, FIN, ICMP, RST, SYN, TCP
from trafficmond.store.writer import Limits

Door = Callable[[Batch, Path], None]

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


def argus(row: Any) -> str:
    """A line of `ra -c ,` with the counts of each side."""
    src, dst = ends(row)
    flags, reply = int(row["tcp_flags"]), int(row["reply_tcp_flags"])
    state = "CON" if row["reply_packets"] else "INT"
    if row["proto"] == ICMP:
        state = "ECO"
    elif row["proto"] == TCP:
        state = "FIN" if flags & FIN else "CON" if flags & ACK else "RST" if reply & RST else "ACC" if reply else "REQ"
    start = datetime.fromtimestamp(float(row["start"]), UTC).strftime("%Y/%m/%d %H:%M:%S.%f")
    ports = ("0x0008", "0x0000") if row["proto"] == ICMP else (row["sport"], row["dport"])
    words = [
        start, f"{row['end'] - row['start']:.6f}", _PROTOCOLS.get(int(row["proto"]), int(row["proto"])), src, ports[0],
        "<->" if row["reply_packets"] and row["proto"] != TCP else "->", dst, ports[1],
        *(row[name] for name in ("packets", "reply_packets", "bytes", "reply_bytes")), state,
    ]  # fmt: skip
    return ",".join(str(word) for word in words)


def conn_log(rows: Batch, path: Path) -> None:
    """Zeek: both directions in a line, when the connection ended."""
    path.write_text(ZEEK + "\n".join(zeek(row) for row in _by_end(rows)) + "\n")


def eve_log(rows: Batch, path: Path) -> None:
    """Suricata, likewise."""
    path.write_text("\n".join(eve(row) for row in _by_end(rows)) + "\n")


def ra(rows: Batch, path: Path) -> None:
    """Argus, likewise."""
    names = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,SrcPkts,DstPkts,SrcBytes,DstBytes,State\n"
    path.write_text(names + "\n".join(argus(row) for row in _by_end(rows)) + "\n")


def capture(rows: Batch, path: Path) -> None:
    """Every packet, as tcpdump and the daemon see them."""
    path.write_bytes(world_packets.pcap(world_packets.packets(rows)))


def flows_db(rows: Batch, path: Path) -> None:
    """The daemon's own store: a row a flow and reporting interval, as the shipped settings have them."""
    over = float(rows["end"].max()) + 400.0
    table = FlowTable(1 << 18, 30.0, 300.0, seed=1)
    store, names = opened(path, Limits(1e9, 1 << 30), clock=lambda: over), Names({0: "eth0"})
    stream = spread(rows[at : at + 16384] for at in range(0, len(rows), 16384))
    for now, deltas, _ in intervals(stream, BatchInterval(10.0), HOLD, lambda _: None):
        table.update(deltas, now)
        store.put(table.due(now), names)
    store.put(table.due(over, everything=True), names)
    assert flushed(store, 60.0)
    store.close()


def vpc_with_flags(rows: Batch, path: Path) -> None:
    """AWS, a custom format: a line a direction and minute, times in seconds, of flags SYN, SYN-ACK, FIN and RST."""
    _vpc(rows, path, 60.0, flags=True)


def vpc_default(rows: Batch, path: Path) -> None:
    """AWS as it is without further ado: a line a direction and ten minutes, and no flags."""
    _vpc(rows, path, 600.0, flags=False)


def exporter(rows: Batch, path: Path, active_s: float = 60.0) -> None:
    """Records as NetFlow and IPFIX have them: a direction each, ended after a minute (`active_s`) or 15 quiet seconds,
    times in milliseconds, all flags together; written as OCSF, which is read."""
    with path.open("w") as file:
        for row in _exported(rows, active_s):
            src, dst = ends(row)
            event = {
                "class_uid": 4001,
                "src_endpoint": {"ip": src, "port": int(row["sport"])},
                "dst_endpoint": {"ip": dst, "port": int(row["dport"])},
                "traffic": {"packets": int(row["packets"]), "bytes": int(row["ip_bytes"])},
                "connection_info": {"protocol_num": int(row["proto"]), "tcp_flags": int(row["flags"])},
                "start_time": round(row["start"] * 1000),
                "end_time": round(row["end"] * 1000),
            }
            file.write(json.dumps(event) + "\n")


def exporter_csv(rows: Batch, path: Path) -> None:
    """The same as a table in the columns of AWS, as a format string of nfdump writes it."""
    with path.open("w") as file:
        file.write("srcaddr,dstaddr,srcport,dstport,protocol,packets,bytes,start,end,tcp-flags\n")
        for row in _exported(rows, 60.0):
            counts = (row[name] for name in ("sport", "dport", "proto", "packets", "ip_bytes"))
            words = [*ends(row), *counts, *(f"{row[name]:.3f}" for name in ("start", "end")), row["flags"]]
            file.write(",".join(map(str, words)) + "\n")


def _exported(rows: Batch, active_s: float) -> Batch:
    return world_packets.one_way(world_packets.packets(rows), active_s, 15.0)


def _vpc(rows: Batch, path: Path, window_s: float, *, flags: bool) -> None:
    sent = world_packets.packets(rows)
    told = sent["flags"]
    sent["flags"] = np.where(told & SYN, told & (SYN | ACK), told & (FIN | RST))  # ACK is told of a SYN-ACK alone
    lines = [_VPC + " tcp-flags" * flags]
    for row in world_packets.one_way(sent, window_s, clock_s=1.0):
        sport, dport = (0, 0) if row["proto"] == ICMP else (row["sport"], row["dport"])
        start, end = int(row["start"]), int(row["end"])
        words = [*ends(row), sport, dport, row["proto"], row["packets"], row["ip_bytes"], start, end, "ACCEPT OK"]
        lines.append(" ".join(map(str, ["2 123456789010 eni-1", *words, *([row["flags"]] * flags)])))
    path.write_text("\n".join(lines) + "\n")


_VPC = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)


def _by_end(rows: Batch) -> Batch:
    """Monitors write a flow when it ends."""
    ended: Batch = rows[np.argsort(rows["end"], kind="stable")]
    return ended
