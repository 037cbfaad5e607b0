#!/usr/bin/env bash
# Argus (Debian 12: argus-server 3.0.8.2-2.2, argus-client 3.0.8.2-6.1; Debian 13: 5.0.2) shows whatever IGMPv3 report
# as sent to 0.0.0.1.
#
# A membership report goes to 224.0.0.22 (RFC 3376, 4.2.14), and that is the destination address of its IP header. One
# would expect it in the column DstAddr, as for every other protocol. Argus has there what stands in the last four bytes
# of the IGMP header: reserved, and the number of group records that follow. So all reports of one group are flows to
# 0.0.0.1, of two groups to 0.0.0.2, and a tool that reads `ra` has hosts that no packet was sent to.
#
# Seen: 1700000000.250000 igmp 192.0.2.1 -> 0.0.0.1
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends argus-server argus-client >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/igmp.pcap" <<'PYTHON'
import socket
import struct
import sys


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~(total + (total >> 16)) & 0xFFFF


def ip(source: str, destination: str, payload: bytes) -> bytes:
    options = bytes([0x94, 4, 0, 0])  # router alert
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x46, 0xC0, 24 + len(payload), 0, 0x4000, 1, 2, 0) + ends + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


report = struct.pack("!BBHHH", 0x22, 0, 0, 0, 1) + struct.pack("!BBH4s", 4, 0, 0, socket.inet_aton("224.0.0.251"))
report = report[:2] + struct.pack("!H", checksum(report)) + report[4:]
frame = bytes.fromhex("01005e000016 020000000001 0800") + ip("192.0.2.1", "224.0.0.22", report)
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    file.write(struct.pack("<IIII", 1700000000, 250000, len(frame), len(frame)) + frame)
PYTHON

argus -X -r "$folder/igmp.pcap" -w "$folder/igmp.argus"
ra -n -u -r "$folder/igmp.argus" -s stime proto saddr dir daddr - igmp
shown=$(ra -n -u -r "$folder/igmp.argus" -c , -s daddr - igmp | grep -v DstAddr)
[ "$shown" = 0.0.0.1 ] || { echo "sent to 224.0.0.22, shown as $shown: the behaviour changed"; exit 1; }
