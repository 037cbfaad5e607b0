"""This host's lifelines: addresses that the guard never lets be dropped, as netlink and resolv.conf tell them.

DHCP and IPv6 neighbour discovery, whose packets no address tells, are guarded in the kernel (bpf/verdict.h).
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from trafficmond.errors import DatapathError

_SSH_PORT = 22
_TCP_ESTABLISHED = "01"
RESOLV_CONF = Path("/etc/resolv.conf")


def lifelines(resolv_conf: Path = RESOLV_CONF) -> list[tuple[str, str]]:
    """(prefix, what it is) of every own address, default gateway and resolver. Raises DatapathError."""
    from pyroute2 import IPRoute

    found: dict[str, str] = {}
    try:
        with IPRoute() as netlink:
            for message in netlink.get_addr():
                address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                if address:
                    found[_host(address)] = "own address"
            for family in (socket.AF_INET, socket.AF_INET6):
                for route in netlink.get_default_routes(family=family):
                    for address in _gateways(route):
                        found.setdefault(_host(address), "default gateway")
    except OSError as error:
        raise DatapathError(
            f"cannot read addresses and routes: {error.strerror}", hint="allow AF_NETLINK sockets"
        ) from error
    for address in _resolvers(resolv_conf):
        found.setdefault(_host(address), "resolver")
    return sorted(found.items())


def ssh_peers(proc_net: Path = Path("/proc/self/net")) -> set[str]:
    """Addresses with an established connection to this host's port 22, as /proc/net/tcp and tcp6 tell them."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc_net / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _number, local, remote, state = line.split()[:4]
            if state == _TCP_ESTABLISHED and int(local.rpartition(":")[2], 16) == _SSH_PORT:
                found.add(_proc_address(remote.partition(":")[0]))
    return found


def _proc_address(text: str) -> str:
    """The address that /proc/net writes as 32-bit words in host order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _gateways(route: object) -> Iterator[str]:
    gateway = route.get_attr("RTA_GATEWAY")  # type: ignore[attr-defined]
    if gateway:
        yield gateway
    for hop in route.get_attr("RTA_MULTIPATH") or ():  # type: ignore[attr-defined]
        gateway = hop.get_attr("RTA_GATEWAY")
        if gateway:
            yield gateway


def _resolvers(resolv_conf: Path) -> Iterator[str]:
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                yield str(ipaddress.ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue


def _host(address: str) -> str:
    return str(ipaddress.ip_network(address.partition("%")[0]))
