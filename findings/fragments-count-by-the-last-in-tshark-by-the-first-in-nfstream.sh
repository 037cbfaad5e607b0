#!/usr/bin/env bash
# Of a UDP datagram in three fragments, tshark 4.0.17's `-z conv,udp` (Debian 12) counts the last one only, PyPI's nfstream
# 6.6.0 the first one only; pmacctd 1.7.7 counts all three.
#
# Large answers of DNS, media and tunnels come in fragments, of which the first alone has ports. All three tools know the
# flow: tshark puts datagrams together again, pmacctd remembers the first fragment's ports. One would expect the
# sum, or the later fragments as a flow without ports. In tshark's conversation there is one frame, that in which the
# datagram was complete, with that frame's length: 1,074 bytes of 4,102. nfstream has 1,514 and drops the rest without a
# flow or a word. `-z conv,ip` of the same run of tshark has all bytes. What floods a link with large datagrams shows
# as the smaller the more it is fragmented.
#
# Seen: tshark conv,ip 3 frames, 4102 bytes, conv,udp 1 frame, 1074 bytes; nfstream 1 packet, 1514 bytes;
#   pmacctd 3 packets, 4060 bytes (of IP)
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.17*' 'pmacct=1.7.7-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install nfstream==6.6.0 2>/dev/null

python3 - "$folder/fragments.pcap" <<'PYTHON'
import struct
import sys


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~(total + (total >> 16)) & 0xFFFF


def fragment(datagram: bytes, at: int, size: int = 1480) -> bytes:
    piece, more = datagram[at : at + size], at + size < len(datagram)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(piece), 7, at // 8 | more << 13, 64, 17, 0)
    head += bytes([192, 0, 2, 1, 192, 0, 2, 2])
    return bytes(12) + b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + piece


datagram = struct.pack("!HHHH", 1024, 5000, 4000, 0) + bytes(3992)
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for at in range(0, len(datagram), 1480):
        frame = fragment(datagram, at)
        file.write(struct.pack("<IIII", 1_700_000_000, at, len(frame), len(frame)) + frame)
PYTHON

by_tshark() { # frames and bytes of both ways together
	tshark -r "$folder/fragments.pcap" -q -z "conv,$1" 2>/dev/null | awk '/<->/ { print $(NF - 4), $(NF - 3) }'
}
by_nfstream=$("$folder/venv/bin/python" -W ignore - "$folder/fragments.pcap" <<'PYTHON'
import sys

from nfstream import NFStreamer

if __name__ == "__main__":
    for flow in NFStreamer(source=sys.argv[1], n_dissections=0):
        print(flow.dst_port, flow.bidirectional_packets, flow.bidirectional_bytes)
PYTHON
)
by_pmacctd=$(pmacctd -I "$folder/fragments.pcap" -P print -c dst_port,proto -O csv 2>/dev/null | grep udp)

seen="conv,ip $(by_tshark ip); conv,udp $(by_tshark udp); nfstream $by_nfstream; pmacctd $by_pmacctd"
echo "$seen"
[ "$seen" = "conv,ip 3 4102; conv,udp 1 1074; nfstream 5000 1 1514; pmacctd 5000,udp,3,4060" ] ||
	{ echo "the behaviour changed"; exit 1; }
