"""Who began, and each connection once: in logs that tell of both sides, of packets of either, or of neither's type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from readings import Reading

from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

VPC = "2 123456789012 eni-0aa 203.0.113.9 10.0.0.5 0 0 1 4 336 1700000000 1700000060 REJECT OK\n"
TIME = "2023-11-14T22:13:20.500000+0000"
CLIENT, SERVER = "192.0.2.10", "198.51.100.7"


class Reports:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *contents: str | bytes) -> dict[str, Any]:
        paths = []
        for number, content in enumerate(contents):
            path = self._folder / f"input-{number}"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(str(path))
        return analyze(paths, Settings(), 0.0)


@pytest.fixture
def report(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def flows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(source, its port, destination, its port, packets) of each, the largest first."""
    names = ("src_ip", "src_port", "dst_ip", "dst_port", "packets")
    return [tuple(flow[name] for name in names) for flow in found["flow_analysis"]["top_flows"]]


def event(kind: str, *, turned: bool = False, **fields: Any) -> dict[str, Any]:
    ends = {"src_ip": CLIENT, "src_port": 40000, "dest_ip": SERVER, "dest_port": 443}
    if turned:
        ends = {"src_ip": SERVER, "src_port": 443, "dest_ip": CLIENT, "dest_port": 40000}
    return {"timestamp": TIME, "flow_id": 1, "event_type": kind, "proto": "TCP", **ends, **fields}


COUNTS = {"pkts_toserver": 6, "pkts_toclient": 5, "bytes_toserver": 420, "bytes_toclient": 4600, "start": TIME}
FLOW = event("flow", flow=COUNTS)
THERE = event("netflow", netflow={"pkts": 6, "bytes": 420, "start": TIME, "end": TIME}, tcp={"tcp_flags": "1b"})
BACK = event(
    "netflow", turned=True, netflow={"pkts": 5, "bytes": 4600, "start": TIME, "end": TIME}, tcp={"tcp_flags": "1b"}
)
PART = {**COUNTS, "pkts_toserver": 2, "bytes_toserver": 120}
ALERT = event("alert", turned=True, flow=PART, direction="to_client", alert={"action": "allowed"})
NAMED = event(
    "alert",
    turned=True,
    alert={},
    flow={**COUNTS, **{k: FLOW[k] for k in ("src_ip", "src_port", "dest_ip", "dest_port")}},
)


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in events)


# ---- ICMP without a type ----

ORIGINAL = {
    **{"timestamp": 1732834800, "src_ip": "203.0.113.9", "dst_ip": "10.0.0.5", "src_port": 0, "dst_port": 0},
    **{"protocol": "ICMP", "protocol_num": 1, "packet_size": 64, "action": "LOG", "interface": "eth0"},
}
OCSF = {
    **{"class_uid": 4001, "time": 1700000000000, "src_endpoint": {"ip": "203.0.113.9", "port": 0}},
    **{"dst_endpoint": {"ip": "10.0.0.5", "port": 0}, "traffic": {"packets": 4, "bytes": 336}},
    "connection_info": {"protocol_num": 1},
}
ZEEK = {
    **{"ts": 1700000000.5, "id.orig_h": "203.0.113.9", "id.orig_p": 0, "id.resp_h": "10.0.0.5", "id.resp_p": 0},
    **{"proto": "icmp", "conn_state": "OTH", "orig_pkts": 4, "orig_ip_bytes": 336, "resp_pkts": 0, "resp_ip_bytes": 0},
}
EVE = {
    **{"timestamp": TIME, "flow_id": 1, "event_type": "flow", "proto": "ICMP", "src_ip": "203.0.113.9"},
    **{"dest_ip": "10.0.0.5", "flow": {**COUNTS, "pkts_toclient": 0, "bytes_toclient": 0}},
}
ARGUS = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,TotPkts,TotBytes\n"
ARGUS_PING = ARGUS + "2023/11/14 22:13:20.5,1,icmp,203.0.113.9,,->,10.0.0.5,,INT,4,336\n"
CSV = "timestamp,src_ip,dst_ip,src_port,dst_port,protocol,packet_size,action\n"
CSV_PING = CSV + "1732834800,203.0.113.9,10.0.0.5,0,0,ICMP,64,LOG\n"


