#!/usr/bin/env bash
# Debian 12's nfpcapd 1.7.1, softflowd 1.1.0, pmacctd 1.7.7 and argus 3.0.8 show no address of IPv4 behind two VLAN tags,
# though each reads it behind one tag and behind an MPLS label; three of the four say nothing at all.
#
# Providers and larger switches stack tags (802.1ad: EtherType 0x88a8, then 0x8100), and a port that mirrors such a trunk
# is where one puts a meter. One would expect a meter that follows a tag and an MPLS stack to follow two tags, as
# tshark and tcpdump do. nfpcapd and pmacctd have no flow and end with success, argus has one of EtherType 34984
# without addresses, softflowd calls the packets "non-IP" if it is run in the foreground.
#
# Seen (10 packets each): one tag, MPLS: 10 in all of them;  two tags: nfpcapd, pmacctd, argus and softflowd 0, tshark 10
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	'nfdump=1.7.1-*' 'softflowd=1.1.0-*' 'pmacct=1.7.7-*' \
	'argus-server=2:3.0.8*' 'argus-client=1:3.0.8*' 'tshark=4.0.*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder" <<'PYTHON'
import struct
import sys
from pathlib import Path

packet = bytes.fromhex("45000021 00010000 40110000 c0000201 c0000202 1388 1389 000d 0000") + b"hello"
ethernet = bytes.fromhex("020000000002 020000000001")
before = {"one": "8100 0005 0800", "mpls": "8847 00010140", "two": "88a8 0007 8100 0005 0800"}
for name, layers in before.items():
    frame = (ethernet + bytes.fromhex(layers) + packet).ljust(60, b"\0")
    records = (struct.pack("<IIII", 1700000000 + n, 0, len(frame), len(frame)) + frame for n in range(10))
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    Path(sys.argv[1], f"{name}.pcap").write_bytes(header + b"".join(records))
PYTHON

sum() { awk '{ all += $1 } END { print all + 0 }'; }
with_nfpcapd() {
	mkdir -p "$folder/nfpcapd.$1"
	nfpcapd -r "$folder/$1.pcap" -w "$folder/nfpcapd.$1" >/dev/null 2>&1
	nfdump -R "$folder/nfpcapd.$1" -q -o 'fmt:%pkt %sa' 2>/dev/null | awk '$2 == "192.0.2.1"' | sum
}
with_argus() { argus -r "$folder/$1.pcap" -w - 2>/dev/null | ra -r - -n -s spkts saddr | awk '$2 == "192.0.2.1"' | sum; }
with_softflowd() {
	softflowd -d -n 127.0.0.1:9 -r "$folder/$1.pcap" 2>&1 | awk '/^Packets processed/ { print $3 }' | sum
}
with_pmacctd() {
	printf '%s\n' 'daemonize: false' "pcap_savefile: $folder/$1.pcap" 'plugins: print' 'aggregate: src_host' \
		'print_output: csv' 'print_refresh_time: 60' >"$folder/pmacctd.conf"
	{ unshare --net pmacctd -f "$folder/pmacctd.conf" 2>/dev/null || true; } |
		awk -F, '$1 == "192.0.2.1" { print $2 }' | sum
}
with_tshark() { tshark -r "$folder/$1.pcap" -Y 'ip.src == 192.0.2.1' 2>/dev/null | awk '{ print 1 }' | sum; }

for layers in one mpls two; do
	seen=""
	for meter in nfpcapd softflowd pmacctd argus tshark; do
		seen+="$meter $("with_$meter" "$layers") "
	done
	echo "$layers: $seen"
	expected="nfpcapd 10 softflowd 10 pmacctd 10 argus 10 tshark 10 "
	[ "$layers" != two ] || expected="nfpcapd 0 softflowd 0 pmacctd 0 argus 0 tshark 10 "
	[ "$seen" = "$expected" ] || { echo "the behaviour changed"; exit 1; }
done
