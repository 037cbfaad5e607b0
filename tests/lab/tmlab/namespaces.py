"""Network namespaces joined by veth pairs: `outside` (where strangers are) and `host` (which the daemon guards)."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

_NETNS = Path("/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_serial = itertools.count()

OUTSIDE_MAC, HOST_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:02"  # the same on every link


class LabError(Exception):
    """The laboratory itself failed, not what is tested in it."""


class Namespace:
    """A named network namespace; the mount namespace stays the caller's, so bpffs and files are where they were."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _NETNS / name

    def __str__(self) -> str:
        return self.name

    def argv(self, *command: str | Path) -> list[str]:
        """`command` as it must be started from outside to run in here."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, command)]

    def run(self, *command: str | Path, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run `command` in here to its end. Raises LabError with its output if it fails and `check` is set."""
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise LabError(
                f"{' '.join(map(str, command))} in {self}: exit {done.returncode}: {done.stderr or done.stdout}"
            )
        return done

    def ip(self, *lines: str) -> None:
        """Run lines of ip(8), such as "link set lo up", in one go."""
        _ip("-n", self.name, "-batch", "-", stdin="\n".join(lines))

    def link(self, interface: str) -> dict[str, Any]:
        """What `ip -s -j link show` says of `interface`."""
        found: list[dict[str, Any]] = json.loads(_ip("-n", self.name, "-s", "-j", "link", "show", "dev", interface))
        return found[0]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread in here, for sockets that stay here after it has left."""
        with open("/proc/thread-self/ns/net") as home, open(self.path) as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def sysctl(self, **settings: int) -> None:
        """Set keys below net, written with dots as double underscores: `ipv6__conf__all__accept_dad=0`."""
        with self.entered():
            for key, value in settings.items():
                Path("/proc/sys/net", *key.split("__")).write_text(str(value))


@dataclass(frozen=True)
class Link:
    """One veth pair. The addresses are there unless the lab is quiet."""

    index: int
    outside: str  # interface in the outside namespace
    host: str  # interface in the host namespace

    @property
    def outside_ip(self) -> str:
        return f"10.99.{self.index}.2"

    @property
    def host_ip(self) -> str:
        return f"10.99.{self.index}.1"

    @property
    def outside_ip6(self) -> str:
        return f"fd99:{self.index + 1:x}::2"

    @property
    def host_ip6(self) -> str:
        return f"fd99:{self.index + 1:x}::1"


class Lab:
    """Two namespaces and `links` veth pairs between them, up when entered, gone when left.

    `quiet`: no addresses and no IPv6, so that nothing but what a test sends crosses the wire.
    `offloads`: leave checksum and segmentation offloads on; off, every frame on the wire is whole and final.
    `keep`: leave everything up on the way out.
    """

    def __init__(
        self,
        links: int = 1,
        *,
        mtu: int = 1500,
        quiet: bool = False,
        offloads: bool = False,
        suffix: str | None = None,
        keep: bool = False,
    ) -> None:
        tag = f"{os.getpid()}-{next(_serial)}" if suffix is None else suffix
        self.name = f"tmlab{tag}"
        self.outside = Namespace(f"{self.name}-outside")
        self.host = Namespace(f"{self.name}-host")
        self.links = [Link(index, f"tmlabx{index}", f"tmlab{index}") for index in range(links)]
        self.mtu = mtu
        self.quiet = quiet
        self.offloads = offloads
        self.keep = keep

    @property
    def namespaces(self) -> tuple[Namespace, Namespace]:
        return self.outside, self.host

    def __enter__(self) -> Lab:
        self.remove()
        try:
            for namespace in self.namespaces:
                _ip("netns", "add", namespace.name)
                # Duplicate address detection would make every address useless for a second.
                namespace.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
                namespace.sysctl(ipv6__conf__all__disable_ipv6=int(self.quiet))
                namespace.sysctl(ipv6__conf__default__disable_ipv6=int(self.quiet))
                # A packet made by hand has whatever source it likes.
                namespace.sysctl(ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0)
                namespace.ip("link set lo up")
            for link in self.links:
                self.connect(link)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.keep:
            self.remove()

    def connect(self, link: Link) -> None:
        """Make the veth pair of `link` (again, after a test has removed it) and bring it up."""
        mtu = str(self.mtu)
        outside = ["name", link.outside, "netns", self.outside.name, "mtu", mtu, "address", OUTSIDE_MAC]
        host = ["name", link.host, "netns", self.host.name, "mtu", mtu, "address", HOST_MAC]
        _ip("link", "add", *outside, "type", "veth", "peer", *host)
        for namespace, interface in ((self.outside, link.outside), (self.host, link.host)):
            if not self.offloads:
                off = ["rx", "tx", "sg", "tso", "gso", "gro"]
                namespace.run("ethtool", "-K", interface, *itertools.chain.from_iterable((name, "off") for name in off))
            namespace.ip(f"link set {interface} up")
        if not self.quiet:
            self.outside.ip(
                f"addr add {link.outside_ip}/24 dev {link.outside}",
                f"addr add {link.outside_ip6}/64 dev {link.outside} nodad",
            )
            self.host.ip(
                f"addr add {link.host_ip}/24 dev {link.host}", f"addr add {link.host_ip6}/64 dev {link.host} nodad"
            )

    def remove(self) -> None:
        """Remove both namespaces and all that is in them; nothing if they are not there."""
        for namespace in self.namespaces:
            if namespace.path.exists():
                _ip("netns", "delete", namespace.name)


def _ip(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["ip", *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}{f' in: {stdin}' if stdin else ''}")
    return done.stdout


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise LabError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}; run as root")
