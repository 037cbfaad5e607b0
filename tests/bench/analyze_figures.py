"""What an analysis takes: logs and captures of several densities as a command, and a capture's packets to rows."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from earlier import earlier
from figures import Figure, figure, interleaved, ratio

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.source import Source

ROOT = Path(__file__).resolve().parents[2]
LINES, FLOWS, SPAN_S = 1_000_000, 50_000, 3600
PACKETS, PACKET_FLOWS = 3_000_000, 10_000
GOAL_MIB = 200.0
RUNS = 3
SPARSE_PACKETS, SPARSE_S = 1_000_000, 33 * 60
QUIET_PACKETS, QUIET_S = 5_500, 24 * 3600
CONNECTIONS = 5_000


def measure() -> Iterator[Figure]:
    """The figures; needs no root."""
    with tempfile.TemporaryDirectory() as folder:
        log, capture = Path(folder) / "traffic.jsonl", Path(folder) / "traffic.pcap"
        write_log(log)
        yield from _reports("analyze_lines", "1M log lines", log, 1.1)
        write_log(log, flows=LINES)
        yield from _reports("analyze_new_flows", "1M log lines, nearly all of new flows", log, 2.4)
        write_capture(capture, SPARSE_PACKETS, SPARSE_S)
        yield from _reports("analyze_sparse", "1M packets over 33 minutes", capture, 1.2)
        write_capture(capture, QUIET_PACKETS, QUIET_S)
        yield from _reports("analyze_quiet_day", f"{QUIET_PACKETS:,} packets over a day", capture, 0.5)
        zeek = Path(folder) / "conn.log"
        write_zeek(zeek)
        yield from _reports("analyze_zeek_day", f"a day of Zeek's log, {CONNECTIONS:,} flows", zeek, 0.8)
        write_capture(capture, PACKETS, PACKETS // 200_000)
        _rate(capture)
        rates = [_rate(capture) for _ in range(RUNS)]
        yield figure("analyze_capture_mpps", "capture to rows", rates, "M packets/s", 2.0, at_least=True)


def _reports(key: str, what: str, path: Path, goal_s: float) -> Iterator[Figure]:
    """CPU seconds and peak memory of the whole command; against the earlier revision where one is asked for."""
    trees = {"trafficmon": ROOT} | ({"then": before} if (before := earlier()) else {})
    peaks: dict[str, float] = {}

    def run(name: str) -> float:
        seconds, peaks[name] = cpu_and_peak([sys.executable, "-m", "trafficctl", "analyze", str(path)], trees[name])
        return seconds

    samples = interleaved({name: lambda name=name: run(name) for name in trees}, RUNS)
    yield figure(f"{key}_cpu_s", f"{what}, whole report: CPU", samples["trafficmon"], "s", goal_s)
    yield figure(f"{key}_mib", "... memory at its peak", [peaks["trafficmon"]], "MiB", GOAL_MIB)
    if "then" in samples:
        yield ratio(
            f"{key}_vs_earlier", "... CPU against the earlier revision", samples, "trafficmon", "then", unit="s"
        )


def write_log(path: Path, flows: int = FLOWS) -> None:
    """LINES events over SPAN_S seconds: of `flows` flows some of which are much more frequent than others, or each of
    a flow of its own where there are as many.
    """
    pick = random.Random(5)
    known = [
        (
            f"{pick.randint(1, 223)}.{pick.randint(0, 255)}.{pick.randint(0, 255)}.{pick.randint(1, 254)}",
            pick.randint(1024, 65535),
            pick.choice((80, 443, 22, 53, 8080)),
            *pick.choice((("TCP", 6), ("TCP", 6), ("UDP", 17))),
            f"{pick.getrandbits(32):08x}",
        )
        for _ in range(flows)
    ]
    with path.open("w") as file:
        for line in range(LINES):
            at = 1732834800 + line * SPAN_S // LINES
            chosen = line if flows == LINES else min(int(pick.paretovariate(0.7)) - 1, flows - 1)
            src, sport, dport, name, number, mark = known[chosen]
            file.write(
                f'{{"timestamp": {at}, "timestamp_iso": "2024-11-28T23:00:00.000Z", "src_ip": "{src}", '
                f'"dst_ip": "192.168.1.100", "src_port": {sport}, "dst_port": {dport}, "protocol": "{name}", '
                f'"protocol_num": {number}, "packet_size": {pick.randint(40, 1500)}, '
                f'"action": "{"LOG" if line % 7 else "DROP"}", "interface": "eth0", "flow_hash": "{mark}"}}\n'
            )


def write_capture(path: Path, packets: int, span_s: float) -> None:
    """TCP packets of PACKET_FLOWS flows, each with 60 bytes of payload, evenly over `span_s` seconds."""
    pick = random.Random(6)
    frames = []
    for _ in range(PACKET_FLOWS):
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 100, 1, 0, 64, 6, 0, pick.getrandbits(32), pick.getrandbits(32))
        tcp = struct.pack(">HHIIBBHHH", pick.randint(1024, 65535), 443, 1, 1, 5 << 4, 0x18, 512, 0, 0)
        frames.append(bytes(12) + b"\x08\x00" + ip + tcp + bytes(60))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for start in range(0, packets, 10_000):
            part = []
            for number in range(start, min(start + 10_000, packets)):
                frame = frames[number % PACKET_FLOWS]
                second, rest = divmod(int(number * span_s * 1_000_000 / packets), 1_000_000)
                part.append(struct.pack("<IIII", 1_700_000_000 + second, rest, len(frame), len(frame)) + frame)
            file.write(b"".join(part))


def write_zeek(path: Path) -> None:
    """CONNECTIONS lines of conn.log, at any time of a day."""
    pick = random.Random(7)
    names = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state"
    names += " orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
    with path.open("w") as file:
        file.write("#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n")
        file.write("\t".join(["#fields", *names.split()]) + "\n")
        for number, at in enumerate(sorted(pick.uniform(0, 86400) for _ in range(CONNECTIONS))):
            sent, received = pick.randint(100, 5000), pick.randint(100, 500_000)
            client = f"10.0.0.{pick.randint(2, 60)}", pick.randint(1024, 65535)
            server = f"{pick.randint(1, 223)}.{pick.randint(0, 255)}.0.1", pick.choice((80, 443, 53))
            counts = 5 + sent // 1400, sent + 400, 5 + received // 1400, received + 400
            seconds = f"{pick.expovariate(0.1):.6f}"
            row = (f"{1732834800 + at:.6f}", f"C{number:017d}", *client, *server, "tcp", "-", seconds, sent, received,
                   "SF", *counts)  # fmt: skip
            file.write("\t".join(map(str, row)) + "\n")


def cpu_and_peak(command: list[str], folder: Path = ROOT) -> tuple[float, float]:
    """(CPU seconds, MiB at its peak) of a whole command, its start included."""
    between = [sys.executable, "-ISc", _BETWEEN, *command]
    done = subprocess.run(between, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, check=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


# A child's peak begins with that of its parent (exec(2) keeps it), and the bench has held a million flows: the parent
# is a small process.
_BETWEEN = """
import os, sys
quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _rate(path: Path) -> float:
    """Million packets a second from the file to rows, no engine behind."""
    stats = RunStats()
    source = Source(str(path), stats.parse_errors)
    began = time.perf_counter()
    for _ in format_of(source).deltas(source, stats):
        pass
    seconds = time.perf_counter() - began
    source.close()
    return stats.seen.packets / seconds / 1e6
