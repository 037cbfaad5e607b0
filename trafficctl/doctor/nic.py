"""Facts about network interfaces, from sysfs, ethtool and netlink."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from trafficmond.datapath.libbpf import program_name
from trafficmond.errors import DatapathError

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GFLAGS = 0x25  # linux/ethtool.h
_FLAG_RXVLAN, _FLAG_LRO = 1 << 8, 1 << 15
_DEV_GET = 1  # linux/netdev.h: NETDEV_CMD_DEV_GET
_XDP_ACT_BASIC = 1  # ... NETDEV_XDP_ACT_BASIC
# linux/if_link.h: XDP_ATTACHED_*, as pyroute2 calls them
_XDP_MODES = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "several"}


@dataclass(frozen=True, slots=True)
class Nic:
    """An interface; None stands for what its kernel or driver does not tell."""

    name: str
    driver: str = ""  # empty: a virtual device
    up: bool = True
    mtu: int = 1500
    native_xdp: bool | None = None
    lro: bool | None = None
    rx_vlan_offload: bool | None = None
    xdp_mode: str | None = None  # of the program attached; None: there is none
    xdp_program: str = ""  # its name, where it may be known


def names() -> list[str]:
    """The interfaces there are."""
    return [name for _, name in socket.if_nameindex()]


def read(wanted: Iterable[str]) -> Iterator[Nic]:
    """The facts of each; one that vanished meanwhile is left out."""
    native = _native_xdp()
    with IPRoute() as route:
        for name in wanted:
            try:
                link = route.get_links(ifname=name)[0]
            except (NetlinkError, IndexError):
                continue
            flags = _ethtool_flags(name)
            mode, program = _attached(link)
            yield Nic(
                name,
                _driver(name),
                link.get_attr("IFLA_OPERSTATE") in ("UP", "UNKNOWN"),
                link.get_attr("IFLA_MTU") or 0,
                native.get(link["index"]),
                None if flags is None else bool(flags & _FLAG_LRO),
                None if flags is None else bool(flags & _FLAG_RXVLAN),
                mode,
                program,
            )


def default_route_interfaces() -> list[str]:
    """Those that default routes of either family use."""
    with IPRoute() as route:
        indexes = [
            each.get_attr("RTA_OIF")
            for family in (socket.AF_INET, socket.AF_INET6)
            for each in route.get_default_routes(family=family)
        ]
    return sorted({socket.if_indextoname(index) for index in indexes if index})


class _Netdev(genlmsg):  # type: ignore[misc]  # pyroute2 has no types
    """Documentation/netlink/specs/netdev.yaml: dev."""

    prefix = "NETDEV_A_DEV_"
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def _native_xdp() -> dict[int, bool]:
    """Does its driver do XDP, by ifindex; empty before Linux 6.3, which was the first to tell."""
    socket_ = GenericNetlinkSocket()
    try:
        socket_.bind("netdev", _Netdev)
        told = {}
        for index, _ in socket.if_nameindex():
            request = _Netdev()
            request["cmd"], request["version"] = _DEV_GET, 1
            request["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
            for reply in socket_.nlm_request(request, msg_type=socket_.prid, msg_flags=NLM_F_REQUEST):
                told[index] = bool((reply.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0) & _XDP_ACT_BASIC)
        return told
    except (NetlinkError, OSError):
        return {}
    finally:
        socket_.close()


def _attached(link: Any) -> tuple[str | None, str]:
    xdp = link.get_attr("IFLA_XDP")
    attached = xdp.get_attr("IFLA_XDP_ATTACHED") if xdp else None
    if not attached:
        return None, ""
    program = xdp.get_attr("IFLA_XDP_PROG_ID")
    try:
        return _XDP_MODES.get(attached, str(attached)), program_name(program) if program else ""
    except DatapathError:  # no libbpf to ask with; another examination says so
        return _XDP_MODES.get(attached, str(attached)), ""


def _driver(name: str) -> str:
    try:
        return (Path("/sys/class/net") / name / "device/driver").resolve(strict=True).name
    except OSError:
        return ""


def _ethtool_flags(name: str) -> int | None:
    """ETHTOOL_GFLAGS, as `ethtool -k` shows them; None if the device does not tell."""
    value = bytearray(struct.pack("II", _ETHTOOL_GFLAGS, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        held = (ctypes.c_char * len(value)).from_buffer(value)
        request = struct.pack("16sP", name.encode(), ctypes.addressof(held))
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return None
    return int(struct.unpack("II", value)[1])
