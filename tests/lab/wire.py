"""What leaves a host: as the far end of the wire counts it, and as the data path booked it; through tunnels as well."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from tmlab import Daemon, Lab

from trafficmond import abi
from trafficmond.datapath import libbpf
from trafficmond.datapath.mapped import Mapped

Pair = tuple[int, int]  # packets, bytes

BULK = 5_000_000
# How a tunnel of each kind is made: from `near` to `far`, or from `near6` to `far6`.
TUNNELS = {
    "vxlan": "type vxlan id 42 dstport 4789 local {near} remote {far} dev {device}",
    "geneve": "type geneve id 42 remote {far}",
    "gre": "type gre local {near} remote {far} key 42",
    "gretap": "type gretap local {near} remote {far}",
    "ip6gre": "type ip6gre local {near6} remote {far6}",
    "ipip": "type ipip local {near} remote {far}",  # IPv4 alone
    "sit": "type sit local {near} remote {far}",  # IPv6 alone
    "ip6tnl": "type ip6tnl mode any local {near6} remote {far6}",
}
TUNNEL = "tmlabv"  # and the end's number
UNKNOWN = "Unknown device type"  # what ip(8) says of a kind that the kernel does not have


class Gauge:
    """The first link of a lab whose host has a daemon."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        self.lab, self.link, self.daemon = lab, lab.links[0], daemon

    def received(self) -> Pair:
        """What arrived at the far end of the wire."""
        rx = self.lab.outside.link(self.link.outside)["stats64"]["rx"]
        return rx["packets"], rx["bytes"]

    def booked(self) -> Pair:
        """What the data path saw leave."""
        seen = self.pinned("tm_totals", abi.TOTALS)["seen"][1::2]
        return int(seen["packets"].sum()), int(seen["bytes"].sum())

    def longest(self) -> int:
        """Bytes of the longest skb that any egress record ended with."""
        slots = self.pinned("tm_sets", abi.FLOW)
        return int(slots["last_len"][slots["key"]["scope"] & abi.SCOPE_EGRESS != 0].max())

    def handed_down(self) -> int:
        """Packets that the host's end of the tunnel gave to the wire below, whole super-packets among them."""
        return int(self.lab.host.link(f"{TUNNEL}1")["stats64"]["tx"]["packets"])

    def pinned(self, name: str, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """A copy of what a pinned array holds."""
        (path,) = self.daemon.pins.glob(f"maps-*/{name}")
        fd = libbpf.open_pin(str(path))
        info = libbpf.map_info(fd)
        mapped = Mapped(fd, dtype, info.max_entries * info.value_size // dtype.itemsize)
        os.close(fd)
        copy = mapped.array.copy()
        mapped.close()
        return copy

    def at_rest(self) -> tuple[Pair, Pair]:
        """What the far end received and what was booked, while nothing was on its way: neighbours ask now and then."""
        while True:
            found = self.received(), self.booked()
            time.sleep(0.05)
            if found == (self.received(), self.booked()):
                return found

    def difference(self, what: str, send: Callable[[Lab, str], None], there: str, least: int) -> list[str]:
        """Nothing if what `send` brings to the far end, `least` bytes, is what was booked."""
        before = self.at_rest()
        send(self.lab, there)
        time.sleep(0.3)
        after = self.at_rest()
        arrived, booked = minus(after[0], before[0]), minus(after[1], before[1])
        assert arrived[1] >= least, what
        return [] if arrived == booked else [f"{what}: {booked} booked, {arrived} on the wire"]

    @contextmanager
    def tunnel(self, kind: str) -> Iterator[list[str]]:
        """One of TUNNELS with addresses of its own, over which hello was said; the far end's, of what it can carry.
        Raises LabError, with UNKNOWN in it where the kernel has none of that kind."""
        number = 1 + list(TUNNELS).index(kind)
        ends = ((self.lab.host, self.link.host, 1), (self.lab.outside, self.link.outside, 2))
        addresses = (self.link.host_ip, self.link.outside_ip), (self.link.host_ip6, self.link.outside_ip6)
        for namespace, device, end in ends:
            (near, far), (near6, far6) = addresses if end == 1 else [pair[::-1] for pair in addresses]
            made = TUNNELS[kind].format(near=near, far=far, near6=near6, far6=far6, device=device)
            name = f"{TUNNEL}{end}"
            namespace.ip(f"link add {name} {made}", f"link set {name} up")
            if kind != "sit":
                namespace.ip(f"address add 10.42.{number}.{end}/24 dev {name}")
            if kind != "ipip":
                namespace.ip(f"address add fd42:{number}::{end}/64 dev {name} nodad")
        there = [f"10.42.{number}.2"] * (kind != "sit") + [f"fd42:{number}::2"] * (kind != "ipip")
        for address in there:
            self.lab.host.run("ping", "-c", "1", "-W", "10", address)
        yield there
        for namespace, _, end in ends:
            namespace.ip(f"link delete {TUNNEL}{end}")


def minus(a: Pair, b: Pair) -> Pair:
    """The difference."""
    return a[0] - b[0], a[1] - b[1]


def send_bulk(lab: Lab, there: str, size: int = BULK) -> None:
    """A TCP connection from the host to the outside that carries `size` bytes."""
    family = socket.AF_INET6 if ":" in there else socket.AF_INET
    with lab.outside.entered():
        server = socket.create_server((there, 5001), family=family)

    def swallow() -> None:
        taker, _ = server.accept()
        with taker:
            while taker.recv(1 << 20):
                pass

    thread = threading.Thread(target=swallow)
    thread.start()
    with lab.host.entered():
        sender = socket.socket(family, socket.SOCK_STREAM)
    with sender, server:
        sender.connect((there, 5001))
        sender.sendall(bytes(size))
        sender.shutdown(socket.SHUT_WR)
        thread.join(30)
