#!/usr/bin/env bash
# tshark and editcap 4.0.17 (Debian 12): in a pcapng file of two sections, each packet of the second section gets the
# interface of that number from the first one; editcap writes that down, with that interface's resolution.
#
# Sections are what makes pcapng files joinable: `cat eth0.pcapng wlan0.pcapng` is a valid file, and an interface ID counts
# within its section only ("the interface ID is unique within the current section", draft-ietf-opsawg-pcapng, 4.2). tshark
# knows the sections (frame.section_number is 2) and applies the right link type and time resolution, so everything looks
# well read. But the names come from one list of the whole file: a filter on frame.interface_name finds none of the second
# file's packets, and those it does find are partly another interface's. editcap, even with nothing to do, writes the packets
# under the first interface, in microseconds where they had nanoseconds; where the second section has another link type, it
# ends with "An internal error occurred" and an output file without the rest. mergecap of the two original files is right.
# 4.4.19 of Debian 13 has it right.
#
# Seen: 1 1000.000005000 eth0, 2 1001.123456789 eth0 (section 2, wlan0); after editcap 1001.123456000 eth0; after mergecap
#   1001.123456789 wlan0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    'tshark=4.0.17-*' 'wireshark-common=4.0.17-*' >/dev/null

cd "$folder"
python3 - <<'PYTHON'
import struct
from pathlib import Path


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(name: bytes, digits: int, ticks: int, link: int = 1) -> bytes:
    """A section of one interface (its name and digits of a second) and one UDP packet of 28 bytes."""
    packet = bytes.fromhex("4500001c0000000040110000c0000201c000020204d2005000080000")
    if link == 1:
        packet = bytes.fromhex("ffffffffffff0200000000010800") + packet
    options = option(2, name) + option(9, bytes([digits])) + option(0, b"")
    time = struct.pack("<II", ticks >> 32, ticks & 0xFFFFFFFF)
    return (
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack("<HHI", link, 0, 0) + options)
        + block(6, struct.pack("<I", 0) + time + struct.pack("<II", len(packet), len(packet)) + packet)
    )


Path("eth0").write_bytes(section(b"eth0", 6, 1000_000005))
Path("wlan0").write_bytes(section(b"wlan0", 9, 1001_123456789))
Path("tun0").write_bytes(section(b"tun0", 9, 1001_123456789, link=101))
PYTHON
cat eth0 wlan0 >joined
cat eth0 tun0 >of-two-link-types

shown() {
    tshark -r "$1" -T fields -e frame.number -e frame.time_epoch -e frame.interface_name -E separator=' ' 2>/dev/null
}
editcap joined edited 2>/dev/null
mergecap -w merged eth0 wlan0 2>/dev/null
for file in joined edited merged; do
    echo "$file:"
    shown "$file" | tee "$file.txt"
done
refused=$(editcap of-two-link-types edited-of-two 2>&1 || true)
echo "$refused"

sections=$(tshark -r joined -T fields -e frame.section_number 2>/dev/null | xargs)
found=$(tshark -r joined -Y 'frame.interface_name == "wlan0"' 2>/dev/null | wc -l)
first="1 1000.000005000 eth0"
if [ "$sections $found" = "1 2 0" ] &&
    [ "$(<joined.txt)" = "$first"$'\n'"2 1001.123456789 eth0" ] &&
    [ "$(<edited.txt)" = "$first"$'\n'"2 1001.123456000 eth0" ] &&
    [ "$(<merged.txt)" = "$first"$'\n'"2 1001.123456789 wlan0" ] &&
    [[ $refused == *"internal error"* ]]; then
    exit 0
fi
echo "the behaviour changed"
exit 1
