#!/usr/bin/env bash
# nfpcapd 1.7.5 (Debian 13: nfdump 1.7.5-2+deb13u1): a conversation inside a tunnel that moves to another tunnel is written
# as if the first tunnel had carried all of it; the second tunnel is in no flow, nor is one that takes over what was sent
# without a tunnel before.
#
# A flow is told by the addresses, protocol and ports of its packets (RFC 7011, 2), and an exporter that shows both layers
# has one flow for the tunnel's ends and one for the conversation. nfpcapd looks for a flow by the inner packet only, and
# when it writes that flow it adds a second one with the ends of the tunnel seen first: with ports, which GRE has not, with
# the bytes of the inner packets, and with all packets of the conversation. After a failover nothing shows that the backup
# tunnel carries anything; each packet is counted twice; and two conversations in one tunnel are two flows of the tunnel.
# (1.7.1 of Debian 12 adds such flows with 0 packets.)
#
# Seen: failover: GRE 198.51.100.1:1001 -> 198.51.100.2:4001 6 packets, 768 bytes, where 3 went through that tunnel and 3
#   through 203.0.113.1 -> 203.0.113.2; takeover: UDP 192.0.2.1:1001 -> 192.0.2.2:4001 5 packets and no tunnel
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=nfdump trixie "$folder/trixie"
version=$(chroot "$folder/trixie" dpkg -l nfdump | awk '/^ii/ { print $3 }')
echo "nfdump $version"
[ "$version" = 1.7.5-2+deb13u1 ] || { echo "another version than the one that this is about"; exit 1; }

python3 - "$folder/trixie/tmp" <<'PYTHON'
import socket
import struct
import sys
from pathlib import Path


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + ends
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def capture(name: str, packets: list[bytes]) -> None:
    with (Path(sys.argv[1]) / name).open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for second, packet in enumerate(packets):
            frame = bytes.fromhex("020000000002 020000000001 0800") + packet
            file.write(struct.pack("<IIII", 1700000000 + second, 0, len(frame), len(frame)) + frame)


plain = ip("192.0.2.1", "192.0.2.2", 17, struct.pack("!HHHH", 1001, 4001, 108, 0) + bytes(100))
gre = struct.pack("!HH", 0, 0x0800) + plain
first, backup = ip("198.51.100.1", "198.51.100.2", 47, gre), ip("203.0.113.1", "203.0.113.2", 47, gre)
capture("failover", [first] * 3 + [backup] * 3)
capture("takeover", [plain] * 2 + [first] * 3)
PYTHON

shown() {
    chroot "$folder/trixie" sh -c "mkdir /tmp/$1-flows && nfpcapd -r /tmp/$1 -l /tmp/$1-flows" >/dev/null 2>&1
    chroot "$folder/trixie" nfdump -q -R "/tmp/$1-flows" -o 'fmt:%pr %sap %dap %pkt %byt' | awk 'NF { $1 = $1; print }' | sort
}
failover=$(shown failover)
takeover=$(shown takeover)
printf 'failover:\n%s\ntakeover:\n%s\n' "$failover" "$takeover"
conversation='UDP 192.0.2.1:1001 192.0.2.2:4001'
if [ "$failover" != $'GRE 198.51.100.1:1001 198.51.100.2:4001 6 768\n'"$conversation 6 768" ] ||
    [ "$takeover" != "$conversation 5 640" ]; then
    echo "the behaviour changed"
    exit 1
fi
