#!/usr/bin/env bash
# tshark 4.0.17 (Debian 12) gives blocks of pcapng that hold no packet a frame number, capinfos of the same release and
# tcpdump count packets only.
#
# A pcapng file may hold journal entries and custom blocks between its packets (draft-ietf-opsawg-pcapng: block types 9
# and 0x0BAD); Wireshark's own sdjournal writes the former. One would expect "frame 4" to be the
# fourth packet, and each frame to have a time, as pcap's have. Here the second packet is frame 4, the frames between
# have neither frame.time_epoch nor a link layer, and a script that lays tshark's frames beside another tool's packets
# by number, or takes the time of each, goes wrong behind the first such block.
#
# Seen: tshark 1 to 4, of which 2 and 3 have no time; capinfos 2; tcpdump 2
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.*' 'wireshark-common=4.0.*' tcpdump >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/two.pcapng" <<'PYTHON'
import struct
import sys


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))


ip = bytes.fromhex("4500001c0001000040110000c0000201c0000202")
frame = bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", 1, 2, 8, 0)


def packet(at_us: int) -> bytes:
    return block(6, struct.pack("<IIIII", 0, at_us >> 32, at_us & 0xFFFFFFFF, len(frame), len(frame)) + frame)


entry = b"__REALTIME_TIMESTAMP=1700000000500000\nMESSAGE=hello\n"
journal = block(9, struct.pack("<I", len(entry)) + entry)
custom = block(0x0BAD, struct.pack("<I", 32473) + b"note")  # 32473: for examples, RFC 5612
begin = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 65535))
start = 1700000000_000000
with open(sys.argv[1], "wb") as file:
    file.write(begin + packet(start) + journal + custom + packet(start + 1_000_000))
PYTHON

shown=$(tshark -r "$folder/two.pcapng" -T fields -E separator=, -e frame.number -e frame.time_epoch 2>/dev/null)
echo "$shown"
counted=$(capinfos -M -c "$folder/two.pcapng" | awk '/Number of packets/ {print $NF}')
read_by_tcpdump=$(tcpdump -nr "$folder/two.pcapng" 2>/dev/null | wc -l)
echo "capinfos: $counted packets, tcpdump: $read_by_tcpdump"
together="$(tr '\n' ' ' <<<"$shown")$counted $read_by_tcpdump"
[ "$together" = "1,1700000000.000000000 2, 3, 4,1700000001.000000000 2 2" ] || { echo "the behaviour changed"; exit 1; }
