"""A host as the documentation supposes one: trafficmon at its usual paths, a default route, strangers outside.

The paths are private to a mount namespace and the network to the lab; the machine's own /etc, /run, /var and pins are
not touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tmlab import Lab, Link, Sender
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import tcp, udp

STRANGER, SCANNER, BANNED = "203.0.113.7", "198.51.100.66", "192.0.2.200"
_SYN = 2

# /etc is a copy, so that groups and settings can be made in it.
_FURNISH = """\
set -e
cp -a /etc "$1/etc.new" && mount --bind "$1/etc.new" /etc
rm -rf /etc/trafficmon && mkdir -p /etc/trafficmon/cidr.d && cp "$2" /etc/trafficmon/
rm -f /etc/resolv.conf && echo 'nameserver 10.99.0.2' >/etc/resolv.conf
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p /run/trafficmon /var/lib/trafficmon /var/log/trafficmon
mount -t bpf bpf /sys/fs/bpf
for group in trafficmon trafficmon-admin; do getent group $group >/dev/null || groupadd --system $group; done
id alice >/dev/null 2>&1 || useradd --no-create-home alice
echo furnished
exec sleep infinity
"""


class SceneFailed(AssertionError):
    """The host of the documentation could not be made, or its daemon did not do what was expected."""


class Scene:
    """The host, with a running daemon. `run` is its administrator's shell."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home = lab, home
        self._tools = home / "bin"
        self._write_tools()
        self._anchor = subprocess.Popen(
            lab.host.argv("unshare", "--mount", "--propagation", "private", "sh", "-c", _FURNISH, "sh",
                          str(home), str(ROOT / "etc" / "trafficmond.toml")),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._anchor.stdout is not None
        said = self._anchor.stdout.readline()
        if said != "furnished\n":
            raise SceneFailed(f"the scene could not be made: {said}{self._anchor.stdout.read()}")
        self._daemon: subprocess.Popen[bytes] | None = None

    def _write_tools(self) -> None:
        self._tools.mkdir()
        python_path = f'PYTHONPATH="{ROOT}" PYTHONDONTWRITEBYTECODE=1 exec {PYTHON}'
        scripts = {
            "trafficctl": f'{python_path} -m trafficctl "$@"',
            "trafficmond": f'{python_path} -m trafficmond "$@"',
            "sudo": 'exec "$@"',  # who runs the tests is root already
        }
        for name, script in scripts.items():
            path = self._tools / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def _argv(self, command: str) -> list[str]:
        entered = ["nsenter", "-t", str(self._anchor.pid), "--mount", "--net", f"--wd={self.home}", "--"]
        return [*entered, "bash", "-c", command]

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAFFICMON", "NOTIFY"))}
        return kept | {"PATH": f"{self._tools}:/usr/local/sbin:/usr/sbin:/sbin:{os.environ['PATH']}", "COLUMNS": "120"}

    def run(self, command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command line in a shell of the host; standard error comes with standard output."""
        argv = self._argv(command)
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, errors="replace", env=self._environment, cwd=self.home, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            said += f"(killed after {timeout:g} s)\n"
        return subprocess.CompletedProcess(argv, process.returncode, said)

    def start(self) -> None:
        """Start the daemon with the settings that the package has and wait until it answers."""
        with (self.home / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                self._argv("exec trafficmond"), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        self.wait("trafficctl status", "the daemon to answer", 20)

    def stop(self) -> None:
        """End the daemon, if it runs."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(20)
            self._daemon.kill()

    def wait(self, command: str, what: str, timeout: float = 10) -> None:
        """Until `command` ends with 0. Raises SceneFailed saying `what` was waited for."""
        deadline = time.monotonic() + timeout
        while (done := self.run(command)).returncode:
            if time.monotonic() > deadline:
                raise SceneFailed(f"waited for {what}; {command}: {done.stdout}{(self.home / 'log').read_text()}")
            time.sleep(0.2)

    def write(self, path: str, text: str) -> None:
        """A file of the host, renamed into place as editors do; the rules and settings with it are in force then."""
        inside = Path(f"/proc/{self._anchor.pid}/root{path}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        fresh = inside.with_name(f".{inside.name}.swp")
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(inside)

    def traffic(self) -> None:
        """What a day brings: somebody who asks, somebody who tries ports, somebody who is kept out."""
        link = self.lab.links[0]
        self.wait(f"trafficctl ban {BANNED} --ttl 3s", "a ban")
        with Sender(self.lab.outside, link.outside) as sender:
            sender.send([udp(STRANGER, link.host_ip, 4000 + number, 53, b"?" * 20) for number in range(5)])
            sender.send([tcp(SCANNER, link.host_ip, 40000 + port, port, _SYN) for port in range(1, 129)])
            sender.send([udp(BANNED, link.host_ip)] * 3)
        self.wait("trafficctl threats -o json | grep -q port_scan", "the scan to be found", 15)

    def close(self) -> None:
        self.stop()
        self._anchor.kill()
        self._anchor.wait()
        assert self._anchor.stdout is not None
        self._anchor.stdout.close()


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """A host with a running daemon and some traffic behind it; all of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="tmlab-docs"))
    home.chmod(0o755)
    try:
        lab = Lab()
        lab.links = [Link(0, "tmlabx0", "eth0")]  # as the pages call it
        with lab:
            lab.host.ip(f"route add default via {lab.links[0].outside_ip} dev {lab.links[0].host}")
            host = Scene(lab, home)
            try:
                host.start()
                host.traffic()
                yield host
            finally:
                host.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