@pytest.mark.parametrize(
    "content", [VPC, lines(ORIGINAL), lines(OCSF), lines(ZEEK), lines(EVE), ARGUS_PING, CSV_PING], ids=str
)
def test_icmp_of_no_known_type_keeps_its_direction(content: str, report: Reports) -> None:
    (flow,) = flows(report(content))
    assert flow[:4] == ("203.0.113.9", None, "10.0.0.5", None)


@pytest.mark.parametrize("record", [VPC, lines(ORIGINAL), lines(OCSF), lines(EVE)], ids=["vpc", "own", "ocsf", "eve"])
def test_a_ping_sweep_is_one_whatever_wrote_it(record: str, report: Reports) -> None:
    content = "".join(
        record.replace("10.0.0.5", f"10.0.0.{n}").replace('"flow_id": 1', f'"flow_id": {n}') for n in range(1, 120)
    )
    (threat,) = report(content)["threats"]
    assert (threat["detector"], threat["src_ip"]) == ("host_sweep", "203.0.113.9")


def test_an_answered_ping_of_no_known_type_is_one_flow(report: Reports) -> None:
    answer = VPC.replace("203.0.113.9 10.0.0.5", "10.0.0.5 203.0.113.9").replace("1700000000", "1700000001")
    assert flows(report(VPC + answer)) == [("203.0.113.9", None, "10.0.0.5", None, 8)]


def test_the_daemons_own_echo_reply_is_one(report: Reports) -> None:
    assert flows(report(lines({**ORIGINAL, "event": "new"})))[0][:4] == ("10.0.0.5", 8, "203.0.113.9", 0)


def test_argus_writes_type_and_code_in_one(report: Reports) -> None:
    found = report(ARGUS + "2023/11/14 22:13:20.5,1,icmp,203.0.113.9,0x0103,->,10.0.0.5,,URH,1,90\n")
    assert flows(found)[0][:4] == ("203.0.113.9", 3, "10.0.0.5", 1)


# ---- Suricata ----


@pytest.mark.parametrize(
    "contents",
    [
        (lines(FLOW),),
        (lines(THERE, BACK),),
        (lines(THERE), lines(BACK)),
        (lines(NAMED),),
        (lines(FLOW, THERE, BACK),),
        (lines(THERE, BACK, FLOW),),
        (lines(ALERT), lines(FLOW)),
        (lines(FLOW), lines(ALERT)),
        (lines(ALERT, ALERT, THERE, BACK),),
        (lines(FLOW, ALERT, NAMED),),
        (lines(ALERT), lines(THERE, BACK), lines(FLOW), lines(NAMED)),
        (lines(FLOW), lines(FLOW)),
    ],
    ids=range(12),
)
def test_a_connection_is_one_flow_however_often_it_is_reported(contents: tuple[str, ...], report: Reports) -> None:
    found = report(*contents)
    assert flows(found) == [(CLIENT, 40000, SERVER, 443, 11)]
    assert found["summary"]["total_bytes"] == 5020


def test_other_connections_of_one_number_are_others(report: Reports) -> None:
    later = {**FLOW, "flow": {**COUNTS, "start": "2023-11-14T23:13:20.500000+0000"}}
    elsewhere = {**FLOW, "src_port": 40001}
    assert report(lines(FLOW, later, elsewhere))["summary"]["total_packets"] == 33


def test_an_alert_on_the_answer_counts_for_the_client(report: Reports) -> None:
    assert flows(report(lines(ALERT))) == [(CLIENT, 40000, SERVER, 443, 7)]
    forth = {**ALERT, "direction": "to_server"}
    assert flows(report(lines(forth)))[0][:4] == (SERVER, 443, CLIENT, 40000)


def test_netflow_of_many_clients_counts_the_servers_port(report: Reports) -> None:
    pairs = [
        {**half, "flow_id": number, side: 40000 + number}
        for number in range(300)
        for half, side in ((THERE, "src_port"), (BACK, "dest_port"))
    ]
    (service,) = report(lines(*pairs))["flow_analysis"]["top_services"]
    assert service == {"protocol": "TCP", "port": 443, "flows": 300}


