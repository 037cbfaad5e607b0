"""`make bench`: every figure that trafficmon claims, measured here and now. BENCH="daemon nft ..." chooses parts;
COMPARE=REV puts another revision of trafficmon beside this one.

Figures of what a packet costs come from interleaved runs in one process, as ratios: they hold on other machines,
nanoseconds do not. Each part is a process of its own, so that none measures what another left in memory.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import analyze_figures
import daemon_figures
import ledger_figures
import log_figures
import packet_figures
import peer_figures
import store_figures
from contestants import Prefix
from earlier import byte_compile, earlier
from figures import Figure, save, table
from tmlab import LabError
from tmlab.daemon import ROOT, mount_bpffs

RESULT = ROOT / "build" / "bench.json"
FULL_TABLE = ROOT.parent / "shared" / "data" / "cidr" / "bgp_full_table.txt.gz"


def full_table() -> list[Prefix]:
    """The IPv4 prefixes of a full routing table; none where the file is absent."""
    if not FULL_TABLE.exists():
        print(f"(no full routing table at {FULL_TABLE}: figures on it are left out)", file=sys.stderr)
        return []
    networks = (line.strip() for line in gzip.decompress(FULL_TABLE.read_bytes()).decode().splitlines() if "." in line)
    return [
        (int(ipaddress.IPv4Address(address)), int(length))
        for address, _, length in (n.partition("/") for n in networks)
    ]


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "daemon": daemon_figures.measure,
    "packets": lambda: packet_figures.measure(full_table()),
    "ledger": lambda: ledger_figures.measure(FULL_TABLE),
    "store": store_figures.measure,
    "logs": log_figures.measure,
    "analyze": analyze_figures.measure,
    "peers": peer_figures.measure,
    "nft": packet_figures.measure_nft,
}


def measure(part: str) -> list[Figure]:
    """The part's figures, saved and told as they come."""
    figures, started = [], time.monotonic()
    for each in PARTS[part]():
        print(f"  {each.what}: {each.value:.2f} {each.unit}", file=sys.stderr, flush=True)
        figures.append(each)
        save(figures, RESULT)
    print(f"({part}: {time.monotonic() - started:.0f} s)", file=sys.stderr)
    return figures


def main(arguments: list[str]) -> int:
    """Measure the parts named (all by default), print and save them; the table says which goals were missed."""
    unknown = set(arguments) - set(PARTS)
    if unknown:
        print(f"bench: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("bench: needs root for network namespaces and BPF; run: sudo make bench", file=sys.stderr)
        return 2
    mount_bpffs()
    try:
        earlier()
        byte_compile(ROOT)
    except LabError as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
        figures = [each for part in pool.map(measure, arguments or list(PARTS)) for each in part]
    print("\n" + table(figures))
    print(f"\nwritten to {Path(RESULT).relative_to(ROOT)}; load average {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
