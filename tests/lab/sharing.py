"""Beside another XDP program, through libxdp: xdp-filter comes and goes, trafficmon is restarted and upgraded under
traffic, and is taken out again; what it drops stays dropped, and is counted once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tmlab import Daemon, Lab, Listener, Sender
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import udp

PORT = 5999
A_MOMENT = 20  # packets of the traffic below, of which there are as many in 10 ms
OURS, THEIRS = "tm_xdp", "xdpfilt_alw_all"
BAD, FILTERED = "203.0.113.7", "198.51.100.44"  # dropped by a rule of ours; by xdp-filter


def lacking() -> str:
    """What is not installed, in words; empty: nothing."""
    missing = [name for name in ("xdp-filter", "xdp-loader") if shutil.which(name) is None]
    return f"needs apt-get install xdp-tools ({', '.join(missing)})" if missing else ""


class Sharing:
    """A daemon whose interface is to be shared; `settings` are those it has otherwise."""

    def __init__(self, lab: Lab, daemon: Daemon, sender: Sender, settings: str, timeout: float = 20) -> None:
        self.lab, self.daemon, self.sender = lab, daemon, sender
        self.settings, self.timeout = settings, timeout
        self.name, self.address = lab.links[0].host, lab.links[0].host_ip

    def tool(self, *command: str) -> str:
        """Runs one of xdp-tools where the daemon runs. Raises AssertionError if it fails."""
        done = subprocess.run(
            self.lab.host.argv(*command), capture_output=True, text=True, timeout=self.timeout, check=False
        )
        assert not done.returncode, f"{' '.join(command)} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def told(self) -> list[str]:
        """By xdp-loader: the dispatcher's id, and what it runs."""
        text = self.tool("xdp-loader", "status", self.name)
        return [*re.findall(r"xdp_dispatcher +\w+ +(\d+)", text), *re.findall(r"=> +\d+ +(\w+)", text)]

    def seen(self) -> list[str]:
        """The same, by the daemon."""
        (row,) = self.daemon.status()["interfaces"]
        return [str(row.get("dispatcher")), *(each.split()[1] for each in row.get("chain") or ())]

    def agree(self, *names: str) -> None:
        """`names` are what the interface runs, in this order: so say the daemon, in a moment, and xdp-loader."""
        self.daemon.wait(lambda: self.seen()[1:] == list(names), f"status to tell of {names}", self.timeout)
        assert self.seen() == self.told(), f"status: {self.seen()}, xdp-loader: {self.told()}"

    def start(self, *, share: bool = True, capacity: int = 1024) -> None:
        """Starts with these settings; kills what runs first."""
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            self.daemon.kill()
        settings = self.settings.replace("capacity = 1024", f"capacity = {capacity}")
        beside = f'[[interface]]\nname = "{self.name}"\nxdp_share = "libxdp"\n' if share else ""
        self.daemon.configure(settings + beside)
        self.daemon.start(self.timeout)

    def detach(self) -> None:
        """The emergency exit."""
        command = (f"PYTHONPATH={ROOT}", PYTHON, "-m", "trafficmond", "-c", str(self.daemon.config), "--detach")
        self.lab.host.run("env", *command, timeout=self.timeout)

    def dropped(self) -> int:
        """Packets that were dropped by rules of ours."""
        return int(self.daemon.status()["accounting"]["dropped"]["packets"])

    def heard(self, source: str) -> int:
        """How many of five packets of a source get through."""
        with Listener(self.lab.host, self.address, PORT) as listener:
            self.sender.send([udp(source, self.address, dport=PORT)] * 5)
            time.sleep(0.3)
            return listener.heard()[source]

    @contextmanager
    def traffic(self) -> Iterator[Callable[[], int]]:
        """Packets that a rule drops, all the time; gives how many were sent."""
        sent, stop = [0], threading.Event()

        def send() -> None:
            while not stop.is_set():
                sent[0] += self.sender.send([udp(BAD, self.address, dport=PORT)] * 20).packets
                time.sleep(0.01)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield lambda: sent[0]
        finally:
            stop.set()
            thread.join()

    def made(self) -> str:
        """The configuration of the dispatcher, from its map."""
        (number,) = json.loads(self.tool("bpftool", "-j", "prog", "show", "id", self.told()[0]))["map_ids"]
        return self.tool("bpftool", "map", "dump", "id", str(number))

    def through(self, what: str, change: Callable[[], object], most: int = 0) -> None:
        """Under traffic through `change`, every packet is dropped and counted, once, but for at most so many."""
        before = self.dropped()
        with Listener(self.lab.host, self.address, PORT) as listener:
            with self.traffic() as sent:
                time.sleep(0.3)
                change()
                time.sleep(0.3)
            passed = listener.heard()[BAD]
        due = sent() - passed
        self.daemon.wait(lambda: self.dropped() - before >= due, f"{due} dropped over {what}", self.timeout)
        time.sleep(0.5)
        counted = self.dropped() - before
        print(f"{what}: {sent()} sent, {counted} dropped, {passed} passed", file=sys.stderr, flush=True)
        assert counted == due, f"{what}: {counted} dropped of {due}"
        assert passed <= most, f"{what}: {counted} dropped and {passed} passed of {sent()}"


