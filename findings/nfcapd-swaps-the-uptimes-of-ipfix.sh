#!/usr/bin/env bash
# nfdump 1.7.1 (Debian 12): nfcapd takes the end of an IPFIX flow for its start, if the exporter tells both in milliseconds
# since its own start, as softflowd 1.1.0 of the same Debian does.
#
# flowEndSysUpTime is element 21 and flowStartSysUpTime is 22 (IANA; RFC 7012), with systemInitTimeMilliseconds (160) for
# the moment they count from. The same two numbers mean the same in NetFlow 9, which nfcapd reads right. One would expect
# the same of IPFIX, or that the elements are not known. They are stored the wrong way round: the flow begins when
# it ended, and its duration, the difference in 64 bits without sign, is half a billion years. Counters are right, so
# only what asks for times (rates, the window of a query, -t) is wrong, for this kind of exporter alone.
#
# Seen, for a flow from 22:13:20 to 22:14:00:  NetFlow 9  22:13:20 to 22:14:00, 40.000 s
#                                              IPFIX      22:14:00 to 22:13:20, 18446744073709512.000 s
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nfdump=1.7.1-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net python3 - "$folder" <<'PYTHON'
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

START, NOW, BOOT = 1700000000, 1700000100, 1699990000  # the flow: 40 seconds from START on
FIELDS = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (22, 4), (21, 4), (1, 4), (2, 4)]
uptimes = [(START - BOOT) * 1000, (START - BOOT + 40) * 1000]
record = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HHBIIII", 1024, 53, 17, *uptimes, 1000, 10)


def part(number: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", number, 4 + len(body)) + body


def template(number: int) -> bytes:
    return part(number, struct.pack("!HH", 1024, len(FIELDS)) + b"".join(struct.pack("!HH", *each) for each in FIELDS))


def netflow9() -> bytes:
    return struct.pack("!HHIIII", 9, 2, (NOW - BOOT) * 1000, NOW, 1, 1) + template(0) + part(1024, record)


def ipfix() -> bytes:
    options = struct.pack("!HHHHHHH", 256, 2, 1, 143, 4, 160, 8)  # meteringProcessId: systemInitTimeMilliseconds
    sets = part(3, options) + part(256, struct.pack("!IQ", 1, BOOT * 1000)) + template(2) + part(1024, record)
    return struct.pack("!HHIII", 10, 16 + len(sets), NOW, 0, 1) + sets


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = {}
for make in (netflow9, ipfix):
    folder = Path(sys.argv[1], make.__name__)
    folder.mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        collector = subprocess.Popen(["nfcapd", "-w", folder, "-p", "9995"], **quiet)
        time.sleep(1)
        exporter.sendto(make(), ("127.0.0.1", 9995))
        time.sleep(1)
        collector.terminate()
        collector.wait()
    (file,) = folder.iterdir()
    shown = ["nfdump", "-q", "-r", file, "-o", "fmt:%ts,%te,%byt"]
    times = subprocess.run(shown, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=True).stdout
    print(make.__name__, times.strip())
    seen[make.__name__] = [each.strip()[11:19] for each in times.split(",")[:2]]
assert seen == {"netflow9": ["22:13:20", "22:14:00"], "ipfix": ["22:14:00", "22:13:20"]}, "the behaviour changed"
PYTHON
