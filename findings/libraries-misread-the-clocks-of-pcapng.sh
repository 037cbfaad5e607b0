#!/usr/bin/env bash
# PyPI's dpkt 1.9.8 reads all packets of a pcapng file by the clock of its first interface; scapy 2.6.1 and python-pcapng
# 2.1.1 leave an interface's time offset out. Each is right where the others are wrong.
#
# Every interface block of a pcapng file has a clock of its own: if_tsresol (units a second) and if_tsoffset (seconds to
# add; draft-ietf-opsawg-pcapng, 4.2). Files with two clocks come from capturing on two interfaces of which one stamps in
# hardware, or from mergecap. One would expect the three libraries to agree with tcpdump, which knows both options. With
# a microsecond interface first and a nanosecond one second, dpkt has the latter's packets in the year 55840. With an
# offset, the others have them in 1970. No error from any of them, and a file with one plain interface shows nothing.
#
# Seen (two clocks; an offset):  dpkt 1700000000000.0, 1700000005.0;  scapy and pcapng 1700000000.0, 5.0
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'tcpdump=4.99.3-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install dpkt==1.9.8 scapy==2.6.1 python-pcapng==2.1.1 2>/dev/null

"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import struct
import subprocess
import sys
from pathlib import Path

import dpkt
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket
from scapy.utils import PcapNgReader

START = 1700000000
frame = bytes(12) + bytes.fromhex("0800 4500001c0001000040110000c0000201c0000202 0001000200080000")


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))


def interface(digits: int, offset: int = 0) -> bytes:
    clock = struct.pack("<HHB3x", 9, 1, digits) + struct.pack("<HHq", 14, 8, offset)
    return block(1, struct.pack("<HHI", 1, 0, 65535) + clock + bytes(4))


def packet(on: int, units: int) -> bytes:
    head = struct.pack("<IIIII", on, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame)


begin = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
files = {
    "two clocks": interface(6) + interface(9) + packet(0, START * 10**6) + packet(1, START * 10**9),
    "an offset": interface(6, START) + packet(0, 5 * 10**6),
}
last = {}
for name, blocks in files.items():
    path = Path(sys.argv[1], "capture.pcapng")
    path.write_bytes(begin + blocks)
    shown = subprocess.run(["tcpdump", "-tt", "-nr", path], capture_output=True, text=True, check=True).stdout
    with path.open("rb") as file, path.open("rb") as again:
        last[name] = {
            "tcpdump": float(shown.splitlines()[-1].split()[0]),
            "dpkt": [at for at, _ in dpkt.pcapng.Reader(file)][-1],
            "scapy": [float(each.time) for each in PcapNgReader(str(path))][-1],
            "pcapng": [each.timestamp for each in FileScanner(again) if isinstance(each, EnhancedPacket)][-1],
        }
    print(f"{name}: the last packet's time:", ", ".join(f"{who} {at}" for who, at in last[name].items()))
assert last == {
    "two clocks": {"tcpdump": START, "dpkt": START * 1000, "scapy": START, "pcapng": START},
    "an offset": {"tcpdump": START + 5, "dpkt": START + 5, "scapy": 5, "pcapng": 5},
}, "the behaviour changed"
PYTHON