def refused(on: Sharing) -> str:
    """Starts, with a rule that drops; why the kernel does not let it share, if so: then it is watched alone."""
    on.start()
    on.daemon.control("add-cidr", BAD, "--action", "drop", "--save", timeout=on.timeout)
    assert on.heard(BAD) == 0, "dropped as the only program"
    found = [each for each in on.daemon.status()["warnings"] if "is not shared with other XDP programs" in each]
    assert bool(found) == (on.seen() == ["None"]), "a place in a dispatcher, or why there is none"
    return found[0] if found else ""


def joined(on: Sharing) -> None:
    """xdp-filter comes, and each drops what is its; the one who was there first may be killed and upgraded to maps of
    other sizes: not a packet passes, none is counted twice."""
    on.agree(OURS)
    on.through("xdp-filter's coming", lambda: on.tool("xdp-filter", "load", on.name))
    on.agree(OURS, THEIRS)
    on.tool("xdp-filter", "ip", "-m", "src", FILTERED)
    on.through("a start with other maps", lambda: on.start(capacity=2048))
    on.agree(OURS, THEIRS)
    assert (on.heard(BAD), on.heard(FILTERED)) == (0, 0), "each drops what is its"


def left(on: Sharing) -> None:
    """A stop leaves it filtering; the emergency exit takes it out, and leaves the other in."""
    on.daemon.stop(on.timeout)
    assert on.heard(BAD) == 0, "still dropped without a daemon"
    on.detach()
    assert (on.told()[1:], on.heard(BAD)) == ([THEIRS], 5), "xdp-filter alone is left"


def there_and_back(on: Sharing) -> None:
    """It joins what was there first; from a dispatcher of its own to the hook for itself, and back, by the setting."""
    on.start()
    on.agree(OURS, THEIRS)
    on.through("xdp-filter's going", lambda: on.tool("xdp-filter", "unload", on.name))
    on.agree(OURS)
    on.tool("xdp-loader", "unload", on.name, "--all")
    on.daemon.wait(lambda: on.seen() == on.told() and OURS in on.told(), "it to be back", on.timeout)
    on.through("a restart alone in the dispatcher", on.start)
    made = on.made()
    on.through("sharing no more", lambda: on.start(share=False), A_MOMENT)
    assert (on.seen(), on.heard(BAD), on.told()) == (["None"], 0, []), "the hook for itself"
    on.through("sharing again", on.start, A_MOMENT)
    on.agree(OURS)
    assert on.made() == made, "a dispatcher as libxdp makes it"
    on.detach()
    assert on.told() == [], "nothing is left"
