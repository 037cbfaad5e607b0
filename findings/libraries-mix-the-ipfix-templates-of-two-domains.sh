#!/usr/bin/env bash
# PyPI's netflow 0.12.2 and scapy 2.6.1 keep one IPFIX template for each number, whatever observation domain it came from,
# so that of one exporter with two domains they show exchanged fields.
#
# Template IDs are "unique per Transport Session and Observation Domain" (RFC 7011, 3.4.1): each line card or process of
# a router numbers from 256 on, in a domain of its own, which is in the header of every message. One would expect the
# message's domain to choose the template, as tshark and nfcapd do. Both libraries read the records of the first domain
# by the template that the second sent last: an address as a count of 13,835,060,261,821,612,546 packets. No error, and
# an exporter with one domain, which is what one tests with, shows nothing.
#
# Seen (7 packets from 192.0.2.1 to 192.0.2.2, in both domains):  tshark twice right;  netflow and scapy once right, once
#   from 0.0.0.7 to 0.0.0.0, 13835060261821612546 packets
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install netflow==0.12.2 scapy==2.6.1 2>/dev/null

"$folder/venv/bin/python" -W ignore - "$folder/ipfix.pcap" <<'PYTHON'
import ipaddress
import struct
import subprocess
import sys

import netflow
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.netflow import NetflowDataflowsetV9, netflowv9_defragment
from scapy.packet import Raw
from scapy.utils import wrpcap

FROM, TO, PACKETS = (8, 4), (12, 4), (2, 8)  # element and length: RFC 5102
SENT = ("192.0.2.1", "192.0.2.2", 7)
first, second = (ipaddress.ip_address(address).packed for address in SENT[:2])
count = struct.pack("!Q", SENT[2])


def message(domain: int, identifier: int, body: bytes) -> bytes:
    one_set = struct.pack("!HH", identifier, 4 + len(body)) + body
    return struct.pack("!HHIII", 10, 16 + len(one_set), 1700000000, 0, domain) + one_set


def template(domain: int, *fields: tuple[int, int]) -> bytes:
    return message(domain, 2, struct.pack("!HH", 256, len(fields)) + b"".join(struct.pack("!HH", *f) for f in fields))


messages = [
    template(1, FROM, TO, PACKETS),
    template(2, PACKETS, TO, FROM),
    message(1, 256, first + second + count),
    message(2, 256, count + second + first),
]
frames = [
    Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="192.0.2.9", dst="192.0.2.10")
    / UDP(sport=5000, dport=2055) / Raw(one) for one in messages
]  # fmt: skip
wrpcap(sys.argv[1], frames)

columns = [word for field in ("srcaddr", "dstaddr", "packets") for word in ("-e", f"cflow.{field}")]
shown = subprocess.run(["tshark", "-r", sys.argv[1], "-T", "fields", *columns], check=True, capture_output=True, text=True)
seen = {"tshark": [(a, b, int(c)) for a, b, c in (line.split() for line in shown.stdout.splitlines() if line.strip())]}

templates = {"netflow": {}, "ipfix": {}}
records = [record.data for one in messages for record in netflow.parse_packet(one, templates).flows]
seen["netflow"] = [
    (
        str(ipaddress.ip_address(record["sourceIPv4Address"])),
        str(ipaddress.ip_address(record["destinationIPv4Address"])),
        record["packetDeltaCount"],
    )
    for record in records
]
decoded = netflowv9_defragment([Ether(bytes(frame)) for frame in frames])
seen["scapy"] = [
    (record.IPV4_SRC_ADDR, record.IPV4_DST_ADDR, int.from_bytes(record.IN_PKTS, "big"))
    for frame in decoded if frame.haslayer(NetflowDataflowsetV9)
    for record in frame[NetflowDataflowsetV9].records
]  # fmt: skip
for reader, flows in seen.items():
    print(reader, flows)
wrong = ("0.0.0.7", "0.0.0.0", int.from_bytes(first + second, "big"))
assert seen["tshark"] == [SENT, SENT]
assert seen["netflow"] == seen["scapy"] == [wrong, SENT], "the behaviour changed"
PYTHON
