#!/usr/bin/env bash
# Argus (Debian 12: argus-client 3.0.8.2; Debian 13: 5.0.2): `rabins -M time 1m` has a TCP connection end in each minute
# that its last record touches, also in those before its end; which these are depends on how often argus writes records.
#
# rabins cuts a record at the bounds of its bins and shares out what was measured ("metrics are distributed uniformly",
# rabins(1)), so that packets and bytes of all pieces are those of the record. One would expect the end in the last piece
# and CON, as in argus's own records of a connection that goes on, in those before. Each piece has the state of the whole. Of
# six connections four end in the first minute and two in the third. With records of 60 seconds, the default by
# argus.conf(5), rabins has two ends in the second minute as well, eight of six; of one record for each connection, six ends
# in the first minute, of which two are more than a minute ahead. Sums of packets and bytes, which one checks, are right, and
# with records of 5 seconds, as Debian's argus.conf has it, few are cut, so that a test shows nothing.
#
# Seen, for both versions, ends in each minute: ra 4 0 2; rabins with records of 5 s 4 0 2, of 60 s 4 2 2, of 300 s 6 2 2
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap \
	'argus-server=2:3.0.8.2-*' 'argus-client=1:3.0.8.2-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=argus-server,argus-client trixie "$folder/trixie"
dpkg -l argus-client | awk '/^ii/ { print $2, $3 }'
later=$(chroot "$folder/trixie" dpkg -l argus-client | awk '/^ii/ { print $3 }')
echo "argus-client $later"
[ "$later" = 1:5.0.2+git20250321.41f65e2-2 ] || { echo "another version than the one that this is about"; exit 1; }

python3 - "$folder/trixie/tmp/connections.pcap" <<'PYTHON'
import socket
import struct
import sys

MINUTE = 1700000040  # a whole one
NEAR, FAR = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
FIN, SYN, PUSH, ACK = 1, 2, 8, 16


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(port: int, out: bool, numbers: tuple[int, int], flags: int, data: bytes = b"") -> bytes:
    ports, ends = ((port, 80), NEAR + FAR) if out else ((80, port), FAR + NEAR)
    segment = struct.pack("!HHIIBBHHH", *ports, *numbers, 0x50, flags, 65535, 0, 0) + data
    right = checksum(ends + struct.pack("!HH", 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack("!H", right) + segment[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0) + ends
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000002 020000000001 0800") + header + segment


def connection(port: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
    """A handshake, 100 bytes each second and their acknowledgement, and the end by both: (second, microsecond, frame)."""
    sent = [
        (first, 0, frame(port, True, (1000, 0), SYN)),
        (first, 1000, frame(port, False, (1000, 1001), SYN | ACK)),
        (first, 2000, frame(port, True, (1001, 1001), ACK)),
    ]
    number = 1001
    for second in range(first + 1, last):
        sent.append((second, 0, frame(port, True, (number, 1001), PUSH | ACK, b"x" * 100)))
        number += 100
        sent.append((second, 1000, frame(port, False, (1001, number), ACK)))
    return [
        *sent,
        (last, 0, frame(port, True, (number, 1001), FIN | ACK)),
        (last, 1000, frame(port, False, (1001, number + 1), FIN | ACK)),
        (last, 2000, frame(port, True, (number + 1, 1002), ACK)),
    ]


packets = []
for each in range(4):
    packets += connection(40000 + each, MINUTE + 10 + each, MINUTE + 20 + each)
for each in range(4, 6):
    packets += connection(40000 + each, MINUTE + 46 + each, MINUTE + 126 + each)
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for second, microsecond, data in sorted(packets):
        file.write(struct.pack("<IIII", second, microsecond, len(data), len(data)) + data)
PYTHON

# packets and, for each minute after the first packet's, ends
sums() {
	awk -F, '$2 >= 40000 {
		packets += $3
		if ($4 == "FIN") ends[int(($1 - 1700000040) / 60)]++
	} END { print packets ":", ends[0] + 0, ends[1] + 0, ends[2] + 0 }'
}
# with the tools of one Debian: in the folder $1, by the command that is behind it
with() {
	local work=$1 interval ra rabins expected
	shift
	for interval in 5 60 300; do
		rm -f "$folder/trixie/tmp/"{whole,bins}
		"$@" argus -X -S "$interval" -r "$work/connections.pcap" -w "$work/whole"
		"$@" rabins -M time 1m -r "$work/whole" -w "$work/bins" - tcp
		ra=$("$@" ra -r "$work/whole" -n -u -c ',' -s ltime sport pkts state - tcp | sums)
		rabins=$("$@" ra -r "$work/bins" -n -u -c ',' -s stime sport pkts state - tcp | sums)
		echo "records of $interval s: ra $ra, rabins $rabins"
		case $interval in 5) expected='4 0 2' ;; 60) expected='4 2 2' ;; 300) expected='6 2 2' ;; esac
		[ "$ra, $rabins" = "424: 4 0 2, 424: $expected" ] || { echo "the behaviour changed"; exit 1; }
	done
}
with "$folder/trixie/tmp" env
with /tmp chroot "$folder/trixie"