def _half(ends: dict[str, Any], packets: int, octets: int, flags: str) -> dict[str, Any]:
    return {
        **THERE,
        **ends,
        "netflow": {**THERE["netflow"], "pkts": packets, "bytes": octets},
        "tcp": {"tcp_flags": flags},
    }


@pytest.mark.parametrize(
    ("port", "flags"),
    [(443, ("1b", "1b")), (9999, ("02", "14")), (22, ("", "")), (445, ("10", "10"))],
    ids=["whole", "refused", "no flags", "under way"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_halves_of_netflow_in_either_order(port: int, flags: tuple[str, str], turned: bool, report: Reports) -> None:
    forth = {"src_ip": CLIENT, "src_port": 40000, "dest_ip": SERVER, "dest_port": port}
    back = {"src_ip": SERVER, "src_port": port, "dest_ip": CLIENT, "dest_port": 40000}
    pair = [_half(forth, 6, 420, flags[0]), _half(back, 5, 4600, flags[1])]
    found = report(lines(*(pair[::-1] if turned else pair)))
    assert flows(found) == [(CLIENT, 40000, SERVER, port, 11)]
    assert {source["ip"]: source["bytes"] for source in found["top_sources"]} == {CLIENT: 420, SERVER: 4600}


@pytest.mark.parametrize("turned", [False, True])
def test_the_server_opens_ftps_data_connections(turned: bool, report: Reports) -> None:
    """RFC 959, 5.2: from port 20."""
    forth = {"src_ip": SERVER, "src_port": 20, "dest_ip": CLIENT, "dest_port": 40000}
    back = {"src_ip": CLIENT, "src_port": 40000, "dest_ip": SERVER, "dest_port": 20}
    pair = [_half(forth, 6, 420, "1b"), _half(back, 5, 4600, "1b")]
    assert flows(report(lines(*(pair[::-1] if turned else pair)))) == [(SERVER, 20, CLIENT, 40000, 11)]
    vpc = [
        "srcaddr dstaddr srcport dstport protocol packets bytes start end tcp-flags",
        f"{SERVER} {CLIENT} 20 40000 6 6 420 1700000000 1700000001 27",
        f"{CLIENT} {SERVER} 40000 20 6 5 4600 1700000000 1700000001 27",
    ]
    assert flows(report("\n".join([vpc[0], *(vpc[:0:-1] if turned else vpc[1:])]))) == [(SERVER, 20, CLIENT, 40000, 11)]


def test_halves_that_do_not_tell_stand_as_the_file_has_them(report: Reports) -> None:
    """Suricata writes the one to the server first."""
    forth = {"src_ip": CLIENT, "src_port": 53, "dest_ip": SERVER, "dest_port": 123}
    back = {"src_ip": SERVER, "src_port": 123, "dest_ip": CLIENT, "dest_port": 53}
    assert flows(report(lines(_half(forth, 6, 420, "1b"), _half(back, 5, 4600, "1b"))))[0][:2] == (CLIENT, 53)


def test_netflow_of_a_ping_is_one_flow_with_its_type(report: Reports) -> None:
    there = {**THERE, "proto": "ICMP", "icmp_type": 8, "icmp_code": 0, "tcp": {}}
    back = {**BACK, "proto": "ICMP", "icmp_type": 0, "icmp_code": 0, "tcp": {}}
    assert flows(report(lines(there, back))) == [(CLIENT, 8, SERVER, 0, 11)]


def test_what_tells_of_no_flow_is_named(report: Reports) -> None:
    found = report(lines(FLOW, event("dns", dns={}), {"timestamp": TIME, "event_type": "stats", "stats": {}}))
    assert found["summary"]["total_packets"] == 11
    assert found["summary"]["sources"][0]["notes"] == {
        "events of type dns without a flow were skipped": 1,
        "events of type stats without a flow were skipped": 1,
    }


# ---- Argus ----


@pytest.mark.parametrize(
    ("arrow", "state", "ends", "sides"),
    [
        ("<->", "CON", (CLIENT, SERVER), 2),
        ("<->", "ECO", (CLIENT, SERVER), 2),
        ("->", "INT", (CLIENT, SERVER), 1),
        ("<?>", "PA_PA", (CLIENT, SERVER), 2),
        ("<-", "INT", (SERVER, CLIENT), 1),
        ("<-", "FSPA_FSPA", (SERVER, CLIENT), 2),
        ("?>", "_SA", (CLIENT, SERVER), 1),
        ("->", "FIN", (CLIENT, SERVER), 2),  # in the captures beside the project all but 25 of 4,267 have both sides
        ("->", "RST", (CLIENT, SERVER), 2),
        ("->", "ACC", (CLIENT, SERVER), 1),
        ("?>", "CON", (CLIENT, SERVER), 1),
        ("<?", "RST", (SERVER, CLIENT), 1),
        ("<?>", "FIN", (CLIENT, SERVER), 2),
    ],
)
def test_argus_arrows(arrow: str, state: str, ends: tuple[str, str], sides: int, report: Reports) -> None:
    proto = "tcp" if "_" in state or state in ("FIN", "RST", "ACC") or "?" in arrow else "udp"
    line = f"2023/11/14 22:13:20.5,1,{proto},{CLIENT},40000,  {arrow},{SERVER},9999,{state},10,1000\n"
    found = report(ARGUS + line)
    assert [(flow[0], flow[2]) for flow in flows(found)] == [ends]
    assert len(found["top_sources"]) == sides


@pytest.mark.parametrize(("flags", "payload"), [("02", 0), ("1a", 48)])
def test_an_opening_that_suricata_saw_repeated_carries_nothing(flags: str, payload: int, reading: Reading) -> None:
    counts = {"pkts_toserver": 7, "pkts_toclient": 0, "bytes_toserver": 7 * 74, "bytes_toclient": 0, "start": TIME}
    rows, _ = reading(lines(event("flow", flow=counts, tcp={"tcp_flags_ts": flags})).encode())
    assert rows["payload_bytes"].sum() == payload


# ---- an initiator of which no packet was seen ----

_SILENT = {"orig_pkts": 0, "orig_ip_bytes": 0, "orig_bytes": 0, "resp_pkts": 5, "resp_ip_bytes": 4600}
_ZEEK = {
    "ts": 1700000000.5,
    "id.orig_h": CLIENT,
    "id.orig_p": 40000,
    "id.resp_h": SERVER,
    "id.resp_p": 33333,
    **_SILENT,
}
_ANSWERS = {**COUNTS, "pkts_toserver": 0, "bytes_toserver": 0}
_SIDES = {"packets_out": 0, "bytes_out": 0, "packets_in": 5, "bytes_in": 4600}
_ONE_SIDED = [
    *(lines({**_ZEEK, "proto": "udp", "conn_state": "SHR", "history": history}) for history in ("^d", "d")),
    lines({**_ZEEK, "proto": "tcp", "conn_state": "OTH", "history": "^dCc"}),
    *(lines({**event("flow", flow=_ANSWERS), "proto": proto, "dest_port": 33333}) for proto in ("TCP", "UDP", "SCTP")),
    "StartTime,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,SrcPkts,DstPkts,SrcBytes,DstBytes,State\n"
    f"1700000000.5,udp,{CLIENT},40000,->,{SERVER},33333,0,5,0,4600,CON\n",
    lines(
        {
            **{"class_uid": 4001, "time": 1700000000000, "src_endpoint": {"ip": CLIENT, "port": 40000}},
            **{"dst_endpoint": {"ip": SERVER, "port": 33333}, "traffic": _SIDES},
            "connection_info": {"protocol_num": 6},
        }
    ),
    lines(
        {
            **{"@timestamp": "2023-11-14T22:13:20.250Z", "source": {"ip": CLIENT, "port": 40000, "bytes": 0}},
            **{"destination": {"ip": SERVER, "port": 33333, "packets": 5, "bytes": 4600}},
            "network": {"transport": "udp"},
        }
    ),
]


@pytest.mark.parametrize("log", _ONE_SIDED)
def test_an_initiator_that_sent_nothing_stays_the_initiator(log: str, report: Reports) -> None:
    """Only the answers were seen, and the log says who asked."""
    found = report(log)
    assert flows(found) == [(CLIENT, 40000, SERVER, 33333, 5)]
    assert (found["summary"]["total_packets"], found["summary"]["total_bytes"]) == (5, 4600)
