"""Changes on probation under traffic, as root: who ends them, when to the millisecond, what passed under which rules.

    sudo env PYTHONPATH=tests/lab:. .venv/bin/python tests/soak/probation.py [CASE ...]

    killed     the daemon is killed in the middle of it; nobody is there when it ends
    read-only  the same, with a state folder that cannot be written since before it began
    reset      the daemon is killed and all it had in the kernel is gone; another one starts, the traffic goes on
    ssh        whoever made the change is cut off by it in the middle of his session over SSH

Two sources send in turns, as fast as the machine makes them up to 100,000 packets a second. What is confirmed drops the
first, what is on probation the second. nftables counts what passes, dumpcap says when.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tmlab import Daemon, Lab, Sender
from tmlab.daemon import PYTHON, remove_pins
from tmlab.packets import udp

FIRST, SECOND = "198.18.0.0", "198.18.0.1"
RATE = 100_000  # packets a second
BURST = 128
WITHIN_S = 4.0
LATEST_S = 0.010
COUNTERS = f"""
table ip tmlab {{
  counter first {{ }}
  counter second {{ }}
  chain passed {{
    type filter hook prerouting priority raw
    ip saddr {FIRST} counter name first
    ip saddr {SECOND} counter name second
  }}
}}
"""


class Wrong(Exception):
    """A figure is not what it must be."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def drops(source: str) -> str:
    return f'[[rule]]\ncidr = "{source}"\naction = "drop"\n'


@dataclass
class Passed:
    """When packets of each source passed (epoch s), and how many the counters saw."""

    first: np.ndarray
    second: np.ndarray
    counted: tuple[int, int]
    sent: int

    def missed(self) -> int:
        return sum(self.counted) - len(self.first) - len(self.second)


class Steady(Sender):
    """Looks for what the wire lost once, in the end, and not with each call."""

    def _lost(self) -> int:
        return 0


