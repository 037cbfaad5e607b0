#!/usr/bin/env bash
# nfdump 1.7.1 (Debian 12): nfcapd puts a flow of NetFlow 9 49.7 days into the future if the exporter's uptime wraps between
# the flow and its record; the same flow in NetFlow 5 is at its time.
#
# Both versions tell times in milliseconds since the exporter's start, in 32 bits, which begin anew every 49.7 days. A router
# is up for years, and its records are sent up to half an hour after the flow (the active timeout). One would expect a
# collector to take the difference to the uptime in the header modulo 2^32, for both versions alike. For version 9, nfcapd
# does so only where the wrap falls between the start and the end of the flow. Where it falls behind both, the flow
# is stored seven weeks ahead: for minutes, every seven weeks, all flows of that exporter are missing from their
# window, and spoil another that is far off.
#
# Seen, for flows of 22:13:09.904 to 22:13:14.000 told at 22:13:20, two seconds after a wrap:
#   NetFlow 5  2023-11-14 22:13:09.904;  NetFlow 9  2024-01-03 15:15:57.200;  9, wrap within the flow: 2023-11-14 22:13:14
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nfdump=1.7.1-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net python3 - "$folder" <<'PYTHON'
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

NOW, UPTIME = 1700000000, 2000  # 22:13:20, two seconds after the wrap
ENDS = bytes([192, 0, 2, 1, 192, 0, 2, 2])
FIELDS = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (22, 4), (21, 4), (1, 4), (2, 4)]


def netflow5(first: int, last: int) -> bytes:
    counts = struct.pack("!HHIIIIHH", 1, 2, 10, 1000, first, last, 1024, 53)
    record = ENDS + bytes(4) + counts + bytes([0, 0, 17, 0]) + bytes(8)
    return struct.pack("!HHIIIIHH", 5, 1, UPTIME, NOW, 0, 1, 0, 0) + record


def netflow9(first: int, last: int) -> bytes:
    record = ENDS + struct.pack("!HHBIIII", 1024, 53, 17, first, last, 1000, 10)
    record += bytes(-len(record) % 4)
    template = struct.pack("!HH", 1024, len(FIELDS)) + b"".join(struct.pack("!HH", *each) for each in FIELDS)
    sets = struct.pack("!HH", 0, 4 + len(template)) + template + struct.pack("!HH", 1024, 4 + len(record)) + record
    return struct.pack("!HHIIII", 9, 2, UPTIME, NOW, 1, 1) + sets


def stored(name: str, message: bytes) -> str:
    """When the flow of the message began, for nfcapd."""
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["nfcapd", "-w", folder, "-p", "9995"], **quiet) as collector:
        time.sleep(1)  # until it listens
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
            exporter.sendto(message, ("127.0.0.1", 9995))
        time.sleep(1)
        collector.terminate()
    (file,) = folder.iterdir()
    show = ["env", "TZ=UTC", "nfdump", "-q", "-r", file, "-o", "fmt:%ts"]
    return subprocess.check_output(show, text=True).strip()


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
before = (UPTIME - 10096) % 2**32, (UPTIME - 6000) % 2**32
within = (UPTIME - 6000) % 2**32, UPTIME - 1000
seen = {
    "NetFlow 5": stored("5", netflow5(*before)),
    "NetFlow 9": stored("9", netflow9(*before)),
    "NetFlow 9, wrap within the flow": stored("within", netflow9(*within)),
}
for name, began in seen.items():
    print(f"{name}: {began}")
days = [began[:16] for began in seen.values()]
assert days == ["2023-11-14 22:13", "2024-01-03 15:15", "2023-11-14 22:13"], "the behaviour changed"
PYTHON
