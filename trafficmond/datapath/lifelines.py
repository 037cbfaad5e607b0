"""This host's lifelines: addresses that the guard protects from being dropped, from netlink and resolv.conf.

Answers of DHCP, IPv6 neighbour discovery, MLD and IGMP have no such addresses: bpf/verdict.h protects them.
"""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from trafficmond import networks
from trafficmond.datapath.netlink import asking, attributes, dump
from trafficmond.datapath.routes import default_routes

_GETADDR, _ADDRESS_BYTES = 22, 8  # RTM_GETADDR, struct ifaddrmsg
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
RESOLV_CONF = Path("/etc/resolv.conf")
OWN = "own address"


def lifelines(resolv_conf: Path = RESOLV_CONF) -> list[tuple[str, str]]:
    """(prefix, description) of every own address, default gateway and resolver. Raises DatapathError."""
    found = dict.fromkeys(own_addresses(), OWN)
    for hop in default_routes():
        if hop.gateway:
            found.setdefault(_host(hop.gateway), "default gateway")
    for address in _resolvers(resolv_conf):
        found.setdefault(_host(address), "resolver")
    return sorted(found.items())


def own_addresses() -> Iterator[str]:
    """The addresses of this host's interfaces, as prefixes. Raises DatapathError."""
    for of in _interface_addresses():
        own = of.get(_IFA_LOCAL) or of.get(_IFA_ADDRESS)
        if own:
            yield _host(str(ip_address(own)))


def local_destinations() -> Iterator[str]:
    """The destinations that this host accepts, apart from groups: own and broadcast addresses. Raises DatapathError."""
    yield from own_addresses()
    for of in _interface_addresses():
        if _IFA_BROADCAST in of:
            yield _host(str(ip_address(of[_IFA_BROADCAST])))


def _interface_addresses() -> Iterator[dict[int, bytes]]:
    with asking("read addresses"):
        for message in dump(socket.NETLINK_ROUTE, _GETADDR, bytes(_ADDRESS_BYTES)):
            yield attributes(message[_ADDRESS_BYTES:])


def _resolvers(resolv_conf: Path) -> Iterator[str]:
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                yield str(networks.parse_address(words[1].partition("%")[0]))
            except ValueError:
                continue


def _host(address: str) -> str:
    return str(networks.parse(address.partition("%")[0]))
