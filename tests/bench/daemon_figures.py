"""What a person waits for: starting, asking, changing rules; and what an idle daemon holds."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from earlier import earlier
from figures import Figure, figure, interleaved, ratio
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.daemon import ROOT, mount_bpffs
from tmlab.packets import udp

RUNS = 7
STARTS = 30  # of each: the fastest of few differ by a tenth
_SETTINGS = '[[log]]\nformat = "jsonl"\npath = "{home}/traffic.jsonl"\n'
_PROBE = "203.0.113.7"


class Pulse:
    """A packet a millisecond from one source, each with its number; `times[number]` is when it was sent."""

    def __init__(self, lab: Lab, source: str = _PROBE) -> None:
        self._sender = Sender(lab.outside, lab.links[0].outside)
        self._lab, self._source = lab, source
        self.times: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        target = self._lab.links[0].host_ip
        while not self._stop.wait(0.001):
            frame = udp(self._source, target, payload=struct.pack("!I", len(self.times)))
            self.times.append(time.monotonic())
            self._sender.send_one(frame)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.close()


def measure() -> Iterator[Figure]:
    """All figures of the daemon as a process."""
    mount_bpffs()
    yield from _starts()
    with Lab() as lab, Daemon(lab, _SETTINGS) as daemon:
        yield _idle(daemon)
        yield _status(daemon)
        yield _add_cidr(daemon)
        yield _reload(lab, daemon)
        yield from _bans(daemon)
        yield _add_cidr_at_60k(daemon)


def _starts() -> Iterator[Figure]:
    contest: dict[str, Callable[[], float]] = {"trafficmon": lambda: _start_ms(ROOT)}
    if before := earlier():
        contest["then"] = lambda: _start_ms(before)
    samples = interleaved(contest, STARTS)
    yield figure("start_ms", "start to first counted packet", samples["trafficmon"], "ms", 500)
    if before:
        yield ratio("start_vs_earlier", "... against the earlier revision", samples, "trafficmon", "then", 0.75,
                    unit="ms")  # fmt: skip


def _start_ms(tree: Path) -> float:
    """From exec to the first packet that the totals hold, told by which of numbered packets went uncounted."""
    with Lab(quiet=True) as lab:
        daemon = Daemon(lab, _SETTINGS, tree=tree)
        pulse = Pulse(lab)
        try:
            launched = time.monotonic()
            daemon.launch()
            daemon.wait(daemon.answers, "an answer", every=0.02)
            daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] > 0, "packets")
            pulse.stop()
            first = len(pulse.times) - daemon.status()["accounting"]["seen"]["packets"]
            return (pulse.times[first] - launched) * 1000
        finally:
            pulse.stop()
            daemon.remove()


def _idle(daemon: Daemon) -> Figure:
    """Private memory after five quiet seconds."""
    samples = []
    for _ in range(5):
        time.sleep(1)
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines())
        samples.append(int(fields["RssAnon"].split()[0]) / 1024)
    return figure("idle_anon_mib", "idle private memory (RssAnon)", samples, "MiB", 48)


def _status(daemon: Daemon) -> Figure:
    samples = []
    for _ in range(RUNS + 1):
        started = time.monotonic()
        daemon.control("status")
        samples.append((time.monotonic() - started) * 1000)
    return figure("status_ms", "trafficctl status, the whole command", samples[1:], "ms", 150)


def _add_cidr(daemon: Daemon) -> Figure:
    """From the request on the socket to the reply, which comes when the rule is in force."""
    samples = []
    with daemon.client() as client:
        for number in range(50):
            started = time.monotonic()
            client.call("AddCidr", cidr=f"192.0.2.{number}/32")
            samples.append((time.monotonic() - started) * 1000)
        for number in range(50):
            client.call("RemoveCidr", cidr=f"192.0.2.{number}/32")
    return figure("add_cidr_ms", "add-cidr, request to in force", samples, "ms", 20)


def _add_cidr_at_60k(daemon: Daemon) -> Figure:
    """As `_add_cidr`, beside 60,000 rules of a file and 2,000 made by hand, which the daemon recalls at its start."""
    ends = time.time() + 3600
    kept = ({"cidr": f"198.18.{n >> 8}.{n & 255}", "action": "drop", "expires": ends} for n in range(2_000))
    daemon.stop()
    (daemon.home / "state/rules-by-hand.jsonl").write_text("".join(f"{json.dumps(rule)}\n" for rule in kept))
    rules = (f'[[rule]]\ncidr = "20.{n >> 16}.{n >> 8 & 255}.{n & 255}"\naction = "drop"\n' for n in range(60_000))
    daemon.write_rules("many.toml", "".join(rules))
    daemon.start()
    samples = []
    with daemon.client() as client:
        for number in range(20):
            started = time.monotonic()
            client.call("AddCidr", cidr=f"192.0.2.{number}/32")
            samples.append((time.monotonic() - started) * 1000)
        for number in range(20):
            client.call("RemoveCidr", cidr=f"192.0.2.{number}/32")
    return figure("add_cidr_at_60k_ms", "... beside 60,000 rules of a file and 2,000 by hand", samples, "ms", 50)


def _bans(daemon: Daemon) -> Iterator[Figure]:
    """Many in one command; then one more beside 60,000, by what the thread of the loop is busy with it."""
    several, busy = [], []
    for _ in range(3):
        lines = "".join(f"198.18.{n >> 8}.{n & 255} 3600 bench\n" for n in range(10_000))
        started = time.monotonic()
        daemon.control("ban", "-", input=lines)
        several.append(time.monotonic() - started)
        daemon.control("unban", "198.18.0.0/15")
    yield figure("bans_10k_s", "10,000 bans by ban -, the whole command", several, "s", 2)
    with daemon.client() as client:
        for part in range(6):
            many = [{"cidr": f"20.{part}.{n >> 8}.{n & 255}", "ttl_s": 3600.0} for n in range(10_000)]
            client.call("BanMany", bans=many)
        for number in range(100):
            started = _loop_s(daemon)
            client.call("Ban", cidr=f"192.0.2.{number}", ttl_s=3600.0)
            busy.append((_loop_s(daemon) - started) * 1000)
        client.call("Unban", cidr="0.0.0.0/0")
    yield figure("ban_at_60k_ms", "one ban beside 60,000, of the loop", busy, "ms", 5)


def _loop_s(daemon: Daemon) -> float:
    """CPU seconds of the daemon's first thread."""
    return int(Path(f"/proc/{daemon.pid}/task/{daemon.pid}/schedstat").read_text().split()[0]) / 1e9


