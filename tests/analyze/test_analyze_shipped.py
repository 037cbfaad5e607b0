"""Forms in which logs arrive by way of other programs: pandas, Logstash, the screen."""

from __future__ import annotations

import gzip
import json

import pytest
from readings import Reading

from trafficmond.analyze.source import InputError

NAMES = "ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,service,conn_state,orig_pkts,orig_ip_bytes,resp_pkts"
LINE = '1700000000.5,C1,192.0.2.10,40000,198.51.100.7,443,tcp,"ssl,http",SF,6,420,5'
CSV = f"{NAMES},resp_ip_bytes\n{LINE},4600\n"
ENDS = {"src_ip": "192.0.2.10", "src_port": 40000, "dest_ip": "198.51.100.7", "dest_port": 443, "proto": "TCP"}
WHEN = {"@timestamp": "2023-11-14T22:13:20.500Z", "@version": "1"}
CONN = {
    **{"id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7", "id.resp_p": 443, "proto": "tcp"},
    **{"conn_state": "SF", "orig_pkts": 6, "orig_ip_bytes": 420, "resp_pkts": 5, "resp_ip_bytes": 4600},
}
EVENT = {"src_ip": "192.0.2.10", "dst_ip": "198.51.100.7", "src_port": 40000, "dst_port": 443, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("text", "packets", "octets"),
    [
        (CSV, 11, 5020),
        (CSV * 2, 11, 5020),  # one uid is one connection
        (CSV + CSV.replace("C1", "C2"), 22, 10040),
        (CSV.replace("\n", "\r\n"), 11, 5020),
        ("," + CSV.replace("\n1", "\n0,1").replace(",6,", ",6.0,"), 11, 5020),
        (CSV.replace('"ssl,http"', "ssl").replace(",", "\t"), 11, 5020),
        (CSV.replace(",", ";").replace('"ssl;http"', '"ssl,http"').replace("id.", "id_"), 11, 5020),
        (CSV.replace(",5,4600", ',"5","4,600"'), 11, 5020),
        (CSV.replace(",5,4600", ",5,4'600"), 11, 5020),
        (CSV.replace('"ssl,http"', "ssl").replace(",", ";").replace("0.5", "0,5"), 11, 5020),  # a decimal comma
        (CSV.replace("\n", "\n" + "String,Nullable(UInt64)" + ",IPv4" * 11 + "\n", 1), 11, 5020),  # ClickHouse's types
        (json.dumps({**WHEN, **CONN}), 11, 5020),
        (json.dumps({**WHEN, "event_type": "netflow", **ENDS, "netflow": {"pkts": 6, "bytes": 420}}), 6, 420),
        (json.dumps({**WHEN, **EVENT, "packet_size": 60, "action": "LOG"}), 1, 60),
    ],
)
def test_a_shipped_record_is_what_it_was(text: str, packets: int, octets: int, reading: Reading) -> None:
    rows, stats = reading(text.encode())
    assert stats.parse_errors.kinds == {}
    assert (stats.seen.packets, stats.seen.bytes) == (packets, octets)
    assert stats.first == 1700000000.5
    assert {(row["sport"], row["dport"]) for row in rows} <= {(40000, 443), (443, 40000)}


@pytest.mark.parametrize("unset", ["-", "(empty)", "", None])
def test_a_duration_that_is_unset_in_json_is_none(unset: str | None, reading: Reading) -> None:
    _, stats = reading(json.dumps({"ts": 1700000000.5, "duration": unset, **CONN}).encode())
    assert (stats.seen.packets, stats.parse_errors.total) == (11, 0)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(("1.75s", 1.75), ("1m2.5s", 62.5), ("1h0m1s", 3601), ("750ms", 0.75)),
        *(("0:00:01.750000", 1.75), ("0 days 00:00:01.75", 1.75), ("1 days 00:00:01", 86401)),
    ],
)
def test_a_duration_as_zed_and_pandas_write_it(written: str, seconds: float, reading: Reading) -> None:
    _, stats = reading(json.dumps({"ts": 1700000000.5, "duration": written, **CONN}).encode())
    assert (stats.seen.packets, stats.parse_errors.total) == (11, 0)
    assert stats.last - stats.first == pytest.approx(seconds, abs=0.002)


