#!/usr/bin/env bash
# Suricata 7.0.10 (Debian 13: 1:7.0.10-1+deb13u4): its flow events count a datagram in three fragments as one packet, and
# of one that lacks a fragment nothing: no flow, no packet, no byte.
#
# Large answers of DNS, media and tunnels come in fragments. The first one has the ports, so one would expect it in its
# flow whatever becomes of the rest, and of all flows the packets and bytes of the wire, as they are for whole datagrams.
# A flow gets what was put together, when the last fragment is there: one packet, without a header of Ethernet and the IP
# headers of the later fragments. Where one of three is lost (half of the datagrams, at a loss of 20 %), the other two
# are in no flow, also after the minute for which Suricata waits. So a host that sends large datagrams over a bad link seems
# to send little, and one that sends nothing else is not there. The sums in stats (decoder, defrag) have all of
# them, without a word of whose they are.
#
# Seen for ten datagrams to each port, over IPv4 and IPv6, as packets on the wire and in the flow:
#   whole 10 and 10 (same bytes); in three fragments 30 and 10 (2 to 3 % less bytes); without the last of the three 20 and no flow
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=suricata trixie "$folder/trixie"
version=$(chroot "$folder/trixie" dpkg -l suricata | awk '/^ii/ { print $3 }')
echo "suricata $version"
[ "$version" = 1:7.0.10-1+deb13u4 ] || { echo "another version than the one that this is about"; exit 1; }

python3 - "$folder/trixie" <<'PYTHON'
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
V6 = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in ("2001:db8::1", "2001:db8::2"))
START = 1700000000
WHOLE, CUT, LACKING, LATE = 5000, 5001, 5002, 5003  # destination ports
SIZES = {WHOLE: 1000, CUT: 4000, LACKING: 4000, LATE: 1000}
PIECE = 1440  # bytes of a datagram in a fragment


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ipv4(number: int, offset: int, more: bool, part: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), number, offset // 8 | more << 13, 64, 17, 0) + V4
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000002 020000000001 0800") + header + part


def ipv6(number: int, offset: int, more: bool, part: bytes) -> bytes:
    if offset or more:
        part = struct.pack("!BBHI", 17, 0, offset | more, number) + part
    header = struct.pack("!IHBB", 6 << 28, len(part), 44 if offset or more else 17, 64) + V6
    return bytes.fromhex("020000000002 020000000001 86dd") + header + part


def frames(make, port: int, number: int) -> list[bytes]:
    """A datagram in as many frames as it takes; of those to LACKING the last one is lost."""
    datagram = struct.pack("!HHHH", 1024, port, 8 + SIZES[port], 0) + b"x" * SIZES[port]
    ends = V4 if make is ipv4 else V6
    right = checksum(ends + struct.pack("!HH", 17, len(datagram)) + datagram)
    datagram = datagram[:6] + struct.pack("!H", right) + datagram[8:]
    starts = range(0, len(datagram), PIECE)
    sent = [make(number, at, at + PIECE < len(datagram), datagram[at : at + PIECE]) for at in starts]
    return sent[:-1] if port == LACKING else sent


sent = {}
packets = []
for make in (ipv4, ipv6):
    for port in (WHOLE, CUT, LACKING):
        for second in range(10):
            made = frames(make, port, port + second * 100)
            sent.setdefault((make.__name__, port), []).extend(made)
            packets += [(second, each) for each in made]
packets.sort(key=lambda each: each[0])  # a stable sort: fragments stay in their order
packets.append((200, frames(ipv4, LATE, 1)[0]))  # long after the fragments were given up
root = Path(sys.argv[1])
with open(root / "tmp/fragments.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for second, data in packets:
        file.write(struct.pack("<IIII", START + second, 0, len(data), len(data)) + data)
(root / "tmp/none.rules").touch()
(root / "tmp/log").mkdir()
settings = ["-S", "/tmp/none.rules", "-c", "/etc/suricata/suricata.yaml", "-l", "/tmp/log"]
run = ["chroot", root, "suricata", "-r", "/tmp/fragments.pcap", *settings]
subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

with open(root / "tmp/log/eve.json", encoding="utf-8") as file:
    events = [json.loads(line) for line in file]
flows = {}
for event in events:
    if event["event_type"] == "flow":
        version = "ipv6" if ":" in event["src_ip"] else "ipv4"
        flows[version, event["dest_port"]] = event["flow"]["pkts_toserver"], event["flow"]["bytes_toserver"]
for (version, port), each in sent.items():
    print(f"{version} {port}: sent {len(each), sum(map(len, each))}, in the flow {flows.get((version, port))}")
stats = next(event["stats"] for event in events if event["event_type"] == "stats")
print("decoded:", stats["decoder"]["pkts"], "packets;", stats["defrag"])
assert flows == {
    ("ipv4", WHOLE): (10, 10420),
    ("ipv4", CUT): (10, 40420),
    ("ipv6", WHOLE): (10, 10620),
    ("ipv6", CUT): (10, 40620),
    ("ipv4", LATE): (1, 1042),
}, "the behaviour changed"
assert {event["event_type"] for event in events} == {"flow", "stats"}, "something else tells of them"
PYTHON
