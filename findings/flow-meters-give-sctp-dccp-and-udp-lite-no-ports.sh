#!/usr/bin/env bash
# Debian 12's nfpcapd 1.7.1, pmacctd 1.7.7 and argus 3.0.8 give SCTP, DCCP and UDP-Lite no ports: conversations
# between two hosts cannot be told apart. Argus even calls DCCP "sep", what protocol 33 was before RFC 4340.
#
# The ports of these three are the first four bytes after the IP header, as TCP's and UDP's are (RFC 9260, 4340, 3828),
# and tshark shows them. One would expect a meter that names the protocol SCTP to tell its conversations apart, since
# signalling (SIGTRAN, Diameter, S1AP) opens many between the same two hosts, and a port in a filter to find them.
# Nothing is said about it: a filter for the port has no rows, and a sum by port has a port 0.
#
# Seen (packets from the ports 5000 and 5001 in turn): tcp, udp: both ports in all of them
#       sctp, dccp, udplite: nfpcapd and pmacctd port 0, argus none; tshark both
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	'nfdump=1.7.1-*' 'pmacct=1.7.7-*' 'argus-server=2:3.0.8*' 'argus-client=1:3.0.8*' 'tshark=4.0.*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder" <<'PYTHON'
import struct
import sys
from pathlib import Path

# After the ports: a SYN, a datagram of 8 bytes, an INIT, a DCCP request, a datagram that is covered whole.
after = {
    "tcp": (6, "00000001 00000000 5002ffff 00000000"),
    "udp": (17, "0010 0000 3132333435363738"),
    "sctp": (132, "00000000 00000000 01000014 00000007 0000ffff 00010001 00000009"),
    "dccp": (33, "04000000 00000001 00000000"),
    "udplite": (136, "0000 0000 3132333435363738"),
}
for name, (protocol, rest) in after.items():
    records = b""
    for number in range(10):
        body = struct.pack("!HH", 5000 + number % 2, 2905) + bytes.fromhex(rest)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
        addresses = bytes([192, 0, 2, 1, 192, 0, 2, 2])
        total = sum(struct.unpack("!10H", head + addresses))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        ip = head[:10] + struct.pack("!H", checksum) + addresses + body
        frame = (bytes.fromhex("020000000002 020000000001 0800") + ip).ljust(60, b"\0")
        records += struct.pack("<IIII", 1700000000 + number, 0, len(frame), len(frame)) + frame
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    Path(sys.argv[1], f"{name}.pcap").write_bytes(header + records)
PYTHON

with_nfpcapd() {
	mkdir -p "$folder/nfpcapd.$1"
	nfpcapd -r "$folder/$1.pcap" -w "$folder/nfpcapd.$1" >/dev/null 2>&1
	nfdump -R "$folder/nfpcapd.$1" -q -o 'fmt:%sa %sp' 2>/dev/null | awk '{ print $2 }'
}
with_argus() { argus -r "$folder/$1.pcap" -w - 2>/dev/null | ra -r - -n -c , -s saddr sport | awk -F, '$1 == "192.0.2.1" { print $2 }'; }
with_pmacctd() {
	printf '%s\n' 'daemonize: false' "pcap_savefile: $folder/$1.pcap" 'plugins: print' 'aggregate: src_host,src_port' \
		'print_output: csv' 'print_refresh_time: 60' >"$folder/pmacctd.conf"
	{ unshare --net pmacctd -f "$folder/pmacctd.conf" 2>/dev/null || true; } | awk -F, '$1 == "192.0.2.1" { print $2 }'
}
with_tshark() { tshark -r "$folder/$1.pcap" -T fields -e "${1%lite}.srcport" 2>/dev/null; } # what it calls udp is UDP-Lite too

for protocol in tcp udp sctp dccp udplite; do
	seen=""
	for meter in nfpcapd pmacctd argus tshark; do
		seen+="$meter $("with_$meter" "$protocol" | sort -u | tr '\n' ' ')"
	done
	echo "$protocol: $seen"
	expected="nfpcapd 5000 5001 pmacctd 5000 5001 argus 5000 5001 tshark 5000 5001 "
	case $protocol in sctp | dccp | udplite) expected="nfpcapd 0 pmacctd 0 argus  tshark 5000 5001 " ;; esac
	[ "$seen" = "$expected" ] || { echo "the behaviour changed"; exit 1; }
done
argus -r "$folder/dccp.pcap" -w - 2>/dev/null | ra -r - -n -s proto | grep -qw sep || { echo "the name changed"; exit 1; }