@pytest.mark.parametrize("written", ["soon", "1.75x", "s", "0:0:1", "1m 2s"])
def test_a_duration_that_is_none_is_damage(written: str, reading: Reading) -> None:
    _, stats = reading(json.dumps({"ts": 1700000000.5, "duration": written, **CONN}).encode())
    assert (stats.seen.packets, stats.parse_errors.total) == (0, 1)


@pytest.mark.parametrize("before", ["#separator ab\n", "#separator \\x09\n", "#separator\n"])
def test_a_log_of_zeeks_own_may_follow_csv(before: str, reading: Reading) -> None:
    names, line = NAMES.replace(",", "\t"), LINE.replace('"ssl,http"', "ssl").replace("C1", "C2").replace(",", "\t")
    joined = f"{CSV}{before}#separator \\x09\n#path\tconn\n#fields\t{names}\n{line}\n"
    _, stats = reading(joined.encode())
    assert stats.parse_errors.kinds == {}
    assert stats.seen.packets == 11 + 11


def test_a_file_that_is_compressed_twice_is_said_to_be(reading: Reading) -> None:
    with pytest.raises(InputError, match=r"compressed twice.*zcat"):
        reading(gzip.compress(gzip.compress(CSV.encode())))


def test_csv_of_another_log_of_zeek_is_passed_over(reading: Reading) -> None:
    names = NAMES.split(",service")[0] + ",query"
    rows, stats = reading(f"{names}\n1700000000.5,C1,192.0.2.10,40000,198.51.100.7,53,udp,x.y\n".encode())
    assert (len(rows), stats.parse_errors.total) == (0, 0)


TABLE = """\
         StartTime      Flgs  Proto            SrcAddr  Sport   Dir            DstAddr  Dport  TotPkts   TotBytes State
   16:45:02.466908              man                  0      0                        0      0        0          0   STA
   04:02:24.211825  e           tcp       192.168.1.10.47278     ->       192.168.1.25.1723          2        118   RST
   04:02:24.211903  e    F      udp       192.168.1.10.47278    <->       192.168.1.25.ssh           2        118   CON
   04:02:25.211903  e           tcp       192.168.1.10.80       <?        192.168.1.25.40001         3        180   CON
   04:02:26.211903  e         igmp       192.168.1.10           ->         224.0.0.22                4        240   INT
   10:57:01.268696  e        ipv6-*            ff02::1.0x0080    ->            ff02::2.0x0000     1000      78000   ECO
   10:57:02.268696  e           tcp        2001:db8::1.1025      ->        2001:db8::2.22            5        300   FIN
   10:57:03.268696  e           tcp fe80::7a92:9cff:f*.mdns      ->           ff02::fb.mdns          4        408   INT
   10:57:03.768696  e           arp        192.168.1.3          who        192.168.1.4               6        360   CON
   10:57:04.268696  e           tcp       192.168.1.10.4089      ->       192.168.1.25.micro*       10       1118   FIN
"""


def test_the_table_of_ra_is_read_but_for_what_it_cut_short(reading: Reading) -> None:
    rows, stats = reading(TABLE.encode())
    assert dict(stats.parse_errors.kinds) == {"no flow": 2}
    assert (stats.in_flows.packets, stats.in_flows.bytes) == (1016, 78956)
    assert (stats.not_ip.packets, stats.not_ip.bytes) == (6, 360)
    ports = {(row["sport"], row["dport"], row["proto"]) for row in rows}
    assert {(47278, 1723, 6), (47278, 22, 17), (40001, 80, 6), (0, 0, 2), (128, 0, 58), (1025, 22, 6)} <= ports


@pytest.mark.parametrize("line", ["x", "1 2 3 -> 4", "-> -> -> -> ->", "04:02:24 e tcp 1.2.3.4 -> 1.2.3.5 x y", "man"])
def test_a_line_that_is_none_of_the_table_is_damage(line: str, reading: Reading) -> None:
    _, stats = reading(TABLE.encode() + line.encode() + b"\n")
    assert stats.parse_errors.total == 3
