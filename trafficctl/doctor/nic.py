"""Reads facts about network interfaces from sysfs, ethtool and netlink."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from trafficmond.dataclass import dataclass
from trafficmond.datapath import libxdp
from trafficmond.datapath.dispatcher import DISPATCHER
from trafficmond.datapath.interfaces import Interface
from trafficmond.datapath.libbpf import program_name
from trafficmond.errors import DatapathError

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO, _ETHTOOL_GFLAGS = 3, 0x25  # linux/ethtool.h
_FLAG_RXVLAN, _FLAG_LRO = 1 << 8, 1 << 15
_DEV_GET = 1  # linux/netdev.h: NETDEV_CMD_DEV_GET
_XDP_ACT_BASIC = 1  # ... NETDEV_XDP_ACT_BASIC


@dataclass(frozen=True, slots=True)
class Nic:
    """An interface; None is unknown, because kernel or driver do not report it."""

    name: str
    driver: str = ""  # of a virtual device its kind, or empty
    up: bool = True
    mtu: int = 1500
    native_xdp: bool | None = None
    lro: bool | None = None
    rx_vlan_offload: bool | None = None
    xdp_mode: str | None = None  # of the attached program; None: no program is attached
    xdp_program: str = ""  # its name, if it can be read
    xdp_chain: tuple[str, ...] = ()  # "PRIORITY NAME" of the programs that a dispatcher of libxdp runs, in order


def read(wanted: Iterable[Interface]) -> Iterator[Nic]:
    """The facts of each interface; one that has disappeared is left out."""
    native = _native_xdp()
    for each in wanted:
        try:
            octets = os.fsencode(socket.if_indextoname(each.ifindex))
        except OSError:
            continue
        flags = _ethtool_flags(octets)
        lro, rx_vlan = (None if flags is None else bool(flags & bit) for bit in (_FLAG_LRO, _FLAG_RXVLAN))
        program = each.xdp_mode or None, _program(each.xdp_prog_id), _chain(each)
        yield Nic(each.name, _driver(octets), each.up, each.mtu, native.get(each.ifindex), lro, rx_vlan, *program)


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
    """Whether the driver supports XDP, by ifindex; empty before Linux 6.3, the first to report it."""
    socket_ = GenericNetlinkSocket()
    try:
        socket_.bind("netdev", _Netdev)
        native = {}
        for index, _ in socket.if_nameindex():
            request = _Netdev()
            request["cmd"], request["version"] = _DEV_GET, 1
            request["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
            for reply in socket_.nlm_request(request, msg_type=socket_.prid, msg_flags=NLM_F_REQUEST):
                native[index] = bool((reply.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0) & _XDP_ACT_BASIC)
        return native
    except (NetlinkError, OSError):
        return {}
    finally:
        socket_.close()


def _program(prog_id: int) -> str:
    try:
        return program_name(prog_id) if prog_id else ""
    except DatapathError:  # libbpf is missing; another examination reports it
        return ""


def _chain(each: Interface) -> tuple[str, ...]:
    if not each.xdp_prog_id or _program(each.xdp_prog_id) != DISPATCHER:
        return ()
    try:
        with libxdp.chain(each.ifindex) as chain:
            return tuple(chain.described()) if chain else ()
    except DatapathError:  # another examination reports it
        return ()


def _driver(name: bytes) -> str:
    answer = _ethtool(name, struct.pack("I192x", _ETHTOOL_GDRVINFO))
    return "" if answer is None else answer[4:36].partition(b"\0")[0].decode(errors="replace")


def _ethtool_flags(name: bytes) -> int | None:
    """ETHTOOL_GFLAGS, as `ethtool -k` shows them; None if the device does not report them."""
    answer = _ethtool(name, struct.pack("II", _ETHTOOL_GFLAGS, 0))
    return None if answer is None else int(struct.unpack("II", answer)[1])


def _ethtool(name: bytes, question: bytes) -> bytearray | None:
    """The structure that the kernel filled in; None if the device does not answer."""
    answer = bytearray(question)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        held = (ctypes.c_char * len(answer)).from_buffer(answer)
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP", name, ctypes.addressof(held)))
        except OSError:
            return None
    return answer
