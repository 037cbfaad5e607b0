#!/usr/bin/env bash
# PyPI's scapy 2.6.1, dpkt 1.9.8 and pypcapfile 0.12.0 read the link type of a pcap file as 32 bits; its upper half also
# holds the length of the frames' checksum, and with one they find no Ethernet.
#
# Cards and taps that keep the frame check sequence say so in the last word of the file's header: its lower 16 bits are the
# link type, bit 26 says that a length follows, the top four bits are that length in units of 16 bits
# (draft-ietf-opsawg-pcap, 4). One would expect the libraries to take the link type out, as tcpdump and tshark do.
# For them the link type 1 with 4 bytes of checksum is type 603,979,777: scapy hands out bare bytes with a warning, dpkt
# gives that number, pypcapfile ends with "'NoneType' object is not callable". Without the checksum they read the same.
#
# Seen (link type 1; with a checksum of 4 bytes): tcpdump the packet twice; scapy Ether, Raw; dpkt 1, 603979777;
#   pypcapfile the packet, TypeError
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tcpdump=4.99.3-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install scapy==2.6.1 dpkt==1.9.8 pypcapfile==0.12.0 2>/dev/null

"$folder/venv/bin/python" -W ignore - "$folder/capture.pcap" 2>/dev/null <<'PYTHON'
import struct
import subprocess
import sys
from pathlib import Path

import dpkt
import scapy.layers.l2  # noqa: F401  (which tells scapy what Ethernet is)
from pcapfile import savefile
from scapy.utils import rdpcap

ETHERNET, LENGTH_FOLLOWS = 1, 1 << 26
CHECKSUM = LENGTH_FOLLOWS | 2 << 28  # two times 16 bits
path = Path(sys.argv[1])
packet = bytes(12) + bytes.fromhex("0800 4500001c0001000040110000c0000201c0000202 0001000200080000")
frame = packet.ljust(60, b"\0") + bytes.fromhex("deadbeef")


def with_pypcapfile() -> str:
    try:
        with path.open("rb") as file:
            return type(savefile.load_savefile(file, layers=1).packets[0].packet).__name__
    except TypeError as error:
        return f"TypeError: {error}"


def with_dpkt() -> int:
    with path.open("rb") as file:
        return dpkt.pcap.Reader(file).datalink()


seen = []
for link in (ETHERNET, ETHERNET | CHECKSUM):
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    path.write_bytes(header + struct.pack("<IIII", 1700000000, 0, len(frame), len(frame)) + frame)
    shown = subprocess.run(["tcpdump", "-tnr", path], check=True, capture_output=True, text=True).stdout.strip()
    seen.append((shown, type(rdpcap(str(path))[0]).__name__, with_dpkt(), with_pypcapfile()))
    print(f"{link:#x}: tcpdump {seen[-1][0]!r}, scapy {seen[-1][1]}, dpkt {seen[-1][2]}, pypcapfile {seen[-1][3]}")

right = "IP 192.0.2.1.1 > 192.0.2.2.2: UDP, length 0"
assert seen[0] == (right, "Ether", 1, "Ethernet")
assert seen[1] == (right, "Raw", 0x24000001, "TypeError: 'NoneType' object is not callable"), "the behaviour changed"
PYTHON
