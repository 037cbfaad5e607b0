"""Files that never rest, as root: a large list is in force, and for a minute something beside it changes all the time.

    sudo env PYTHONPATH=tests/lab:. .venv/bin/python tests/soak/storm.py [--seconds N] [--prefixes N] [WAY ...]

    hidden   a hidden file beside the list grows by a write each 100 ms, as when a new list is being downloaded
    renamed  the list itself is replaced each 300 ms, each time by one with one prefix more
    another  the list itself is replaced each 300 ms, each time by one that has hardly a prefix of the one before
    signals  SIGHUP, a hundred a second

Meanwhile a client adds and removes a rule each second. What is in force stays right, memory stays below 1.2 times (for
`another`, where two lists and two tables are there at once, twice) what it was before, and where the list itself stands
still a change takes no more than 0.2 s.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tmlab import Daemon, Lab

SETTINGS = """
[[list]]
path = "{home}/cidr.d/big.netset"
action = "drop"
"""
_SLOWEST_S = 0.2
_SETTLES_S = 12.0  # two rounds of housekeeping, after which memory is given back


class Wrong(Exception):
    """A figure is not what it must be."""


def content(prefixes: int, last: int) -> str:
    """Scattered prefixes, as lists have them, and one that tells this content from others."""
    factor = 2654435761 + 2 * last
    spread = (((number * factor) & 0x3FFFFFFF) + 0x40000000 for number in range(prefixes))
    lines = [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in spread]
    return "\n".join([*lines, f"198.18.{last >> 8}.{last & 255}"]) + "\n"


def hidden(daemon: Daemon, number: int) -> float:
    with (daemon.cidr_dir / ".big.netset.tmp").open("a") as file:
        file.write(f"192.0.2.{number & 255}\n" * 1000)
    return 0.1


def renamed(daemon: Daemon, number: int) -> float:
    text = (daemon.cidr_dir / "big.netset").read_text()
    fresh = daemon.cidr_dir / ".big.netset.tmp"
    fresh.write_text(f"{text}198.18.{number >> 8}.{number & 255}\n")
    fresh.rename(daemon.cidr_dir / "big.netset")
    return 0.3


def another(daemon: Daemon, number: int) -> float:
    lines = (daemon.cidr_dir / "big.netset").read_text().split()
    fresh = daemon.cidr_dir / ".big.netset.tmp"
    fresh.write_text(content(len(lines) - 1, number))
    fresh.rename(daemon.cidr_dir / "big.netset")
    return 0.3


def signals(daemon: Daemon, _: int) -> float:
    daemon.send_signal(signal.SIGHUP)
    return 0.01


WAYS: dict[str, tuple[Callable[[Daemon, int], float], float]] = {
    "hidden": (hidden, 1.2), "renamed": (renamed, 1.2), "another": (another, 2.0), "signals": (signals, 1.2),
}  # fmt: skip


def resident(daemon: Daemon) -> float:
    """MiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def storm(way: str, prefixes: int, seconds: float) -> None:
    """One way, with a daemon of its own. Raises Wrong."""
    change, most = WAYS[way]
    with Lab(quiet=True) as lab:
        daemon = Daemon(lab, SETTINGS)
        try:
            (daemon.cidr_dir / "big.netset").write_text(content(prefixes, 0))
            daemon.start(timeout=60)
            time.sleep(_SETTLES_S)
            before = resident(daemon)
            stop = threading.Event()

            def blow() -> None:
                number = 1
                while not stop.wait(change(daemon, number)):
                    number += 1

            wind = threading.Thread(target=blow)
            wind.start()
            try:
                took, memory = changes(daemon, seconds)
            finally:
                stop.set()
                wind.join()
            daemon.wait(lambda: settled(daemon), "everything as the files have it", timeout=60)
            time.sleep(_SETTLES_S)
            after, status = resident(daemon), daemon.status()
        finally:
            daemon.remove()
    figures = f"add-cidr at most {max(took):.3f} s of {len(took)} (median {sorted(took)[len(took) // 2]:.3f} s)"
    figures += f"; memory {before:.0f} MiB before, at most {max(memory):.0f} ({max(memory) / before:.2f} x)"
    figures += f", {after:.0f} after; {status['config']['generation']:,} generations"
    if max(memory) > most * before or (way in ("hidden", "signals") and max(took) > _SLOWEST_S):
        raise Wrong(f"{way}: {figures}")
    print(f"ok     {way}: {figures}", flush=True)


def settled(daemon: Daemon) -> bool:
    """Whether the list that is there is in force."""
    lines = (daemon.cidr_dir / "big.netset").read_text().split()
    rows = daemon.client().call("Rules")["rules"]
    return any(row["prefixes"] == len(set(lines)) for row in rows)


def changes(daemon: Daemon, seconds: float) -> tuple[list[float], list[float]]:
    """How long each change of a rule took, and the memory at each moment."""
    took, memory = [], []
    until = time.monotonic() + seconds
    with daemon.client() as client:
        while time.monotonic() < until:
            for method in ("AddCidr", "RemoveCidr"):
                began = time.monotonic()
                client.call(method, cidr="192.0.2.1/32")
                took.append(time.monotonic() - began)
            for _ in range(4):
                memory.append(resident(daemon))
                time.sleep(0.25)
    return took, memory


def main() -> int:
    """Exit code 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--prefixes", type=int, default=600_000)
    parser.add_argument("ways", nargs="*", metavar="WAY", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    failed = 0
    for way in arguments.ways:
        try:
            storm(way, arguments.prefixes, arguments.seconds)
        except Wrong as wrong:
            print(f"WRONG  {wrong}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
