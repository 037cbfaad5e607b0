"""Flow records of other monitors: totals equal to a plain recount of the real files, roles and flags as they say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from readings import Reading

from trafficmond.analyze.values import address
from trafficmond.flows.batch import Batch, address_text
from trafficmond.model import Action

ZEEK = (
    "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\torig_bytes\tresp_bytes"
)
ZEEK += "\tconn_state\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\n"


def _conn(**fields: object) -> bytes:
    values = {
        "ts": 1000.5,
        "id.orig_h": "192.0.2.1",
        "id.orig_p": 5000,
        "id.resp_h": "192.0.2.2",
        "id.resp_p": 22,
        "proto": "tcp",
        "duration": 1.5,
        "orig_bytes": 100,
        "resp_bytes": 200,
        "conn_state": "SF",
        "history": "ShADadFf",
        "orig_pkts": 6,
        "orig_ip_bytes": 400,
        "resp_pkts": 4,
        "resp_ip_bytes": 500,
    }
    return (ZEEK + "\t".join(str(value) for value in (values | fields).values()) + "\n").encode()


def _sides(rows: Batch) -> dict[str, np.void]:
    return {address_text(int(row["src_hi"]), int(row["src_lo"]), int(row["family"])): row for row in rows}


@pytest.mark.parametrize("name", ["iot23_34-1_mirai_conn.log.labeled", "strato_010_conn.log.labeled"])
def test_zeek_totals_equal_a_recount(name: str, data: Path, reading: Reading) -> None:
    packets = octets = flows = 0
    fields: list[str] = []
    for line in (data / "flows" / name).read_text().splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif not line.startswith("#"):
            value = dict(zip(fields, line.split("\t"), strict=False))
            both = int(value["orig_pkts"]) + int(value["resp_pkts"])
            packets += both or 1
            octets += int(value["orig_ip_bytes"]) + int(value["resp_ip_bytes"])
            flows += 1
    _, stats = reading(data / "flows" / name)
    assert (stats.records, stats.seen.packets, stats.seen.bytes) == (flows, packets, octets)
    assert stats.parse_errors.total == 0


@pytest.mark.parametrize("name", ["logs/zeek_conn_zat.jsonl", "flows/slips_portscan_vertical_conn.log"])
def test_zeek_json_totals_equal_a_recount(name: str, data: Path, reading: Reading) -> None:
    events = [json.loads(line) for line in (data / name).read_text().splitlines()]
    _, stats = reading(data / name)
    assert stats.records == len(events)
    assert stats.seen.packets == sum(event["orig_pkts"] + event["resp_pkts"] for event in events)
    assert stats.seen.bytes == sum(event["orig_ip_bytes"] + event["resp_ip_bytes"] for event in events)


def test_zeek_connection(reading: Reading) -> None:
    rows, _ = reading(_conn())
    sides = _sides(rows)
    there, back = sides["192.0.2.1"], sides["192.0.2.2"]
    assert (there["sport"], there["dport"], there["packets"], there["bytes"], there["payload_bytes"]) == (
        5000,
        22,
        6,
        400,
        100,
    )
    assert (back["sport"], back["dport"], back["packets"], back["bytes"]) == (22, 5000, 4, 500)
    assert (there["first_flags"], there["tcp_flags"]) == (0x02, 0x02 | 0x10 | 0x08 | 0x01)
    assert back["first_flags"] == 0x12
    assert there["first"] == 1000.5
    assert back["first"] > there["first"]
    assert there["last"] == 1002.0


@pytest.mark.parametrize(("history", "spoke"), [("ShAdDaFf", 0x08), ("ShADadFf", 0), ("S", 0), ("^hA", 0)])
def test_zeek_tells_whether_the_server_spoke_first(history: str, spoke: int, reading: Reading) -> None:
    rows, _ = reading(_conn(history=history))
    assert _sides(rows)["192.0.2.2"]["bits"] == spoke


def test_zeek_state_stands_in_for_a_history(reading: Reading) -> None:
    rows, _ = reading(_conn(history="-", conn_state="REJ"))
    assert _sides(rows)["192.0.2.2"]["tcp_flags"] == 0x04


def test_zeek_icmp_reply_pairs_with_its_request(reading: Reading) -> None:
    rows, _ = reading(_conn(proto="icmp", **{"id.orig_p": 8, "id.resp_p": 0}))
    sides = _sides(rows)
    assert [(sides[ip]["sport"], sides[ip]["dport"]) for ip in ("192.0.2.1", "192.0.2.2")] == [(8, 0), (0, 0)]


def test_a_long_dense_flow_comes_in_portions_and_a_sparse_one_at_once(reading: Reading) -> None:
    rows, _ = reading(_conn(duration=100, orig_pkts=1000, resp_pkts=0, resp_ip_bytes=0, orig_ip_bytes=40007))
    assert len(rows) == 10
    assert int(rows["bytes"].sum()) == 40007
    assert np.diff(rows["last"]).max() <= 20.0  # well within an idle timeout
    assert rows["new"].tolist() == [True] + [False] * 9
    assert (rows["tcp_flags"] & 0x01).tolist() == [0] * 9 + [1]
    sparse, _ = reading(_conn(duration=3600, orig_pkts=5, resp_pkts=0, resp_ip_bytes=0))
    assert len(sparse) == 1


@pytest.mark.parametrize(
    ("duration", "packets", "portions"), [(100, 2, 2), (3600, 5, 2), (28800, 100, 9), (28800, 3, 2)]
)
def test_an_idle_connection_has_its_beginning_and_its_end(
    duration: int, packets: int, portions: int, reading: Reading
) -> None:
    rows, _ = reading(_conn(duration=duration, orig_pkts=packets, resp_pkts=packets, orig_ip_bytes=1007))
    there = rows[rows["dport"] == 22]
    assert len(there) == portions
    assert (there["last"] - 1000.5).tolist() == pytest.approx(np.linspace(0, duration, portions).tolist())
    assert (there["first"] == 1000.5).all()
    assert int(there["bytes"].sum()) == 1007
    assert (there["tcp_flags"] & 0x01).tolist() == [0] * (portions - 1) + [1]


@pytest.mark.parametrize("packets", [1, 2, 6, 7, 30])
def test_the_first_portion_of_a_long_flow_has_a_packet_of_who_began(packets: int, reading: Reading) -> None:
    """However few they are beside the answers: else the answers would begin the flow."""
    rows, stats = reading(_conn(duration=61, history="AadD", orig_pkts=packets, resp_pkts=30))
    assert len(rows) > 7
    first = rows[np.argmin(rows["last"])]
    assert address_text(int(first["src_hi"]), int(first["src_lo"]), 4) == "192.0.2.1"
    assert stats.seen.packets == packets + 30


@pytest.mark.parametrize(
    "wound", [b"1000.5\tx\n", b"abc\n", b"\x00\xff\n", b"-\t" * 15 + b"\n", b"9e99" + b"\t1" * 14 + b"\n"]
)
def test_a_damaged_zeek_line_is_counted(wound: bytes, reading: Reading) -> None:
    rows, stats = reading(_conn() + wound)
    assert len(rows) == 2
    assert stats.parse_errors.total == 1
    assert stats.parse_errors.places[0].where == "line 4"


def test_argus_totals_equal_a_recount(data: Path, reading: Reading) -> None:
    path = data / "flows/slips_hist_normal_2013-10-21.binetflow"
    with path.open() as file:
        lines = list(csv.DictReader(file))
    _, stats = reading(path)
    assert stats.records == len(lines)
    assert stats.seen.packets == sum(int(line["TotPkts"]) for line in lines)
    assert stats.seen.bytes == sum(int(line["TotBytes"]) for line in lines)
    assert stats.not_ip.packets == sum(int(line["TotPkts"]) for line in lines if line["Proto"] == "arp")
    assert stats.parse_errors.total == 0


def _argus(**fields: object) -> bytes:
    values = {
        "StartTime": "2013/10/21 13:22:59.340835",
        "Dur": "1.5",
        "Proto": "tcp",
        "SrcAddr": "192.0.2.1",
        "Sport": "5000",
        "Dir": "   ->",
        "DstAddr": "192.0.2.2",
        "Dport": "0x0016",
        "State": "FSPA_FSPA",
        "TotPkts": "10",
        "TotBytes": "1000",
    }
    values |= {name: str(value) for name, value in fields.items()}
    return (",".join(values) + "\n" + ",".join(values.values()) + "\n").encode()


def test_argus_flow(reading: Reading) -> None:
    sides = _sides(reading(_argus(SrcBytes="700"))[0])
    there, back = sides["192.0.2.1"], sides["192.0.2.2"]
    assert (there["dport"], there["packets"], there["bytes"]) == (22, 5, 700)
    assert (back["packets"], back["bytes"]) == (5, 300)
    assert (there["first_flags"], back["first_flags"]) == (0x02, 0x12)
    assert there["first"] == pytest.approx(1382361779.340835)


@pytest.mark.parametrize(("state", "arrow"), [("S_", "   ->"), ("INT", "   ->"), ("URP", "   ->"), ("REQ", "   ->")])
def test_argus_unanswered(state: str, arrow: str, reading: Reading) -> None:
    rows, _ = reading(_argus(State=state, Dir=arrow, Proto="udp" if state == "INT" else "tcp"))
    assert [int(row["packets"]) for row in rows] == [10]


def test_argus_arrow_to_the_left_was_begun_by_the_destination(reading: Reading) -> None:
    rows, _ = reading(_argus(Dir="  <-"))
    began = rows[np.argmin(rows["first"])]
    assert address_text(int(began["src_hi"]), int(began["src_lo"]), 4) == "192.0.2.2"


def test_eve_alerts_count_by_their_flow(data: Path, reading: Reading) -> None:
    path = data / "logs/suricata_netflowlabeler.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    flows = {event["flow_id"]: event["flow"] for event in events}
    _, stats = reading(path)
    assert stats.records == len(flows)
    assert stats.seen.packets == sum(flow["pkts_toserver"] + flow["pkts_toclient"] for flow in flows.values())


def test_eve_flow_event_takes_the_place_of_its_alerts(reading: Reading) -> None:
    base = {
        "timestamp": "2021-06-06T15:59:46.457984+0200",
        "flow_id": 7,
        "src_ip": "192.0.2.1",
        "src_port": 5,
        "proto": "TCP",
        "dest_ip": "192.0.2.2",
        "dest_port": 445,
    }
    counts = {"pkts_toserver": 3, "pkts_toclient": 2, "bytes_toserver": 300, "bytes_toclient": 200}
    alert = {**base, "event_type": "alert", "alert": {"action": "blocked"}, "flow": {**counts, "pkts_toserver": 1}}
    flow = {**base, "event_type": "flow", "flow": counts, "tcp": {"tcp_flags_ts": "1b", "tcp_flags_tc": "12"}}
    other = {**base, "event_type": "stats"}
    rows, stats = reading(b"\n".join(json.dumps(event).encode() for event in (alert, other, flow)))
    assert stats.seen.packets == 5
    assert _sides(rows)["192.0.2.1"]["tcp_flags"] == 0x1B
    rows, _ = reading(json.dumps(alert).encode())
    assert rows[0]["verdict"] >> 28 == Action.DROP


@pytest.mark.parametrize("name", ["vpcflow_raw_ocsf_v1.1.0.txt", "vpcflow_raw_ocsf_v1.5.0.txt"])
def test_vpc_with_a_header(name: str, data: Path, reading: Reading) -> None:
    with (data / "logs" / name).open() as file:
        lines = list(csv.DictReader(file))
    rows, stats = reading(data / "logs" / name)
    assert stats.seen.packets == sum(int(line["packets"]) for line in lines)
    assert stats.seen.bytes == sum(int(line["bytes"]) for line in lines)
    assert (rows["verdict"] >> 28 == (Action.DROP if lines[0]["action"] == "REJECT" else Action.MONITOR)).all()
    assert (rows["direction"] == (lines[0]["flow_direction"] == "egress")).all()


def test_vpc_default_format_without_a_header(reading: Reading) -> None:
    text = (
        b"2 123456789010 eni-1235b8ca 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK\n"
    )
    nothing = b"2 123456789010 eni-1235b8ca - - - - - - - 1431280876 1431280934 - NODATA\n"
    rows, stats = reading(text + nothing)
    assert (stats.records, stats.seen.packets, stats.seen.bytes) == (1, 20, 4249)
    assert stats.parse_errors.total == 0
    assert rows[0]["dport"] == 22
    _, stats = reading(nothing + text)
    assert stats.records == 1


@pytest.mark.parametrize("name", ["vpcflow_ocsf_1.json", "vpcflow_ocsf_2.json"])
def test_ocsf_in_each_layout(name: str, data: Path, reading: Reading) -> None:
    event = json.loads((data / "logs" / name).read_text())
    whole = json.dumps(event).encode()
    for content in ((data / "logs" / name).read_bytes(), whole + b"\n" + whole, b"[" + whole + b"," + whole + b"]"):
        rows, stats = reading(content)
        assert stats.records == content.count(b'"class_uid"')
        assert (rows[0]["dport"], rows[0]["tcp_flags"], rows[0]["verdict"] >> 28) == (39938, 2, Action.DROP)
        assert rows["first"].min() == 1649721732.0
        assert stats.parse_errors.total == 0


def test_objects_between_damage(data: Path, reading: Reading) -> None:
    whole = (data / "logs/vpcflow_ocsf_1.json").read_bytes()
    _, stats = reading(whole + b"\n{ broken: yes }\n[1, 2]\n" + whole + b"\n" + whole[: len(whole) // 2])
    assert stats.records == 2
    assert stats.parse_errors.total >= 2


def test_addresses() -> None:
    assert address("::ffff:192.0.2.1") == address("192.0.2.1")
    assert address("fe80::1%eth0") == address("fe80::1")
    with pytest.raises(ValueError, match="not a valid address"):
        address("192.0.2")
