"""Services in cgroups of their own, as systemd starts them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tmlab import Lab

from trafficmond.datapath.cgroups import root

TREE = root()
# What a service does, in a process that is in its cgroup before it makes a socket: what to do, where, how much.
_SERVICE = """
import socket, sys
what, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if what == "udp":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(100), (address, port))
elif what == "from":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("0.0.0.0", port))
        for _ in range(count):
            sender.sendto(bytes(100), (address, port))
elif what == "bind":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting:
        waiting.bind((address, port))
        print("ready", flush=True)
        sys.stdin.read()
"""


class Services:
    """Cgroups of a test's own, named as systemd names those of its units."""

    def __init__(self, lab: Lab) -> None:
        assert TREE
        self.lab = lab
        self.top = TREE / f"{lab.name}.slice"

    def __enter__(self) -> Services:
        self.top.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for folder in sorted(self.top.glob("**/"), key=lambda each: -len(each.parts)):
            deadline = time.monotonic() + 60
            while folder.exists():  # a process that has just ended leaves its cgroup a moment later
                with contextlib.suppress(OSError):
                    folder.rmdir()
                assert time.monotonic() < deadline, f"{folder} is still in use"
                time.sleep(0.01)

    def start(self, unit: str, *what: str | int) -> subprocess.Popen[str]:
        """What a service does, as a process of the unit."""
        return self.launch(unit, _SERVICE, *what)

    def launch(self, unit: str, code: str, *arguments: str | int | Path) -> subprocess.Popen[str]:
        """Python in the unit's cgroup and in the lab's host namespace; in there from the first instruction on."""
        folder = self.top / unit
        folder.mkdir(parents=True, exist_ok=True)
        enter = f'echo $$ > {folder}/cgroup.procs && exec "$@"'
        command = self.lab.host.argv("sh", "-c", enter, "sh", sys.executable, "-c", code, *map(str, arguments))
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, unit: str, *what: str | int, timeout: float = 20) -> None:
        """The same to its end, after which the unit is gone."""
        process = self.start(unit, *what)
        assert process.wait(timeout) == 0
        end(process)
        (self.top / unit).rmdir()


def end(process: subprocess.Popen[str]) -> None:
    """Lets it end, and takes what it had to say."""
    process.communicate("", timeout=20)


@contextlib.contextmanager
def waiting(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A service that has opened its port, until the end."""
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        end(process)
