"""Lines as the tools themselves wrote them, of packets that are known: Argus 3.0.8 and 5.0.2, Suricata 7.0.10."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from readings import Reading

from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings
from trafficmond.flows.batch import address_text

RA = "StartTime,Flgs,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,TotPkts,TotBytes,State\n"  # its default columns


def one(content: str, reading: Reading) -> tuple[Any, ...]:
    """(source, its port or type, destination, its port or code, protocol) of the one flow."""
    rows, stats = reading(content.encode())
    assert stats.parse_errors.total == 0, stats.parse_errors.places
    row = rows[rows["first"].argmin()]
    family = int(row["family"])
    src, dst = (address_text(int(row[f"{side}_hi"]), int(row[f"{side}_lo"]), family) for side in ("src", "dst"))
    return src, int(row["sport"]), dst, int(row["dport"]), int(row["proto"])


@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        # ra 5.0.2, the port columns by name, as numbers, and with a code of 0
        ("1700000003.250000, e        ,icmp,192.0.2.4,dstunreach, ->,198.51.100.4,unrport,1,70,URP", 3, 3),
        ("1700000004.250000, e        ,icmp,192.0.2.4,dstunreach, ->,198.51.100.4,unrfilter,1,70,URFIL", 3, 13),
        ("1700000004.250000, e        ,icmp,192.0.2.4,0x0003, ->,198.51.100.4,0x000d,1,70,URFIL", 3, 13),
        ("1700000006.250000, e        ,icmp,192.0.2.4,redirect, ->,198.51.100.4,redhost,1,70,RED", 5, 1),
        ("1700000010.250000, e        ,icmp,192.0.2.4,timeexceed, ->,198.51.100.4,,1,70,TXD", 11, 0),
        ("1700000011.250000, e        ,icmp,192.0.2.4,0x000b, ->,198.51.100.4,0x0001,1,70,TXD", 11, 1),
        ("1700000007.250000, e        ,icmp,192.0.2.4,echo, ->,198.51.100.4,,1,70,ECO", 8, 0),
        ("1700000008.250000, e        ,icmp,192.0.2.4,rtrad, ->,198.51.100.4,,1,70,RTA", 9, 0),
        # ra 3.0.8.2: code and type in one, and something else in the place of the other port
        ("1700000001.250000, e        ,icmp,192.0.2.4,0x0003,   ->,198.51.100.4,0xc633,1,70,URN", 3, 0),
        ("1700000003.250000, e        ,icmp,192.0.2.4,0x0303,   ->,198.51.100.4,0xe914,1,70,URP", 3, 3),
        ("1700000004.250000, e        ,icmp,192.0.2.4,0x0d03,   ->,198.51.100.4,0x0000,1,70,URFIL", 3, 13),
        ("1700000011.250000, e        ,icmp,192.0.2.4,0x010b,   ->,198.51.100.4,0x0000,1,70,TXD", 11, 1),
        ("1700000007.250000, e        ,icmp,192.0.2.4,0x0008,   ->,198.51.100.4,0x0100,1,70,ECO", 8, 0),
    ],
)
def test_icmp_as_argus_writes_it(line: str, kind: int, code: int, reading: Reading) -> None:
    assert one(f"{RA}{line}\n", reading) == ("192.0.2.4", kind, "198.51.100.4", code, 1)


def test_icmp_whose_name_nobody_knows_is_of_unknown_type(tmp_path: Path) -> None:
    path = tmp_path / "ra"
    path.write_text(f"{RA}1700000003.25, e ,icmp,192.0.2.4,newkind, ->,198.51.100.4,,1,70,NEW\n")
    report = analyze([str(path)], Settings(), 0.0)
    (flow,) = report["flow_analysis"]["top_flows"]
    assert (flow["src_ip"], flow["src_port"], report["damage"]["total"]) == ("192.0.2.4", None, 0)


@pytest.mark.parametrize(
    ("name", "number"),  # what `ra -n` and `ra -nn` say of the same flows
    [
        *(("ip", 0), ("ipnip", 4), ("st2", 5), ("bbn-rcc", 10), ("nvp", 11), ("dcn", 19), ("sep", 33), ("mhrp", 48)),
        *(("ipv6-no", 59), ("ipcv", 71), ("ipip", 94), ("aes-sp3-d", 96), ("pri-enc", 99), ("ipx-n-ip", 111)),
        *(("zero", 114), ("sccopmce", 128), ("ib", 253), ("unas", 255), ("any", 255), ("udt", 17)),
    ],
)
def test_protocols_by_the_names_of_argus(name: str, number: int, reading: Reading) -> None:
    line = f"1231045344.9, e        ,{name},192.168.1.10,, ->,192.168.1.25,,1,34,INT\n"
    assert one(RA + line, reading) == ("192.168.1.10", 0, "192.168.1.25", 0, number)


SURICATA = """
{"timestamp":"2022-09-24T21:23:16.398593+0000","flow_id":1648959005851909,"event_type":"flow","src_ip":"192.168.1.109","dest_ip":"192.168.1.120","proto":"ICMP","icmp_type":8,"icmp_code":0,"response_icmp_type":0,"response_icmp_code":0,"flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":42,"bytes_toclient":42,"start":"2022-09-24T21:23:17.515000+0000","end":"2022-09-24T21:23:17.527436+0000","age":0,"state":"established","reason":"shutdown","alerted":false}}
{"timestamp":"2022-09-24T21:23:16.398593+0000","flow_id":1648959005851909,"event_type":"netflow","src_ip":"192.168.1.109","dest_ip":"192.168.1.120","proto":"ICMP","icmp_type":8,"icmp_code":0,"app_proto":"unknown","netflow":{"pkts":1,"bytes":42,"start":"2022-09-24T21:23:17.515000+0000","end":"2022-09-24T21:23:17.527436+0000","age":0,"min_ttl":53,"max_ttl":53}}
{"timestamp":"2022-09-24T21:23:16.398593+0000","flow_id":1648959005851909,"event_type":"netflow","src_ip":"192.168.1.120","dest_ip":"192.168.1.109","proto":"ICMP","icmp_type":0,"icmp_code":0,"app_proto":"unknown","netflow":{"pkts":1,"bytes":42,"start":"2022-09-24T21:23:17.515000+0000","end":"2022-09-24T21:23:17.527436+0000","age":0,"min_ttl":64,"max_ttl":64}}
"""


@pytest.mark.parametrize("which", [(0, 1, 2), (0,), (1, 2), (2, 1, 0), (2, 0)], ids=str)
def test_a_ping_as_suricata_tells_it(which: tuple[int, ...], tmp_path: Path) -> None:
    lines = SURICATA.strip().split("\n")
    path = tmp_path / "eve.json"
    path.write_text("\n".join(lines[number] for number in which))
    report = analyze([str(path)], Settings(), 0.0)
    (flow,) = report["flow_analysis"]["top_flows"]
    ends = ("192.168.1.109", 8, "192.168.1.120", 0)
    assert tuple(flow[name] for name in ("src_ip", "src_port", "dst_ip", "dst_port")) == ends
    assert (flow["packets"], flow["bytes"]) == (2, 84)


CONN = {
    **{"ts": 1700000000.25, "id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7"},
    **{"id.resp_p": 443, "proto": "tcp", "duration": 1.5, "conn_state": "SF", "history": "ShADadFf", "orig_pkts": 6},
    **{"orig_ip_bytes": 420, "resp_pkts": 5, "resp_ip_bytes": 4600},
}


def test_a_stream_of_all_of_zeeks_logs_holds_each_connection_once(tmp_path: Path) -> None:
    other = {"ts": 1700000000.5, "id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7"}
    records = [
        {"_path": "conn", **CONN},
        {"_path": "ssl", **other, "id.resp_p": 443, "version": "TLSv13"},
        {"_path": "dns", **other, "id.resp_p": 53, "proto": "udp", "query": "example.net"},
        {"_path": "stats", "ts": 1700000001.0, "mem": 5},
        {"_path": "conn", **CONN, "id.orig_p": 40001},
    ]
    path = tmp_path / "stream"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = analyze([str(path)], Settings(), 0.0)
    assert report["summary"]["total_packets"] == 22
    assert report["summary"]["unique_flows"] == 2
    assert report["damage"]["total"] == 0
    notes = report["summary"]["sources"][0]["notes"]
    assert notes == {f"records of Zeek's {name} were skipped": 1 for name in ("ssl", "dns", "stats")}


@pytest.mark.parametrize(
    "broken", ["#fields", "#fields\t", "#separator", "#separator ", "#separator \\x", "#path", "#"]
)
def test_half_a_header_of_zeek_does_not_end_the_reading(broken: str, tmp_path: Path) -> None:
    whole = ["#separator \\x09", "#path\tconn", "\t".join(["#fields", *CONN]), "\t".join(map(str, CONN.values()))]
    path = tmp_path / "conn.log"
    path.write_text("\n".join([*whole, broken, whole[3], *whole]) + "\n")
    report = analyze([str(path)], Settings(), 0.0)
    assert report["summary"]["total_packets"] >= 22
    assert report["summary"]["total_packets"] + 11 * report["damage"]["total"] == 33


@pytest.mark.parametrize("history", ["^hadf", "^had", "h"])
def test_a_zeek_connection_whose_originator_sent_nothing(history: str, reading: Reading) -> None:
    """Its answers alone were captured: they are the responder's packets, and the originator began."""
    silent = {"orig_pkts": 0, "orig_ip_bytes": 0, "history": history}
    rows, stats = reading((json.dumps({**CONN, **silent}) + "\n").encode())
    first, row = rows
    assert (int(first["packets"]), int(first["sport"]), bool(first["first"] < row["first"])) == (0, 40000, True)
    assert address_text(int(row["src_hi"]), int(row["src_lo"]), 4) == "198.51.100.7"
    assert (int(row["packets"]), int(row["bytes"]), int(row["sport"]), int(row["dport"])) == (5, 4600, 443, 40000)
    assert stats.parse_errors.total == 0


