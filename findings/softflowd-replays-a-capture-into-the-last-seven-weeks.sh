#!/usr/bin/env bash
# softflowd 1.1.0 (Debian 12): flows that it makes of a capture (-r) are told to have happened in the last 49.7 days, or
# the next, whenever the capture was taken.
#
# `softflowd -r old.pcap -n collector:2055` is how captures get into a collector of flows, and the times in the records are
# wanted as in the capture, or as of now. NetFlow (and IPFIX, as softflowd sends it by itself) tells times in
# milliseconds since the exporter's start, in 32 bits. softflowd takes its own start for that, minutes ago, so packets
# from before have negative times, of which only the rest modulo 2^32 ms is sent: the day, the hour and the minute are all
# wrong, differently at each run, and look right. IPFIX with absolute times (-v 10 -A milli) is as in the capture.
#
# Seen, for a packet of 2023-11-14 22:13:20: -v 5, replayed on 2026-11-28: 2027-01-01 or 2026-11-12, by how one reads
#   32 bits; -v 10 -A milli: 2023-11-14 22:13:20
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'softflowd=1.1.0-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$folder/old.pcap" <<'PYTHON'
import datetime
import socket
import struct
import subprocess
import sys

TAKEN = 1700000000
WRAP = 2**32 / 1000
frame = bytes(12) + bytes.fromhex("0800 4500001c0001000040110000c0000201c0000202 0400003500080000")
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    file.write(struct.pack("<IIII", TAKEN, 0, len(frame), len(frame)) + frame)


def exported(*options: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(20)
        to = f"127.0.0.1:{collector.getsockname()[1]}"
        replay = ["softflowd", "-d", "-r", sys.argv[1], "-n", to, *options]
        subprocess.run(replay, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return collector.recv(2048)


def day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(" ", "seconds")


message = exported("-v", "5")
uptime, now, nanoseconds = struct.unpack_from("!III", message, 4)
(first,) = struct.unpack_from("!I", message, 24 + 24)  # of the record behind the header of 24 bytes
at = now + nanoseconds / 10**9 + (first - uptime) / 1000
absolute = struct.pack("!QQ", TAKEN * 1000, TAKEN * 1000) in exported("-v", "10", "-A", "milli")
print(f"taken {day(TAKEN)}; -v 5: {day(at)} or {day(at - WRAP)}; -v 10 -A milli as taken: {absolute}")
times, rest = divmod(at - TAKEN + 1, WRAP)
assert (absolute, at > now - 1, times > 20, rest < 2) == (True, True, True, True), "the behaviour changed"
PYTHON