class Traffic:
    """Both sources, from when it is entered until it is left."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self._lab, self._capture = lab, home / "passed.pcap"
        self._frames = [udp(source, lab.links[0].host_ip) for source in (FIRST, SECOND)] * (BURST // 2)
        self.sent = 0
        self._lost_before = lab.outside.link(lab.links[0].outside)["stats64"]["tx"]["dropped"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Traffic:
        self._lab.host.run("nft", "-f", _file(self._capture.with_suffix(".nft"), COUNTERS))
        dumpcap = ["dumpcap", "-q", "-P", "-i", self._lab.links[0].host, "-s", "42", "-B", "256", "-f", "net 198.18/31"]
        self._dumpcap = subprocess.Popen(
            self._lab.host.argv(*dumpcap, "-w", str(self._capture)), stderr=subprocess.PIPE, text=True
        )
        assert self._dumpcap.stderr is not None
        for line in self._dumpcap.stderr:
            if line.startswith("File:"):
                break
        self._thread.start()
        return self

    def _send(self) -> None:
        due = time.monotonic()
        with Steady(self._lab.outside, self._lab.links[0].outside) as sender:
            while not self._stop.is_set():
                self.sent += sender.send(self._frames).packets
                due = max(
                    due + BURST / RATE, time.monotonic() - 0.01
                )  # what the machine is short of is not made up for
                time.sleep(max(0.0, due - time.monotonic()))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        time.sleep(0.5)
        self._dumpcap.terminate()
        self._dumpcap.wait(20)

    def counted(self) -> tuple[int, int]:
        found = json.loads(self._lab.host.run("nft", "-j", "list", "counters").stdout)["nftables"]
        packets = {each["counter"]["name"]: each["counter"]["packets"] for each in found if "counter" in each}
        return packets["first"], packets["second"]

    def passed(self) -> Passed:
        first, second = _times(self._capture.read_bytes())
        counted = self.counted()
        lost = self._lab.outside.link(self._lab.links[0].outside)["stats64"]["tx"]["dropped"]
        need(lost == self._lost_before, f"the wire lost {lost - self._lost_before:,} packets")
        return Passed(first, second, counted, self.sent)


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _times(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of a pcap file all of whose frames have 42 bytes, by source."""
    record = np.dtype([("s", "<u4"), ("us", "<u4"), ("length", "<u4"), ("whole", "<u4"), ("frame", "u1", 42)])
    need(data[:4] == b"\xd4\xc3\xb2\xa1", "dumpcap wrote something else")
    found = np.frombuffer(data[24 : 24 + (len(data) - 24) // record.itemsize * record.itemsize], record)
    last = found["frame"][:, 14 + 15]  # of the source address
    at = found["s"] + found["us"] / 1e6
    return at[last == 0], at[last == 1]


@contextmanager
def host(settings: str = "") -> Iterator[tuple[Lab, Daemon, Path]]:
    with Lab() as lab, Daemon(lab, settings, rules={"a.toml": drops(FIRST)}) as daemon:
        folder = daemon.home / "cidr.new"
        folder.mkdir()
        (folder / "b.toml").write_text(drops(SECOND))
        yield lab, daemon, folder


def tell(passed: Passed, begun: float, until: float) -> None:
    """Prints and judges what passed when."""
    late = passed.first.max() - until  # the last by the rules on probation
    back = passed.second[passed.second > begun + 1].min() - until  # the first by those that were confirmed
    rate = passed.sent / (max(passed.first.max(), passed.second.max()) - min(passed.first.min(), passed.second.min()))
    print(f"  sent {passed.sent:,} at {rate:,.0f}/s; passed {sum(passed.counted):,}, of which dumpcap missed "
          f"{passed.missed():,}")  # fmt: skip
    print(f"  under the confirmed rules passed {passed.counted[1]:,} of the second source and 0 of the first")
    print(f"  under those on probation passed {passed.counted[0]:,} of the first source")
    print(f"  from the end on: the last by the rules on probation {late * 1e3:+.2f} ms, the first by the confirmed "
          f"{back * 1e3:+.2f} ms")  # fmt: skip
    need(abs(late) <= LATEST_S and abs(back) <= LATEST_S, "not within 10 ms")
    inside = (passed.second > begun) & (passed.second < until - LATEST_S)
    need(not inside.any(), f"{inside.sum():,} packets by the confirmed rules in the middle of the probation")
    need(not ((passed.first < begun - 1) | (passed.first > until + LATEST_S)).any(), "the first source passed else")
    if passed.missed() == 0:
        need((len(passed.first), len(passed.second)) == passed.counted, "counts differ")


def killed(read_only: bool = False) -> None:
    with host() as (lab, daemon, folder):
        if read_only:
            _mount("--bind", daemon.home / "state", daemon.home / "state")
            _mount("-o", "remount,ro,bind", daemon.home / "state")
        try:
            _killed(lab, daemon, folder, read_only)
        finally:
            if read_only:
                subprocess.run(["umount", "-l", str(daemon.home / "state")], check=True)


def _killed(lab: Lab, daemon: Daemon, folder: Path, read_only: bool) -> None:
    with Traffic(lab, daemon.home) as traffic:
        time.sleep(2)
        reply = daemon.ask("apply", str(folder), "--confirm-within", f"{WITHIN_S:g}s")
        trial = reply["probation"]
        if read_only:
            need("cannot be written" in daemon.status()["warnings"][0], "nothing is said of the folder")
        daemon.kill()
        time.sleep(max(0.0, trial["until"] - time.time()) + 2)
    passed = traffic.passed()
    tell(passed, trial["begun_at"] + 0.2, trial["until"])
    daemon.start()
    status = daemon.status()
    need(status["probation"] is None, "still on probation")
    seen = {name: status["accounting"][name]["packets"] for name in ("seen", "dropped")}
    need(seen["seen"] - seen["dropped"] >= sum(passed.counted), "the daemon's account has less than passed")
    print(f"  the next daemon's account: seen {seen['seen']:,}, dropped {seen['dropped']:,}; "
          f"sent less passed {passed.sent - sum(passed.counted):,}")  # fmt: skip
    need(seen["dropped"] == passed.sent - sum(passed.counted), "what did not pass is not what was dropped")
    said = "not confirmed in time" in daemon.said()
    need(said, "the next daemon does not say what ran out")


def reset() -> None:
    with host() as (lab, daemon, folder):
        with Traffic(lab, daemon.home) as traffic:
            time.sleep(1)
            daemon.ask("apply", str(folder), "--confirm-within", "60s")
            time.sleep(1)
            daemon.kill()
            remove_pins(daemon.pins)
            time.sleep(0.5)
        # As a machine that comes up: nothing is attached before the daemon has its rules; then all at once.
        before = traffic.passed()
        need(before.counted[0] > 0, "nothing was on probation")
        daemon.launch()
        with Traffic2(lab, daemon.home) as again:
            daemon.wait(daemon.answers, "an answer", 20)
            attached = time.time()
            time.sleep(1)
        after = again.passed()
        # Until it attaches, one of each passes in turn; from then on the second alone.
        last = after.first.max()
        both, later = int((after.second <= last).sum()), int((after.second > last).sum())
        print(f"  sent {after.sent:,} while it starts: before it was attached {after.counted[0]:,} of the first source "
              f"and {both:,} of the second passed;")  # fmt: skip
        late = int((after.first > attached).sum())
        print(f"  since then 0 of the first ({late:,} after its answer) and {later:,} of the second")
        need(last < attached and later > 0, "the rules on probation were in force")
        need(abs(both - after.counted[0]) <= 1, "for a while the second source was dropped")
        need("ended by a reboot or a stop" in daemon.said(), "the daemon does not say it")
        need(daemon.status()["probation"] is None, "still on probation")


class Traffic2(Traffic):
    """The same in a lab that has the counters."""

    def __enter__(self) -> Traffic:
        self._lab.host.run("nft", "delete", "table", "ip", "tmlab")
        return super().__enter__()


def ssh() -> None:
    settings = "[policy]\nguard = false\n"
    with host(settings) as (lab, daemon, _), tempfile.TemporaryDirectory(prefix="tmlab-ssh") as folder:
        home, link = Path(folder), lab.links[0]
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key")], check=True)
        (home / "authorized").write_text((home / "key.pub").read_text())
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = ["-o", f"AuthorizedKeysFile={home}/authorized", "-o", "StrictModes=no", "-o", "PidFile=none"]
        server += ["-o", "PermitRootLogin=yes", "-o", "UsePAM=no", "-o", f"ListenAddress={link.host_ip}"]
        sshd = subprocess.Popen(
            lab.host.argv("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *server, "-h", str(home / "key")),
            stderr=subprocess.DEVNULL,
        )
        known = ["-F", "none", "-i", str(home / "key"), "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
        known += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=1"]
        client = lab.outside.argv("ssh", *known, f"root@{link.host_ip}")

        def log_in(command: str, timeout: float = 10) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*client, command], capture_output=True, text=True, timeout=timeout, check=False)

        try:
            daemon.wait(lambda: log_in("true").returncode == 0, "a login")
            ctl = f"cd / && PYTHONPATH={Path.cwd()} {PYTHON} -m trafficctl -s {daemon.socket}"
            change = f"{ctl} add-cidr {link.outside_ip} --force --confirm-within 5s"
            session = subprocess.Popen(
                [*client, f"{change} >/dev/null; echo cut off; sleep 1; echo back"], stdout=subprocess.PIPE, text=True
            )
            daemon.wait_status(lambda status: status["probation"], "the change over SSH")
            until = daemon.status()["probation"]["until"]
            shut = log_in("true")
            print(f"  while it lasts a new login ends with {shut.returncode}: {shut.stderr.strip()}")
            need(shut.returncode == 255 and time.time() < until, "not locked out")
            daemon.kill()
            time.sleep(max(0.0, until - time.time()))
            while log_in("true").returncode:
                need(time.time() < until + 5, "not back in")
            print(f"  back in {time.time() - until:.2f} s after its end, the daemon killed meanwhile")
            said = session.communicate(timeout=30)[0]
            print(f"  the session that was cut off goes on: {said.split()}")
            need("back" in said, "the old session is gone")
        finally:
            sshd.terminate()
            sshd.wait()


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


CASES: dict[str, Callable[[], None]] = {
    "killed": killed, "read-only": lambda: killed(read_only=True), "reset": reset, "ssh": ssh,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE")
    wrong = 0
    for name in parser.parse_args().cases or CASES:
        print(name)
        try:
            CASES[name]()
        except Wrong as error:
            print(f"  WRONG: {error}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
