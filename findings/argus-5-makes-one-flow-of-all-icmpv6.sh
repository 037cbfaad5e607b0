#!/usr/bin/env bash
# Argus 5.0.2 (Debian 13: argus-server 2:5.0.2-3, argus-client 1:5.0.2+git20250321.41f65e2-2): ICMPv6 has no addresses;
# messages of one type between any hosts, and the answers to them, are one flow from :: to ::.
#
# Argus keeps a flow for each pair of hosts, and its records are what an audit of a network is made from. Argus 3.0.8.2
# of Debian 12 does so for ICMPv6 too (2001:db8::1 <-> 2001:db8::2), and version 5 for TCP, UDP, SCTP and OSPF over IPv6.
# It is not how `ra` prints: it shows files that version 3 wrote with their addresses. So after an upgrade, who pinged or
# swept whom over IPv6 is not in the record any more, nor is neighbour discovery; a count of hosts has :: as a host; and
# counts of flows fall, since three pairs of hosts make one flow, in one direction, with the packets of all.
#
# Seen: ipv6-icmp :: -> :: 6 packets, for an echo and its answer between each of three pairs of hosts
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=argus-server,argus-client trixie "$folder/trixie"
versions=$(chroot "$folder/trixie" dpkg -l argus-server argus-client | awk '/^ii/ { print $2, $3 }')
echo "$versions"
if [ "$versions" != $'argus-client 1:5.0.2+git20250321.41f65e2-2\nargus-server 2:5.0.2-3' ]; then
    echo "other versions than those that this is about"
    exit 1
fi

python3 - "$folder/trixie/tmp/echoes.pcap" <<'PYTHON'
import ipaddress
import struct
import sys


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(kind: int, source: str, destination: str) -> bytes:
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    message = struct.pack("!BBHHH", kind, 0, 0, 7, 1) + b"ping" * 4
    right = checksum(ends + struct.pack("!II", len(message), 58) + message)
    message = message[:2] + struct.pack("!H", right) + message[4:]
    ethernet = bytes.fromhex("020000000002 020000000001 86dd")
    return ethernet + struct.pack("!IHBB", 6 << 28, len(message), 58, 64) + ends + message


with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for second, host in enumerate((1, 3, 5)):
        near, far = f"2001:db8::{host}", f"2001:db8::{host + 1}"
        for microsecond, frame in enumerate((echo(128, near, far), echo(129, far, near))):
            file.write(struct.pack("<IIII", 1700000000 + second, microsecond, len(frame), len(frame)) + frame)
PYTHON

chroot "$folder/trixie" argus -X -r /tmp/echoes.pcap -w /tmp/echoes.argus
shown=$(chroot "$folder/trixie" ra -n -c , -r /tmp/echoes.argus -s proto saddr dir daddr pkts - ipv6)
echo "$shown"
[ "$(tail -n +2 <<<"$shown" | tr -d ' ')" = 'ipv6-icmp,::,->,::,6' ] || { echo "the behaviour changed"; exit 1; }
