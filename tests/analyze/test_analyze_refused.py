"""More of what is not read: it is refused by its name, with a next step, and never taken for something else."""

from __future__ import annotations

import json

import pytest
from conftest import Reading

from trafficmond.analyze.source import InputError

_EVENT = {"timestamp": 1, "logStreamName": "eni-1", "message": "5 vpc-1 192.0.2.1 198.51.100.2 1 2 6 6 420 1 2 ACCEPT"}
_XML = '<?xml version="1.0" encoding="utf-8"?>\n'
REFUSED = {
    "nfdump 1.7": ('{"type":"FLOW","first":"x","last":"y","in_packets":6}', "JSON of nfdump"),
    "nfdump -o pipe": ("2|1700000000|250|1700000002|0|6|0|0|0|3221225994|40000|", "text of nfdump"),
    "Oracle": ('{"data":{"sourceAddress":"x","destinationAddress":"y","bytesOut":1}}', "Oracle Cloud"),
    "Hubble": ('{"flow":{"verdict":"FORWARDED","IP":{"source":"x"},"l4":{"TCP":{}}}}', "Hubble"),
    "IPFIXcol2": ('{"@type":"ipfix.entry","iana:octetDeltaCount":420}', "IPFIXcol2"),
    "vFlow": ('{"AgentID":"x","DataSets":[[{"I":8,"V":"x"}]]}', "vFlow"),
    "Loki": ('{"status":"success","data":{"result":[{"stream":{},"values":[["1","x"]]}]}}', "Loki"),
    "a format of AWS without names": (json.dumps({"events": [_EVENT]}, indent=2), "log group of CloudWatch"),
    "zeek-cut": ("1700000000.250000\tCqR3xT1abcDEf2ghi\t192.0.2.1\t1\t192.0.2.2\t2\ttcp", "rows of Zeek"),
    "Zed": ('{_path:"conn",ts:2023-11-14T22:13:20.25Z,id:{orig_h:192.0.2.10}}', "records of Zed"),
    "tcpdump -tttt": ("2023-11-14 22:13:20.25 IP 192.0.2.1.1 > 192.0.2.2.2: Flags [S]", "text of tcpdump"),
    "tcpdump -tt": ("1700000000.25 IP6 2001:db8::1.1 > 2001:db8::2.2: Flags [S]", "text of tcpdump"),
    "tcpdump -t": ("IP 192.0.2.1.1 > 192.0.2.2.2: Flags [S], length 0", "text of tcpdump"),
    "tcpdump -e": ("22:13:20.25 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4", "text of tcpdump"),
    "Wireshark's CSV": ('"No.","Time","Source","Destination"\n"1","0.0","x","y"', "CSV of Wireshark"),
    "tshark -z conv": ("=====\nTCP Conversations\nFilter:<No Filter>", "conversations of tshark"),
    "PDML": (_XML + '<?xml-stylesheet href="pdml2html.xsl"?>\n<pdml version="0">', "XML of tshark"),
    "PSML": (_XML + '<psml version="0">', "XML of tshark"),
    "a hex dump": ("0000  02 00 00 00 00 01 02 00", "a hex dump"),
    "a table of Kibana": ('"@timestamp","source.ip","destination.ip"\nx,y,z', "Elastic Common Schema"),
    "conntrack -L": ("tcp 6 99 ESTABLISHED src=192.0.2.1 dst=192.0.2.2 sport=1 dport=2 src=x dst=y", "conntrack"),
    "pf": ("rule 1/0(match): block in on em0: 192.0.2.1.1 > 192.0.2.2.2: tcp", "a log of pf"),
    "pfSense": ("Nov 14 22:13:20 pf filterlog[1]: 5,,,1000000103,em0,match,block,in,4", "a log of pf"),
    "Windows": ("#Version: 1.5\n#Software: Microsoft Windows Firewall", "Windows' firewall"),
    "ASA": ("<166>Nov 14 22:13:20: %ASA-6-302014: Teardown TCP connection 1", "Cisco firewall"),
    "FortiGate": ('date=2023-11-14 devname="x" type="traffic" subtype="forward" srcip=192.0.2.1', "FortiGate"),
    "Palo Alto": ("Nov 14 22:13:20 pa 1,2023/11/14 22:13:20,0011C,TRAFFIC,end,2049", "Palo Alto"),
    "Google's YAML": ("---\ninsertId: x\njsonPayload:\n  bytes_sent: '420'", "Google Cloud"),
    "a page": ("<!DOCTYPE html><html>", "a page of the web"),
    "Git LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:x", "what Git keeps"),
    "K12": ("+---------+---------------+----------+\n22:13:20,250,000   ETHER", "K12"),
}


@pytest.mark.parametrize(("content", "name"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_its_name(content: str, name: str, reading: Reading) -> None:
    with pytest.raises(InputError, match=name) as caught:
        reading((content + "\n").encode())
    assert caught.value.hint


@pytest.mark.parametrize("start", [b"\2\0", b"\0\1", b"G" + bytes(63), b"\1\2" * 8 + b"\1\0" * 24], ids=repr)
def test_bytes_with_a_nul_are_no_text_of_windows(start: bytes, reading: Reading) -> None:
    with pytest.raises(InputError, match="unknown format"):
        reading(start + bytes(range(256)))


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_text_of_windows_is(coding: str, reading: Reading) -> None:
    with pytest.raises(InputError, match="text in UTF-16"):
        reading('{"event_type": "flow"}\r\n'.encode(coding))


def test_a_long_line_takes_no_time(reading: Reading) -> None:
    with pytest.raises(InputError, match="unknown format"):
        reading(b"src=1 dst= IN= type= " * 80000)
