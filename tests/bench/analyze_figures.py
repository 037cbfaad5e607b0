"""What an analysis takes: a million log lines as a command, and packets a second from a capture to rows."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, figure

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.intake import Intake
from trafficmond.analyze.source import Source

ROOT = Path(__file__).resolve().parents[2]
LINES, FLOWS, SPAN_S = 1_000_000, 50_000, 3600
PACKETS, PACKET_FLOWS = 3_000_000, 10_000
ORIGINAL_S = 22.0  # what the original analyser took for as many lines, on a machine like those of the design's figures
GOAL_MIB = 200.0
RUNS = 3


def measure() -> Iterator[Figure]:
    """The figures; needs no root."""
    with tempfile.TemporaryDirectory() as folder:
        log, capture = Path(folder) / "traffic.jsonl", Path(folder) / "traffic.pcap"
        write_log(log)
        runs = [_command(log) for _ in range(RUNS)]
        seconds, memory = zip(*runs, strict=True)
        yield figure("analyze_lines_s", "1M log lines, whole report", seconds, "s", ORIGINAL_S / 20)
        yield figure("analyze_lines_mib", "... memory at its peak", memory, "MiB", GOAL_MIB)
        write_capture(capture)
        _rate(capture)
        rates = [_rate(capture) for _ in range(RUNS)]
        yield figure("analyze_capture_mpps", "capture to rows", rates, "M packets/s", 2.0, at_least=True)


def write_log(path: Path) -> None:
    """LINES events over SPAN_S seconds, of flows some of which are much more frequent than others."""
    pick = random.Random(5)
    flows = [
        (
            f"{pick.randint(1, 223)}.{pick.randint(0, 255)}.{pick.randint(0, 255)}.{pick.randint(1, 254)}",
            pick.randint(1024, 65535),
            pick.choice((80, 443, 22, 53, 8080)),
            *pick.choice((("TCP", 6), ("TCP", 6), ("UDP", 17))),
            f"{pick.getrandbits(32):08x}",
        )
        for _ in range(FLOWS)
    ]
    with path.open("w") as file:
        for line in range(LINES):
            at = 1732834800 + line * SPAN_S // LINES
            src, sport, dport, name, number, mark = flows[min(int(pick.paretovariate(0.7)) - 1, FLOWS - 1)]
            file.write(
                f'{{"timestamp": {at}, "timestamp_iso": "2024-11-28T23:00:00.000Z", "src_ip": "{src}", '
                f'"dst_ip": "192.168.1.100", "src_port": {sport}, "dst_port": {dport}, "protocol": "{name}", '
                f'"protocol_num": {number}, "packet_size": {pick.randint(40, 1500)}, '
                f'"action": "{"LOG" if line % 7 else "DROP"}", "interface": "eth0", "flow_hash": "{mark}"}}\n'
            )


def write_capture(path: Path) -> None:
    """PACKETS TCP packets of PACKET_FLOWS flows, each with 60 bytes of payload, 200,000 a second."""
    pick = random.Random(6)
    frames = []
    for _ in range(PACKET_FLOWS):
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 100, 1, 0, 64, 6, 0, pick.getrandbits(32), pick.getrandbits(32))
        tcp = struct.pack(">HHIIBBHHH", pick.randint(1024, 65535), 443, 1, 1, 5 << 4, 0x18, 512, 0, 0)
        frames.append(bytes(12) + b"\x08\x00" + ip + tcp + bytes(60))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for start in range(0, PACKETS, 10_000):
            part = []
            for number in range(start, start + 10_000):
                frame = frames[number % PACKET_FLOWS]
                second, rest = divmod(number * 5, 1_000_000)
                part.append(struct.pack("<IIII", 1_700_000_000 + second, rest, len(frame), len(frame)) + frame)
            file.write(b"".join(part))


def _command(path: Path) -> tuple[float, float]:
    """(seconds, MiB) of `trafficctl analyze`, the interpreter's start included."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "trafficctl", "analyze", path], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"trafficctl analyze ended with {child.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def _rate(path: Path) -> float:
    """Million packets a second from the file to rows, no engine behind."""
    intake = Intake()
    source = Source(str(path), intake.damage)
    began = time.perf_counter()
    for _ in format_of(source).deltas(source, intake):
        pass
    seconds = time.perf_counter() - began
    source.close()
    return intake.seen.packets / seconds / 1e6
