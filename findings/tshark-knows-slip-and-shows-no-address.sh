#!/usr/bin/env bash
# tshark 4.0.17 (Debian 12) opens a capture of a SLIP line and shows no address in it; tcpdump 4.99.3 of the same Debian
# does.
#
# LINKTYPE_SLIP (8) is what libpcap writes on such lines: 16 bytes of header, then the IP packet. capinfos names the
# encapsulation ("SLIP") and tshark counts packets and lengths, so one would expect the packet behind the header. But
# no dissector is registered for it: each packet is "UNKNOWN, WTAP_ENCAP = 3", its ip.src is empty, and the display
# filter "ip" matches nothing, with exit status 0. A script that sums conversations gets an empty table and no error.
#
# Seen: tshark no address, "UNKNOWN", status 0; capinfos SLIP; tcpdump 192.0.2.1 > 192.0.2.2
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.17*' 'tcpdump=4.99.3*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/slip.pcap" <<'PYTHON'
import struct
import sys

ip = bytes.fromhex("4500001c00010000401176cdc0000201c0000202") + struct.pack("!HHHH", 1, 9, 8, 0)
packet = b"\x00" + ip[:1] + bytes(14) + ip  # direction, first byte of what was sent, padding
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 8))
    file.write(struct.pack("<IIII", 1_700_000_000, 0, len(packet), len(packet)) + packet)
PYTHON

failed=0
holds() { # NAME, TEXT, WHAT IS IN IT
	echo "$1: $2"
	[[ $2 == *"$3"* ]] || { echo "the behaviour changed: no '$3'"; failed=1; }
}
holds tcpdump "$(tcpdump -nr "$folder/slip.pcap" 2>/dev/null)" "192.0.2.1.1 > 192.0.2.2.9"
holds capinfos "$(capinfos -E "$folder/slip.pcap" | tail -1)" "SLIP"
holds tshark "$(tshark -r "$folder/slip.pcap" 2>/dev/null), status $?" "WTAP_ENCAP = 3, status 0"
holds "tshark -Y ip" "[$(tshark -r "$folder/slip.pcap" -Y ip 2>/dev/null)]" "[]"
exit "$failed"
