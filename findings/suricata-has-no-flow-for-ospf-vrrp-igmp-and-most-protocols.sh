#!/usr/bin/env bash
# Suricata 7.0.10 (Debian 13: 1:7.0.10-1+deb13u4): its flow and netflow events hold TCP, UDP, SCTP, ICMP and ESP; packets
# of any other protocol over IP are in none.
#
# The flow events of eve.json are read as the list of who talked to whom, like NetFlow or Zeek's conn.log, where a protocol
# without ports is a flow between two addresses, and ICMP and ESP, which have no ports either, do have one here. But routing
# protocols (OSPF, EIGRP, PIM), VRRP, IGMP, RSVP, DCCP and UDP-Lite get none: packets and bytes summed over flows are less
# than those of the capture, however many such packets there are, and no event says so. The counters of the decoder
# (stats) have each packet, so the sum of a link and the sum of its flows differ for good.
#
# Seen: 13 packets of as many protocols decoded, flows of ESP, ICMP, SCTP, TCP and UDP
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=suricata trixie "$folder/trixie"
version=$(chroot "$folder/trixie" dpkg -l suricata | awk '/^ii/ { print $3 }')
echo "suricata $version"
[ "$version" = 1:7.0.10-1+deb13u4 ] || { echo "another version than the one that this is about"; exit 1; }

python3 - "$folder/trixie/tmp/protocols.pcap" <<'PYTHON'
import socket
import struct
import sys


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(protocol: int, payload: bytes) -> bytes:
    ends = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), protocol, 0, 64, protocol, 0) + ends
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000002 020000000001 0800") + header + payload


text = b"some payload of a few bytes."
packets = {
    1: struct.pack("!BBHHH", 8, 0, 0, 1, 1) + text,
    2: struct.pack("!BBH4s", 0x16, 0, 0x08FB, socket.inet_aton("224.0.0.251")),  # IGMP
    6: struct.pack("!HHIIBBHHH", 1001, 80, 1, 0, 0x50, 2, 100, 0, 0),
    17: struct.pack("!HHHH", 1001, 4001, 8 + len(text), 0) + text,
    33: struct.pack("!HHBBHII", 1001, 4001, 4, 0, 0, 0, 0) + text,  # DCCP
    46: struct.pack("!BBHBBH", 0x10, 1, 0, 64, 0, 8),  # RSVP
    50: struct.pack("!II", 7, 1) + text,  # ESP
    88: struct.pack("!BBHIIII", 2, 5, 0, 0, 0, 0, 1),  # EIGRP
    89: struct.pack("!BBH4sIHHQ", 2, 1, 24, b"\1\1\1\1", 0, 0, 0, 0),  # OSPF
    103: struct.pack("!BBH", 0x20, 0, 0xDFFF),  # PIM
    112: struct.pack("!BBBBBBH4s", 0x31, 1, 100, 1, 0, 100, 0, socket.inet_aton("192.0.2.9")),  # VRRP
    132: struct.pack("!HHII", 1001, 4001, 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 1500, 1, 1, 1),
    136: struct.pack("!HHHH", 1001, 4001, 8 + len(text), 0) + text,  # UDP-Lite
}
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for second, (protocol, payload) in enumerate(packets.items()):
        data = frame(protocol, payload)
        file.write(struct.pack("<IIII", 1700000000 + second, 0, len(data), len(data)) + data)
PYTHON

mkdir "$folder/trixie/tmp/log"
touch "$folder/trixie/tmp/none.rules"
chroot "$folder/trixie" suricata -k none -r /tmp/protocols.pcap -l /tmp/log -S /tmp/none.rules \
    -c /etc/suricata/suricata.yaml >/dev/null 2>&1
python3 - "$folder/trixie/tmp/log/eve.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    events = [json.loads(line) for line in file]
flows = sorted(event["proto"] for event in events if event["event_type"] in ("flow", "netflow"))
decoded = next(event["stats"]["decoder"]["ipv4"] for event in events if event["event_type"] == "stats")
print(f"IPv4 packets decoded: {decoded}; flows of {', '.join(flows)}")
assert (decoded, flows) == (13, ["ESP", "ICMP", "SCTP", "TCP", "UDP"]), "the behaviour changed"
PYTHON
