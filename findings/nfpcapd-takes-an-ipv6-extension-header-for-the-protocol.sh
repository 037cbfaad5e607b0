#!/usr/bin/env bash
# nfdump's nfpcapd 1.7.1 stores a UDP packet behind an IPv6 extension header as protocol 0, 60 or 44, without ports: all
# such packets between two hosts are one flow of no protocol; pmacctd 1.7.7 and argus 3.0.8 read the same files as UDP.
#
# IPv6 puts options between the header and the transport (RFC 8200, 4): router alert, destination options, an atomic
# fragment (RFC 6946) where a path is narrow. One would expect the meter that knows names for them (nfdump prints OPTS6
# and Frag6) to walk past. It takes the first "next header" for the protocol. So a filter `proto udp` or `port 5001`
# finds nothing, a DNS answer in an atomic fragment is no DNS, and hop-by-hop options look like a protocol 0.
#
# Seen (protocol and source port): no extension UDP 5000;  hop-by-hop 0, 0;  destination options OPTS6, 0;
#   an atomic fragment Frag6, 0;  pmacctd and argus: udp 5000, four times
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nfdump=1.7.1-*' 'pmacct=1.7.7-*' \
	'argus-server=2:3.0.8*' 'argus-client=1:3.0.8*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder" <<'PYTHON'
import struct
import sys
from pathlib import Path

UDP, NOTHING = 17, b""
datagram = bytes.fromhex("1388 1389 000d 4a5c") + b"hello"
ends = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002")
extensions = {  # the first next header, and the eight bytes that it stands for
    "none": (UDP, NOTHING),
    "hop-by-hop": (0, bytes([UDP, 0, 5, 2, 0, 0, 1, 0])),  # router alert, RFC 2711
    "destination": (60, bytes([UDP, 0, 1, 4, 0, 0, 0, 0])),  # padding
    "atomic": (44, bytes([UDP, 0, 0, 0, 0, 0, 0, 7])),
}
for name, (following, extension) in extensions.items():
    payload = extension + datagram
    frame = bytes.fromhex("020000000002 020000000001 86dd 60000000") + struct.pack("!HBB", len(payload), following, 64)
    frame += ends + payload
    record = struct.pack("<IIII", 1700000000, 0, len(frame), len(frame)) + frame
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    Path(sys.argv[1], f"{name}.pcap").write_bytes(header + record)
PYTHON

with_nfpcapd() {
	mkdir -p "$folder/nfpcapd.$1"
	nfpcapd -r "$folder/$1.pcap" -w "$folder/nfpcapd.$1" >/dev/null 2>&1
	nfdump -R "$folder/nfpcapd.$1" -q -o 'fmt:%pr %sp' 2>/dev/null | awk 'NF { print $1, $2 }'
}
with_pmacctd() {
	printf '%s\n' 'daemonize: false' "pcap_savefile: $folder/$1.pcap" 'plugins: print' 'aggregate: src_port, proto' \
		'print_output: csv' 'print_refresh_time: 60' >"$folder/pmacctd.conf"
	{ unshare --net pmacctd -f "$folder/pmacctd.conf" 2>/dev/null || true; } | awk -F, '$1 == 5000 { print $2, $1 }'
}
with_argus() {
	argus -r "$folder/$1.pcap" -w - 2>/dev/null | ra -r - -n -s proto saddr sport - not man 2>/dev/null |
		awk '/2001:db8/ { sub(/.*\./, "", $2); print $1, $2 }'
}
for extension in none hop-by-hop destination atomic; do
	seen="nfpcapd $(with_nfpcapd "$extension"), pmacctd $(with_pmacctd "$extension"), argus $(with_argus "$extension")"
	echo "$extension: $seen"
	case $extension in
	none) expected="UDP 5000" ;;
	hop-by-hop) expected="0 0" ;;
	destination) expected="OPTS6 0" ;;
	*) expected="Frag6 0" ;;
	esac
	[ "$seen" = "nfpcapd $expected, pmacctd udp 5000, argus udp 5000" ] || { echo "the behaviour changed"; exit 1; }
done