@pytest.mark.parametrize("number", [47, "47", 47.0, 2, 89])
def test_a_transport_that_zeek_has_no_name_for_is_that_of_its_number(number: Any, reading: Reading) -> None:
    """Since Zeek 7.1 a connection has ip_proto besides."""
    told = {**CONN, "proto": "unknown_transport", "ip_proto": number, "id.orig_p": 0, "id.resp_p": 0}
    rows, stats = reading(json.dumps(told).encode())
    assert (set(rows["proto"].tolist()), stats.parse_errors.total) == ({int(number)}, 0)


def test_what_pandas_writes_for_nothing_is_nothing(reading: Reading) -> None:
    content = json.dumps({**CONN, "duration": float("nan"), "orig_bytes": float("nan")}).encode()
    assert b"NaN" in content
    rows, stats = reading(content)
    assert (int(rows["packets"].sum()), float(rows["last"].max() - rows["first"].min())) == (
        11,
        pytest.approx(0, abs=0.01),
    )
    assert stats.parse_errors.total == 0


VPC = {"srcAddr": "192.0.2.10", "dstAddr": "198.51.100.7", "srcPort": "40000", "dstPort": "443", "protocol": "6"}


def test_the_fields_that_cloudwatch_insights_found(reading: Reading) -> None:
    """aws logs get-query-results: a record is a list of fields, with a pointer to the record at its end or without."""
    counts = {"packets": "6", "bytes": "420", "start": "1700000000", "action": "REJECT"}
    records = [
        {**VPC, "srcPort": port, **counts, **({"@ptr": "x"} if int(port) % 2 else {})} for port in ("1", "3", "2", "4")
    ]
    results = [[{"field": name, "value": value} for name, value in record.items()] for record in records]
    rows, stats = reading(json.dumps({"results": results, "status": "Complete"}, indent=4).encode())
    assert sorted(rows["sport"].tolist()) == [1, 2, 3, 4]
    assert int(rows["packets"].sum()) == 24
    assert stats.parse_errors.total == 0