def _reload(lab: Lab, daemon: Daemon) -> Figure:
    """From the rename of a file of 10,000 rules to the first packet that is judged by it."""
    plain = "".join(f'"{11 + n // 65536}.{n // 256 % 256}.{n % 256}.0/25", ' for n in range(9_999))
    samples = []
    with Listener(lab.host, lab.links[0].host_ip) as listener:
        for _ in range(RUNS):
            daemon.write_rules("bench.toml", "")
            daemon.wait(lambda: _heard(lab, listener), "the probe to pass without the rules")
            pulse = Pulse(lab)
            time.sleep(0.05)
            changed = time.monotonic()
            daemon.write_rules("bench.toml", f'[[rule]]\naction = "drop"\ncidr = [{plain} "{_PROBE}/32"]\n')
            time.sleep(1)
            pulse.stop()
            last = max(struct.unpack("!I", payload)[0] for payload in listener.payloads())
            samples.append((pulse.times[last + 1] - changed) * 1000)
    return figure("reload_10k_ms", "a file of 10,000 rules renamed into place to in force", samples, "ms", 200)


def _heard(lab: Lab, listener: Listener) -> bool:
    listener.payloads()
    with Sender(lab.outside, lab.links[0].outside) as sender:
        sender.send([udp(_PROBE, lab.links[0].host_ip)])
    return bool(listener.payloads())
