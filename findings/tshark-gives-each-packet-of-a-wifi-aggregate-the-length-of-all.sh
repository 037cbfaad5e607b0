#!/usr/bin/env bash
# tshark 4.0.17 (Debian 12) gives each packet of a Wi-Fi aggregate (A-MSDU) the length of the whole aggregate: a frame
# with eight packets is eight times its length in the tables of endpoints and conversations.
#
# Since 802.11n a station may send many packets in one frame, each with a header of 14 bytes. One would expect that a
# host that sent one frame of 1,176 bytes has sent about as much. tshark's tables count a row for each IP header, which
# is right for packets, and add the length of the frame to each, which is not right for bytes. capinfos and frame.len
# have the length once, and each table alone looks sound. So the share of a host, a top list or a rate made of
# "-z endpoints,ip" or "-z conv,udp" grows with how many packets a station puts into its frames.
#
# Seen: capinfos 1 packet of 1176 bytes, frame.len 1176; endpoints 8 packets and 9408 bytes; conversations 8 of 1176
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.17*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/wifi.pcap" <<'PYTHON'
import struct
import sys

OURS, THEIRS, ACCESS_POINT = (bytes.fromhex(f"02000000000{last}") for last in "123")


def checksum(header):
    total = sum(struct.unpack("!10H", header))
    return ~((total >> 16) + (total & 0xFFFF)) & 0xFFFF


def packet(port):
    """IPv4 and UDP with 92 bytes of payload."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 120, port, 0, 64, 17, 0) + bytes([192, 0, 2, 1, 192, 0, 2, 2])
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return header + struct.pack("!HHHH", port, 20000, 100, 0) + bytes(92)


aggregate = b""
for port in range(30001, 30009):
    aggregate += bytes(-len(aggregate) % 4)  # each begins at a multiple of four (IEEE 802.11-2020, 9.3.2.2.2)
    body = bytes.fromhex("aaaa030000000800") + packet(port)
    aggregate += THEIRS + OURS + struct.pack("!H", len(body)) + body
# QoS data from a station to its access point; the bit 0x80 of the QoS control says that this is an A-MSDU.
frame = bytes.fromhex("88010000") + ACCESS_POINT + OURS + THEIRS + b"\0\0" + b"\x80\0" + aggregate
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 105))
    file.write(struct.pack("<IIII", 1_700_000_000, 0, len(frame), len(frame)) + frame)
PYTHON

failed=0
holds() { # NAME, TEXT, PATTERN THAT IS IN IT
	echo "$1: $2"
	[[ $2 =~ $3 ]] || { echo "the behaviour changed: no '$3'"; failed=1; }
}
table() { tshark -n -q -r "$folder/wifi.pcap" -z "$1" 2>/dev/null; }
holds capinfos "$(capinfos -Tcdr "$folder/wifi.pcap")" $'\t1\t1176'
holds frame.len "$(tshark -r "$folder/wifi.pcap" -T fields -e frame.len 2>/dev/null)" '^1176$'
holds "endpoints,ip" "$(table endpoints,ip | grep '^192.0.2.1 ')" '^192.0.2.1 +8 +9408 '
holds "conv,udp" "$(table conv,udp | grep -c '1 1176 bytes') rows of 1176 bytes" '^8 '
exit "$failed"
