#!/usr/bin/env bash
# pmacctd 1.7.7 counts each packet of a capture file twice if its print plugin prints every second, and once if it prints
# every minute.
#
# `print_refresh_time` says how often the table is printed; with a capture as input one sets it low, so that the output
# comes soon. One would expect it to change when rows come, and never what is in them. With 1 second, nearly every run over
# ten packets prints twenty, with twice the bytes, in one row; with 2 seconds, one run in twenty does; with 60, none.
# The log is the same, the exit status is 0, and as the table is right for all who use the example's 60 seconds, one
# looks for the mistake in the capture.
#
# Seen (a capture of ten packets, ten runs each): 60 s: 10, ten times;  1 s: 20, nine or ten times
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'pmacct=1.7.7-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/capture.pcap" <<'PYTHON'
import struct
import sys
from pathlib import Path

frame = bytes.fromhex(
    "020000000002 020000000001 0800 45000021 00010000 40110000 c0000201 c0000202 1388 1389 000d 0000 68656c6c6f"
).ljust(60, b"\0")
records = (struct.pack("<IIII", 1700000000 + n, 0, len(frame), len(frame)) + frame for n in range(10))
header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
Path(sys.argv[1]).write_bytes(header + b"".join(records))
PYTHON

run() { # SECONDS: what it counted
	printf '%s\n' 'daemonize: false' "pcap_savefile: $folder/capture.pcap" 'plugins: print' 'aggregate: src_host' \
		'print_output: csv' "print_refresh_time: $1" >"$folder/pmacctd.conf"
	{ unshare --net pmacctd -f "$folder/pmacctd.conf" 2>/dev/null || true; } | awk -F, '$1 == "192.0.2.1" { n += $2 } END { print n }'
}
for seconds in 60 1; do
	counted=$(for _ in 1 2 3 4 5 6 7 8 9 10; do run "$seconds"; done | sort -n | uniq -c | awk '{ printf "%s times %s packets; ", $1, $2 }')
	echo "printed every $seconds s: $counted"
	case $seconds in
	60) [ "$counted" = "10 times 10 packets; " ] || { echo "the behaviour changed"; exit 1; } ;;
	*) case $counted in *" times 20 packets"*) ;; *) echo "the behaviour changed"; exit 1 ;; esac ;;
	esac
done