@pytest.mark.parametrize("form", ["\x1e{}\n", "data: {}\n\n", "{}\n"], ids=["json-seq", "json-sse", "json"])
def test_a_journal_in_each_form_of_its_json(form: str, reading: Reading) -> None:
    """Of json-seq, a record separator is before each entry (RFC 7464)."""
    fields = {"SRC_IP": "192.0.2.1", "DST_IP": "192.0.2.2", "SRC_PORT": "40000", "DST_PORT": "443", "PROTOCOL": "TCP"}
    fields |= {"TIMESTAMP_ISO": "2023-11-14T22:13:20.250Z", "PACKET_SIZE": "60", "ACTION": "LOG", "EVENT": "new"}
    fields |= {"PROTOCOL_NUM": "6", "TIMESTAMP": "1700000000", "INTERFACE": "eth0"}
    event = {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000250000", "MESSAGE": "x"}
    event |= {"MESSAGE_ID": "30fb56ddb22d4063812a297a1c61dd63", **{f"TRAFFICMON_{k}": v for k, v in fields.items()}}
    other = {"__CURSOR": "s=2", "__REALTIME_TIMESTAMP": "1700000000250000", "MESSAGE": "started"}
    content = "".join(form.format(json.dumps(entry)) for entry in (other, event, {**event, "__CURSOR": "s=3"}))
    rows, stats = reading(content.encode())
    assert (int(rows["packets"].sum()), int(rows["bytes"].sum())) == (2, 120)
    assert stats.parse_errors.total == 0


def test_records_of_another_program_are_taken_out_of_the_journal(reading: Reading) -> None:
    """`journalctl -u suricata -o json`."""
    event = {"timestamp": "2023-11-14T22:13:20Z", "event_type": "flow", "proto": "UDP", "flow_id": 1}
    event |= dict(zip(("src_ip", "src_port", "dest_ip", "dest_port"), ENDS, strict=True))
    event["flow"] = {"pkts_toserver": 6, "bytes_toserver": 420, "start": "2023-11-14T22:13:20Z"}
    entries = [{"__CURSOR": "s", "__REALTIME_TIMESTAMP": "1", "MESSAGE": text} for text in ("up", json.dumps(event))]
    _, stats = reading("".join(json.dumps(entry) + "\n" for entry in entries).encode())
    assert (stats.seen.packets, stats.seen.bytes) == (6, 420)


def _top(path: Path) -> list[tuple[Any, ...]]:
    report = analyze([str(path)], Settings(), 0.0)
    assert report["damage"]["total"] == 0
    names = ("src_ip", "src_port", "dst_ip", "dst_port", "packets", "bytes")
    return [tuple(flow[name] for name in names) for flow in report["flow_analysis"]["top_flows"]]


ENDS = ("192.0.2.10", 40000, "198.51.100.7", 443)


@pytest.mark.parametrize("answers", [3, 5, 6, 50])
def test_two_vpc_records_of_one_minute_are_one_connection(answers: int, tmp_path: Path) -> None:
    """Each side's flags are those of the whole minute: the end of one does not come before packets of the other."""
    path = tmp_path / "vpc"
    path.write_text(
        "srcaddr dstaddr srcport dstport protocol packets bytes start end tcp-flags\n"
        f"198.51.100.7 192.0.2.10 443 40000 6 {answers} 4600 1700000000 1700000060 19\n"
        "192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060 3\n"
    )
    assert _top(path) == [(*ENDS, 6 + answers, 5020)]


def test_a_number_in_quotes_is_the_same_connection(tmp_path: Path) -> None:
    start = "2023-11-14T22:13:20.0+0000"
    flow = {"pkts_toserver": 6, "pkts_toclient": 5, "bytes_toserver": 420, "bytes_toclient": 4600, "start": start}
    event = {"timestamp": start, "event_type": "flow", "proto": "TCP", "flow": flow}
    event |= dict(zip(("src_ip", "src_port", "dest_ip", "dest_port"), ENDS, strict=True))
    path = tmp_path / "eve.json"
    path.write_text("".join(json.dumps({**event, "flow_id": number}) + "\n" for number in ("1804289383", 1804289383)))
    assert _top(path) == [(*ENDS, 11, 5020)]


@pytest.mark.parametrize("total", [{}, {"packets": 11, "bytes": 5020}])
def test_ocsf_that_tells_both_directions(total: dict[str, int], tmp_path: Path) -> None:
    sides = {"packets_out": 6, "bytes_out": 420, "packets_in": 5, "bytes_in": 4600}
    src, dst = ({"ip": ENDS[at], "port": ENDS[at + 1]} for at in (0, 2))
    event = {"class_uid": 4001, "time": 1700000000000, "src_endpoint": src, "dst_endpoint": dst}
    path = tmp_path / "ocsf"
    path.write_text(json.dumps({**event, "connection_info": {"protocol_num": 6}, "traffic": {**sides, **total}}))
    assert _top(path) == [(*ENDS, 11, 5020)]
    (source, *_) = analyze([str(path)], Settings(), 0.0)["top_sources"]
    assert {source["ip"], source["packets"]} in ({"192.0.2.10", 6}, {"198.51.100.7", 5})


def test_argus_in_quotes(tmp_path: Path) -> None:
    names = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,TotPkts,TotBytes"
    values = "1312969613.0,1,udp,192.0.2.10,40000,->,198.51.100.7,443,INT,4,400"
    path = tmp_path / "ra"
    path.write_text("".join(",".join(f'"{value}"' for value in line.split(",")) + "\n" for line in (names, values)))
    assert _top(path) == [(*ENDS, 4, 400)]


ARGUS = "StartTime,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,TotPkts,TotBytes,State,SrcPkts,DstPkts\n"


def test_what_is_not_ip_may_have_its_ethertype_for_a_protocol(reading: Reading) -> None:
    """As `ra -nn` writes it."""
    _, stats = reading((ARGUS + "1312969613.0,2054,192.0.2.1,,who,192.0.2.2,,6,360,CON,6,0\n").encode())
    assert (stats.not_ip.packets, stats.not_ip.bytes, stats.parse_errors.total) == (6, 360, 0)


@pytest.mark.parametrize(("sent", "back"), [(1, 0), (0, 1), (3, 0)])
def test_a_side_of_argus_that_sent_no_packet_sent_no_bytes(sent: int, back: int, reading: Reading) -> None:
    line = f"1312969613.0,tcp,192.0.2.1,1,<->,192.0.2.2,2,{sent + back},60,CON,{sent},{back}\n"
    rows, stats = reading((ARGUS + line).encode())
    assert (stats.in_flows.bytes, stats.parse_errors.total) == (60, 0)
    assert dict(zip(rows["sport"].tolist(), rows["packets"].tolist(), strict=True)) == {1: sent} | (
        {2: back} if back else {}
    )
