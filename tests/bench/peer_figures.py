"""Flow monitors of Debian beside this one: softflowd, pmacctd, nfpcapd; on one wire and on one file.

None of the three filters, or stores flows that can be queried. Measured is the CPU time of their processes, without
what the kernel spends on copying packets to them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from analyze_figures import PACKETS, cpu_and_peak, write_capture
from earlier import earlier
from figures import Figure, figure, interleaved, ratio
from tmlab import Daemon, Flood, Lab
from tmlab.daemon import ROOT

FLOWS = 400_000
ROUNDS = 2
CHUNK = 4096
PAUSE_S = 0.1  # some 40,000 packets a second, which all of them follow
_TICKS = os.sysconf("SC_CLK_TCK")
_FLOWS = '[flows]\ninterval = 1.0\n[[log]]\nformat = "jsonl"\npath = "{home}/traffic.jsonl"\nactions = ["drop"]\n'


def measure() -> Iterator[Figure]:
    """Flows of one packet each, live; then a capture, as a command."""
    yield from _live()
    yield from _file()


def _live() -> Iterator[Figure]:
    contest: dict[str, Callable[[], float]] = {"trafficmon": lambda: _ours(ROOT)}
    if before := earlier():
        contest["then"] = lambda: _ours(before)
    with tempfile.TemporaryDirectory(prefix="tmlab-peers") as folder:
        peers = _peers(Path(folder))
        contest |= {name: (lambda command=command: _theirs(command)) for name, command in peers.items()}
        samples = interleaved(contest, ROUNDS)
    yield figure("new_flows_cpu_s", f"{FLOWS:,} new flows into flows.db: the daemon's CPU", samples["trafficmon"], "s")
    for name, goal in (("pmacctd", 0.7), ("softflowd", 1.2), ("nfpcapd", None), ("then", 0.6)):
        if name in samples:
            other = "the earlier revision" if name == "then" else f"{name}, which stores nothing that can be queried"
            yield ratio(
                f"new_flows_vs_{'earlier' if name == 'then' else name}", f"... against {other}",
                samples, "trafficmon", name, goal, unit="s",
            )  # fmt: skip


def _peers(folder: Path) -> dict[str, list[str]]:
    """Those that are installed: how each watches the interface named last."""
    sink = f"127.0.0.1:{_closed_port()}"
    settings = folder / "pmacctd.conf"
    settings.write_text(
        "daemonize: false\nplugins: nfprobe\nplugin_pipe_size: 102400000\nplugin_buffer_size: 102400\n"
        f"aggregate: src_host, dst_host, src_port, dst_port, proto\nnfprobe_receiver: {sink}\nnfprobe_version: 9\n"
        "nfprobe_timeouts: general=60:maxlife=300\n"
    )
    flows = folder / "nfpcapd"
    flows.mkdir()
    commands = {
        "softflowd": ["softflowd", "-d", "-m", "2000000", "-c", str(folder / "ctl"), "-p", str(folder / "pid"),
                      "-v", "9", "-n", sink, "-i"],
        "pmacctd": ["pmacctd", "-f", str(settings), "-i"],
        "nfpcapd": ["nfpcapd", "-w", str(flows), "-e", "300,60", "-i"],
    }  # fmt: skip
    return {name: command for name, command in commands.items() if shutil.which(name)}


def _ours(tree: Path) -> float:
    """CPU seconds from the first packet until the daemon has ended, when the rows of all are in flows.db."""
    with Lab(quiet=True) as lab, Daemon(lab, _FLOWS, tree=tree) as daemon, _flood(lab) as flood:
        before = _cpu_s(daemon.pid)
        _send(flood)
        daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= flood.sent, "every packet", 60)
        began = _reaped_s()
        daemon.stop(120)
        spent = _reaped_s() - began - before
        stored = daemon.sql("SELECT sum(packets) FROM flows")[0][0]
        if stored < 0.9 * flood.sent:
            raise AssertionError(f"{stored} of {flood.sent} packets are in flows.db: the machine is too busy")
    return spent


def _theirs(command: list[str]) -> float:
    """CPU seconds of a peer from the first packet until it has ended."""
    with Lab(quiet=True) as lab:
        link = lab.links[0]
        lab.host.run("ethtool", "-K", link.host, "gro", "on")  # a receive ring without XDP
        lab.host.ip("link set lo up")
        began = _reaped_s()
        peer = subprocess.Popen(
            lab.host.argv(*command, link.host), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(2)
            with _flood(lab) as flood:
                _send(flood)
            time.sleep(2)
        finally:
            peer.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                peer.wait(60)
            peer.kill()
            peer.wait()
        return _reaped_s() - began


def _flood(lab: Lab) -> Flood:
    return Flood(lab, lab.links[0], "16.0.0.0/12")


def _send(flood: Flood) -> None:
    while flood.sent < FLOWS:
        flood.send(min(CHUNK, FLOWS - flood.sent))
        time.sleep(PAUSE_S)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _reaped_s() -> float:
    """CPU seconds of all processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _closed_port() -> int:
    """Of loopback, where nobody listens: export records may go there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _file() -> Iterator[Figure]:
    """One capture through each that reads files, in CPU time, the program's start included. (softflowd does too, but
    waits for ever on its control socket in some runs.)"""
    if not shutil.which("nfpcapd"):
        return
    with tempfile.TemporaryDirectory(prefix="tmlab-peers") as folder:
        capture, flows = Path(folder) / "traffic.pcap", Path(folder) / "flows"
        flows.mkdir()
        write_capture(capture, PACKETS, PACKETS // 200_000)
        ours = [sys.executable, "-m", "trafficctl", "analyze", str(capture)]
        theirs = ["nfpcapd", "-r", str(capture), "-w", str(flows)]
        samples = interleaved(
            {"trafficmon": lambda: cpu_and_peak(ours)[0], "nfpcapd": lambda: cpu_and_peak(theirs)[0]}, ROUNDS
        )
    what = f"a capture of {PACKETS:,} packets, whole report: CPU against nfpcapd, which detects and reports nothing"
    yield ratio("analyze_capture_vs_nfpcapd", what, samples, "trafficmon", "nfpcapd", unit="s")
