"""Every reader on damaged real files: no exception but InputError, every packet still accounted for."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import pytest
from captures import AT, enhanced, ethernet, interface, ipv4, option, pcap, section, tcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readings import Reading

from trafficmond.analyze.render import data as data_render
from trafficmond.analyze.render import page, text
from trafficmond.analyze.run import analyze
from trafficmond.analyze.source import InputError
from trafficmond.config.settings import Settings

FILES = [
    *(
        "original/threat_traffic.jsonl",
        "original/sample_traffic.csv",
        "logs/zeek_conn_zat.jsonl",
        "logs/zeek_conn_zat.log",
    ),
    *("flows/slips_hist_normal_2013-10-21.binetflow", "logs/suricata_netflowlabeler.jsonl", "logs/vpcflow_ocsf_1.json"),
    *("logs/vpcflow_raw_ocsf_v1.1.0.txt", "flows/slips_portscan_horizontal_conn.log"),
]
_INSERTS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            *(
                b"-1",
                b"999999999999999999999",
                b"1e400",
                b"NaN",
                b"Infinity",
                b"null",
                b"{",
                b"}",
                b"]",
                b'"',
                b"\n",
                b"\t,",
            ),
            *(b"::1", b"0x", b"-", b"\xff", b"\x00", b"[" * 2000, b'{"a":' * 2000),
        ]
    ),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("before", [b"\t", b" ", b"\r\n", b"\xef\xbb\xbf"])
def test_what_stands_before_the_beginning(name: str, before: bytes, data: Path, reading: Reading) -> None:
    """Either the file is of no format then, or it is read."""
    content = (data / name).read_bytes()[:6000]
    whole = reading(content)[1].records
    try:
        _, stats = reading(before + content)
    except InputError:
        return
    assert stats.records >= whole - 1


def _read_wounded(content: bytearray, wounds: list[tuple[int, bytes, int]], reading: Reading) -> None:
    for at, insert, cut in wounds:
        at %= len(content)
        content[at : at + cut] = insert
    with contextlib.suppress(InputError):  # so damaged that its beginning is of no format
        reading(bytes(content))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wounds=st.lists(st.tuples(st.integers(0, 1 << 20), _INSERTS, st.integers(0, 12)), min_size=1, max_size=8))
def test_wounds_anywhere(name: str, wounds: list[tuple[int, bytes, int]], data: Path, reading: Reading) -> None:
    content = bytearray((data / name).read_bytes()[:6000])
    _read_wounded(content, wounds, reading)


_LINE = "2 123456789012 eni-0aa 192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060 ACCEPT OK"
SEEDS = {
    "vpc": f"{_LINE}\n2023-11-14T22:13:20.000Z {_LINE}\n",
    "vpc json": json.dumps({"events": [{"message": _LINE, "timestamp": 1700000000000}], "nextToken": "x"}, indent=2),
    "vpc fields": '{"srcaddr":"192.0.2.1","dstaddr":"192.0.2.2","protocol":6,"packets":1,"bytes":60,"start":1}',
    "netflow": '{"timestamp":"2023-11-14T22:13:20.5+0000","flow_id":1,"event_type":"netflow","src_ip":"192.0.2.10",'
    '"src_port":40000,"dest_ip":"198.51.100.7","dest_port":443,"proto":"TCP","netflow":{"pkts":6,"bytes":420,'
    '"start":"2023-11-14T22:13:20.5+0000","end":"2023-11-14T22:13:20.5+0000"},"tcp":{"tcp_flags":"1b"}}\n',
    "zeek stream": '{"_path":"conn","ts":1700000000,"id":{"orig_h":"192.0.2.1","orig_p":1,"resp_h":"192.0.2.2",'
    '"resp_p":2},"proto":"tcp","orig_bytes":5,"duration":null}\n{"_path":"dns","ts":1}\n',
    "ra": "StartTime,Flgs,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,TotPkts,TotBytes,State\n"
    "01/01.00:00:04.000000, e ,icmp,192.0.2.1,0x0008,<->,198.51.100.2,,2,90,ECO\n",
    "journal": '{"__CURSOR":"s","__REALTIME_TIMESTAMP":"1","MESSAGE_ID":"30fb56ddb22d4063812a297a1c61dd63",'
    '"TRAFFICMON_TIMESTAMP":"1700000000","TRAFFICMON_SRC_IP":"192.0.2.1","TRAFFICMON_DST_IP":"192.0.2.2",'
    '"TRAFFICMON_PROTOCOL_NUM":"6","TRAFFICMON_PACKET_SIZE":"60","TRAFFICMON_ACTION":"LOG"}\n',
}
SEEDS |= {f"{name}, gzip": text for name, text in SEEDS.items() if name in ("netflow", "ra")}


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wounds=st.lists(st.tuples(st.integers(0, 1 << 20), _INSERTS, st.integers(0, 12)), min_size=1, max_size=8))
def test_wounds_anywhere_in_newer_forms(name: str, wounds: list[tuple[int, bytes, int]], reading: Reading) -> None:
    """Each record comes out or is counted as damage or as passed over; nothing else is raised than "no format"."""
    content = bytearray(SEEDS[name].encode() * 3)
    if "gzip" in name:
        content = bytearray(gzip.compress(bytes(content)) * 2)
    _read_wounded(content, wounds, reading)


@pytest.mark.parametrize("name", [name for name in FILES if "vpc" not in name])
def test_a_wound_behind_the_beginning_costs_little(name: str, data: Path, reading: Reading) -> None:
    content = (data / name).read_bytes()
    lines = content.splitlines(keepends=True)
    whole = reading(content)[1].records
    lines[-2] = lines[-2][: len(lines[-2]) // 2] + b"\n"
    _, stats = reading(b"".join(lines))
    assert stats.records == whole - 1
    assert stats.parse_errors.total == 1


def test_times_beyond_any_calendar(tmp_path: Path) -> None:
    """A capture from the year 10^12 is analysed, drawn and said to be wrong."""
    frame = ethernet(ipv4(tcp()))
    ticks = int(AT)
    path = tmp_path / "future.pcapng"
    path.write_bytes(
        section()
        + interface(1, option(9, b"\x00"))
        + enhanced(ticks, frame)
        + enhanced(1 << 62, frame)
        + enhanced(ticks + 9, frame)
    )
    report = analyze([str(path)], Settings(), 0.0)
    assert report["summary"]["total_packets"] == 3
    assert report["damage"]["by_kind"] == {"impossible time": 1}
    for render in (page.render, text.render, data_render.to_csv, data_render.to_json):
        assert render(report)


def test_times_far_apart_stay_few_bins(tmp_path: Path) -> None:
    frame = ethernet(ipv4(tcp()))
    path = tmp_path / "apart.pcap"
    path.write_bytes(pcap([(0.0, frame), (4e9, frame), (1.0, frame)]))
    report = analyze([str(path)], Settings(), 0.0)
    assert sum(bin_["packets"] for bin_ in report["temporal_analysis"]["timeline"]) == 3
    assert len(report["temporal_analysis"]["timeline"]) <= 241
    assert page.render(report)


def test_a_flow_of_a_thousand_years_is_read_in_a_moment(reading: Reading) -> None:
    head = b"#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\torig_pkts\torig_ip_bytes\n"
    line = b"1.0\t192.0.2.1\t1\t192.0.2.2\t2\tudp\t31536000000\t999999999999\t99999999999999\n"
    rows, stats = reading(head + line)
    assert stats.seen.packets == 999999999999
    assert len(rows) <= 8640
