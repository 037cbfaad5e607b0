#!/usr/bin/env bash
# tshark 4.0.17 (Debian 12) misreads the times of pcapng files whose clock is finer than 18 billion units a second;
# tcpdump 4.99.3 of the same Debian reads them right.
#
# if_tsresol may be any power of 10 or of 2 (draft-ietf-opsawg-pcapng, 4.2): 11 and 12 for cards that stamp in
# picoseconds, 0xa8 for 2^-40 s. One would expect five packets over a second to stay in their order, at .0, .01, .1, .5
# and .999. In picoseconds tshark has the last three at .0078, .0019 and .0029: the seconds are right, and the fraction
# is wrong from .0185 s on, where units times 10^9 no longer fit into 64 bits. Deltas become negative,
# rates and round trips are those of another second; exit status 0, no warning. capinfos and editcap read the same way,
# so that a file which is rewritten keeps the wrong times.
#
# Seen: tshark .000000000 .010000000 .007766279 .001937910 .002875820; tcpdump .000000 .010000 .100000 .500000 .999000
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tshark=4.0.17*' 'tcpdump=4.99.3*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/picoseconds.pcapng" <<'PYTHON'
import struct
import sys

frame = bytes(12) + bytes.fromhex("0800 4500001c0000000040110000c0000201c0000202 0001000200080000")


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))


with open(sys.argv[1], "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHI HHB3x HH", 1, 0, 0, 9, 1, 12, 0, 0)))  # if_tsresol: 10^-12 s
    for milliseconds in (0, 10, 100, 500, 999):
        at = 1_000_000 * 10**12 + milliseconds * 10**9
        file.write(block(6, struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(frame), len(frame)) + frame))
PYTHON

failed=0
holds() { # NAME, TEXT, WHAT IT IS
	echo "$1: $2"
	[[ $2 == "$3" ]] || { echo "the behaviour changed: not '$3'"; failed=1; }
}
fractions() { sed -E 's/^1000000(\.[0-9]+).*/\1/' | paste -sd ' '; }
file=$folder/picoseconds.pcapng
wrong=".000000000 .010000000 .007766279 .001937910 .002875820"
holds tcpdump "$(tcpdump -tt -nr "$file" 2>/dev/null | fractions)" ".000000 .010000 .100000 .500000 .999000"
holds tshark "$(tshark -r "$file" -T fields -e frame.time_epoch 2>/dev/null | fractions)" "$wrong"
editcap -F nsecpcap "$file" "$folder/rewritten.pcap"
holds "tcpdump, of what editcap made of it" \
	"$(tcpdump --nano -tt -nr "$folder/rewritten.pcap" 2>/dev/null | fractions)" "$wrong"
exit "$failed"
