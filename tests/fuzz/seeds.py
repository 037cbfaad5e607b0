"""What the fuzzing targets begin with: a small file of each format, in several of its forms."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "analyze"))
sys.path.append(str(Path(__file__).parents[1]))

sys.path.append(str(Path(__file__).parents[2]))

from captures import AT, block, enhanced, ethernet, interface, ipv4, ipv6, option, pcap, section, tcp, udp
from opened_store import opened

from trafficmond.store.schema import FLOW_COLUMNS
from trafficmond.store.writer import Limits

_ENDS = {"src_ip": "192.0.2.10", "src_port": 40000, "dest_ip": "198.51.100.7", "dest_port": 443, "proto": "TCP"}
_WHEN = "2023-11-14T22:13:20.500000+0000"
_FLOW = {"pkts_toserver": 6, "pkts_toclient": 5, "bytes_toserver": 420, "bytes_toclient": 4600, "start": _WHEN}
_CONN = {
    **{"ts": AT, "uid": "C1", "id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7"},
    **{"id.resp_p": 443, "proto": "tcp", "service": "ssl", "duration": 1.5, "orig_bytes": 100, "resp_bytes": 4000},
    **{"conn_state": "SF", "history": "ShADadFf", "orig_pkts": 6, "orig_ip_bytes": 420, "resp_pkts": 5},
    **{"resp_ip_bytes": 4600, "local_orig": "T", "ip_proto": 6},
}
_LINE = {
    **{"timestamp": AT, "src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "src_port": 40000, "dst_port": 443},
    **{"protocol": "TCP", "protocol_num": 6, "packet_size": 60, "action": "LOG", "interface": "eth0", "event": "new"},
}
_VPC = "2 123456789012 eni-0aa 192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060 ACCEPT OK"
_OCSF = {
    **{"class_uid": 4001, "time": 1700000000000, "start_time_dt": "2023-11-14T22:13:20Z", "end_time": 1700000060000},
    **{"src_endpoint": {"ip": "192.0.2.10", "port": 40000, "interface_uid": "eni-1"}, "disposition": "Blocked"},
    **{"dst_endpoint": {"ip": "198.51.100.7", "port": 443}, "traffic": {"packets": 6, "bytes": 420}},
    **{"connection_info": {"protocol_num": 6, "tcp_flags": 19, "direction_id": 2}, "action_id": 2},
}
_EVENT = "30fb56ddb22d4063812a297a1c61dd63"


def seeds(target: str) -> Iterator[bytes]:
    """Files for one target."""
    yield from _SEEDS[target]()
    if target == "any":
        for other in _SEEDS:
            if other != "any":
                for seed in _SEEDS[other]():
                    yield from (seed, gzip.compress(seed, mtime=0))


def _lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _dns() -> Iterator[bytes]:
    """Of a question of one or two labels: an address, an alias, what was cut."""
    for name, kind, data in (
        (b"\3www\7example\0", 1, b"\xc0\0\2\7"),
        (b"\7example\0", 28, b" \x01\r\xb8" + bytes(11) + b"\7"),
    ):
        asked = name + bytes((0, kind, 0, 1))
        record = b"\xc0\x0c" + bytes((0, kind, 0, 1, 0, 0, 0, 60, 0, len(data))) + data
        alias = b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c"
        for head in (b"\0\7\x81\x80\0\1\0\2" + bytes(4), b"\0\7\x83\x80\0\1\0\4" + bytes(4)):
            yield bytes((len(asked),)) + asked + head + asked + alias + record


def _capture() -> Iterator[bytes]:
    frames = [ethernet(ipv4(tcp())), ethernet(ipv4(tcp(80, 1234, 0x12)), tags=(5, 6)), ethernet(ipv6(udp()), 0x86DD)]
    frames += [
        ethernet(bytes.fromhex("00012140") + ipv4(udp(), 17), 0x8847),
        ethernet(bytes.fromhex("110000010016 0021") + ipv4(udp(), 17), 0x8864),
        ethernet(bytes.fromhex("010100010064 0800") + ipv4(tcp()), 0x8909),
        ethernet(bytes.fromhex("aaaa03000000 0800") + ipv4(tcp()), 60),
        ethernet(ipv6(bytes.fromhex("2c00010400000000 11000001 00000007") + udp(), 0), 0x86DD),
    ]
    timed = [(AT + at / 10, frame) for at, frame in enumerate(frames)]
    for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34):
        for order in "<>":
            yield pcap(timed, magic=magic, order=order)
    for link, head in _LINKS.items():
        yield pcap([(AT, bytes.fromhex(head) + frame[14:]) for frame in frames[::2]], link=link, snap=90)
        yield pcap([(AT, bytes.fromhex(head) + frame) for frame in frames[:2]], link=link)
    for order in "<>":
        head = section(order) + interface(1, option(9, b"\x09", order) + option(14, bytes(8), order), order)
        blocks = b"".join(enhanced(int(AT * 1e9), frame, order=order) for frame in frames)
        simple = block(3, struct.pack(order + "I", len(frames[0])) + frames[0], order)
        yield head + blocks
        yield head + simple + blocks + section(order) + interface(9, option(2, b"ppp0", order), order) + simple
    yield pcap(timed[:2]) + pcap(timed[2:4], order=">")


_LINKS = {
    **{0: "02000000", 6: "1040" + "02" * 12 + "aaaa030000000800", 8: "00" * 16, 9: "ff0302810001014000", 10: "50"},
    **{50: "0f000800", 51: "110000010020 0021", 100: "aaaa030000000800", 101: "", 104: "0f000800"},
    105: "0800" + "00" * 22,
    **{107: "184103cc", 108: "00000002", 109: "02000000" + "00" * 8, 113: "00" * 14 + "0800", 117: "3d02" + "00" * 62},
    **{119: "00" * 144 + "0800" + "00" * 22, 122: "00" * 16 + "aaaa030000000800", 123: "02000064aaaa030000000800"},
    **{127: "00000c00" + "00" * 8 + "8800" + "00" * 24, 138: "00" * 16 + "0800", 163: "0000000100000040" + "00" * 56},
    **{166: "01ff030021", 192: "0000080001000000", 204: "0021", 205: "000f000800", 219: "00010140"},
    **{226: "0102" + "00" * 22, 228: "", 229: "", 239: "02000000" + "3c000900", 240: "00000000"},
    **{241: "00000000" + "55" * 7 + "d5", 242: "00" * 40 + "08000000"},
    258: "6c0000000100000001000000" + "00" * 96,
    **{274: "55" * 7 + "d5", 276: "0800" + "00" * 18, 281: "02" * 12 + "000000000800", 282: "00000000"},
    **{283: "02" * 12 + "400000000800", 284: "02" * 12 + "dada0000c00000000800"},
}
"""Link types, and what stands before an IP packet or a frame there."""


def _own_json() -> Iterator[bytes]:
    yield _lines(_LINE, {**_LINE, "src_ip": "2001:db8::1", "protocol": "ICMPv6", "protocol_num": 58}, _LINE)
    yield json.dumps([_LINE, _LINE], indent=1).encode()
    shipped = {"@timestamp": _WHEN, **_LINE, "src_port": "40000", "vlan": 7, "direction": "egress"}
    yield _lines({name: value for name, value in shipped.items() if name != "timestamp"})


def _own_csv() -> Iterator[bytes]:
    yield f"{','.join(_LINE)}\n{','.join(map(str, _LINE.values()))}\n".encode()


def _zeek() -> Iterator[bytes]:
    for separator, shown in (("\t", "\\x09"), (",", "\\x2c")):
        lines = [f"#separator {shown}", f"#unset_field{separator}-", f"#path{separator}conn"]
        lines += [separator.join(["#fields", *_CONN]), separator.join(map(str, _CONN.values()))]
        yield "\n".join([*lines, lines[-1]]).encode()
    yield _lines(
        _CONN, {"_path": "dns", **_CONN}, {"conn": {"id": {"orig_h": "192.0.2.1"}}}, {**_CONN, "duration": None}
    )

    named = [",".join(_CONN), ",".join(map(str, _CONN.values()))]
    yield "\n".join([*named, *named, "#separator \\x7c\\x7c", "||".join(["#fields", *_CONN]), named[1]]).encode()
    yield _lines({"@timestamp": _WHEN, **{name.replace("id.", "id_"): _CONN[name] for name in list(_CONN)[1:]}})


def _argus() -> Iterator[bytes]:
    yield (
        b"StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes\n"
        b"2011/08/10 09:46:53.047277,3550.182373,udp,192.0.2.1,13363,  <->,198.51.100.1,0x0050,CON,0,0,12,875,413\n"
        b"1312969613.047277,1,icmp,192.0.2.1,0x0303,->,198.51.100.1,,ECO,0,0,2,90,45\n"
        b"08/10.09:46:53.047277,1,tcp,192.0.2.1,https,<?,198.51.100.1,80,FSPA_SA,0,0,2,90,45\n"
    )

    yield (
        b"         StartTime      Flgs  Proto            SrcAddr  Sport   Dir            DstAddr  Dport  TotPkts   "
        b"TotBytes State\n"
        b"   16:45:02.466908              man                  0      0                        0      0        0  "
        b"        0   STA\n"
        b"   04:02:24.211825  e    F      tcp       192.168.1.10.47278    <?>       192.168.1.25.ssh           2   "
        b"     118   RST\n"
        b"   10:57:01.268696  e        ipv6-*            ff02::1.0x0080    ->            ff02::2.0x0000     1000   "
        b"   78000   ECO\n"
    )


def _eve() -> Iterator[bytes]:
    event = {
        "timestamp": _WHEN,
        "flow_id": 1,
        "event_type": "flow",
        **_ENDS,
        "tcp": {"tcp_flags_ts": "1b"},
        "flow": _FLOW,
    }
    half = {"timestamp": _WHEN, "flow_id": 1, "event_type": "netflow", **_ENDS, "netflow": {"pkts": 5, "bytes": 60}}
    back = {**half, "src_ip": "198.51.100.7", "src_port": 443, "dest_ip": "192.0.2.10", "dest_port": 40000}
    alert = {**event, "event_type": "alert", "direction": "to_client", "alert": {"action": "blocked"}}
    yield _lines(event, half, back, alert, {"timestamp": _WHEN, "event_type": "stats"})
    shipped = {"@timestamp": _WHEN, **{name: value for name, value in half.items() if name != "timestamp"}}
    ping = {**_ENDS, "proto": "IPv6-ICMP", "icmp_type": 129, "icmp_code": 0, "src_ip": "2001:db8::1"}
    yield _lines(shipped, {**event, **ping, "dest_ip": "2001:db8::2"}, {**half, **ping, "dest_ip": "2001:db8::2"})


def _vpc() -> Iterator[bytes]:
    yield f"{_VPC}\n2023-11-14T22:13:20.000Z {_VPC}\n".encode()
    names = b"version,srcaddr,dstaddr,protocol,packets,bytes,start,tcp-flags\n"
    yield names + b"5,192.0.2.1,192.0.2.2,6,1,60,1700000000,18\n"
    yield json.dumps({"events": [{"message": _VPC}, {"message": _VPC}], "nextToken": "x"}).encode()


def _ecs() -> Iterator[bytes]:
    when = {"start": _WHEN, "duration": 1500000000, "type": ["denied"]}
    sides = ({"ip": f"192.0.2.{at}", "port": 40000 + at, "bytes": 420, "packets": 6} for at in (1, 2))
    event = dict(zip(("source", "destination"), sides, strict=True))
    event |= {"@timestamp": _WHEN, "event": when, "network": {"transport": "tcp", "bytes": 840}, "flow": {"id": "EAT"}}
    yield _lines(event, {**event, "flow": {"id": "EAT", "final": True}})
    pointed = {"source.ip": "192.0.2.1", "destination.ip": "192.0.2.2", "network.iana_number": "58"}
    yield _lines({"@timestamp": _WHEN, **pointed, "network.bytes": 420, "event.end": _WHEN})


def _ocsf() -> Iterator[bytes]:
    yield _lines(_OCSF, {**_OCSF, "class_uid": 3002})


def _journal() -> Iterator[bytes]:
    fields = {f"TRAFFICMON_{name.upper()}": str(value) for name, value in _LINE.items()}
    entry = {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000250000", "MESSAGE_ID": _EVENT, **fields}
    yield _lines(entry, {**entry, "TRAFFICMON_INTERFACE": [101, 255]}).replace(b'{"__C', b'\x1e{"__C')


def _flows_db() -> Iterator[bytes]:
    """Small pages, so that the whole of it is below the length that targets are given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flows.db"
        opened(path, Limits(1e9, 1 << 30), clock=lambda: AT).close()
        with contextlib.closing(sqlite3.connect(path)) as store:
            row = {name: AT if kind == "REAL" else 7 for name, kind in FLOW_COLUMNS.items()}
            row |= {"src_ip": "192.0.2.1", "dst_ip": "2001:db8::1", "action": "drop", "direction": "ingress"}
            for target in ("192.0.2.2", "198.51.100.7"):
                told = {**row, "dst_ip": target}
                columns = ", ".join(told), ", ".join("?" * len(told))
                store.execute(f"INSERT INTO flows_1 ({columns[0]}) VALUES ({columns[1]})", list(told.values()))
            threat = ["t-1", "port_scan", "high", "T1046", "192.0.2.1", None, AT, AT, 60, "60 ports", "{}", "closed"]
            store.execute(f"INSERT INTO threats VALUES ({', '.join('?' * len(threat))})", threat)
            store.commit()
            for change in ("journal_mode = DELETE", "page_size = 512"):
                store.execute(f"PRAGMA {change}")
            store.execute("VACUUM")
        yield path.read_bytes()
    yield bytes(range(256))


_SEEDS: dict[str, Any] = {
    "any": lambda: iter(()),
    "capture": _capture,
    "dns": _dns,
    "own_json": _own_json,
    "own_csv": _own_csv,
    "zeek": _zeek,
    "argus": _argus,
    "eve": _eve,
    "vpc": _vpc,
    "ocsf": _ocsf,
    "ecs": _ecs,
    "journal": _journal,
    "flows_db": _flows_db,
}
