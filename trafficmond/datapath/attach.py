"""Attaches the two programs to one interface: XDP for incoming packets, TC for outgoing ones."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trafficmond.config.settings import XdpModeSetting
from trafficmond.dataclass import dataclass, field
from trafficmond.datapath import dispatcher, libbpf, share
from trafficmond.datapath.interfaces import EgressHook, Interface, XdpMode, list_interfaces
from trafficmond.datapath.loader import XDP_PROGRAM, Loaded, Sizes
from trafficmond.datapath.netlink import dump, with_library
from trafficmond.datapath.pins import Pins, drop_shared, end_links, marks, remove_pins, shared
from trafficmond.errors import DatapathError, ForeignProgramError

_ATTEMPTS: Mapping[XdpModeSetting, tuple[XdpMode, ...]] = {
    "auto": (XdpMode.NATIVE, XdpMode.GENERIC),
    "native": (XdpMode.NATIVE,),
    "skb": (XdpMode.GENERIC,),
}
# A page less XDP headroom and skb_shared_info: the capacity of one buffer. Drivers with multi-buffer XDP take more.
MAX_XDP_MTU = 3498


@dataclass(slots=True)
class Attachment:
    """The programs attached to one interface. `notes` say what was not possible, and why."""

    ifindex: int
    name: str
    mode: XdpMode
    egress: EgressHook
    notes: list[str] = field(default_factory=list)
    mtu: int = 0  # of the interface then
    shared: share.Shared | None = None  # with other XDP programs
    away: bool = False  # the interface was moved to another network namespace
    _config: int = -1  # map that identifies our program in a dispatcher
    _links: dict[str, int] = field(default_factory=dict)

    def alive(self) -> bool:
        """Whether the interface is still the same one, not a new one with its number."""
        if not all(libbpf.link_info(fd).ifindex == self.ifindex for fd in self._links.values()):
            return False
        return self.shared is None or self.shared.holds(self._config)

    def release(self) -> None:
        """Closes our descriptors; pinned attachments stay."""
        for fd in self._links.values():
            os.close(fd)
        self._links.clear()


def attach(
    loaded: Loaded,
    sizes: Sizes,
    pins: Pins,
    interface: Interface,
    mode: XdpModeSetting,
    *,
    egress: bool,
    share_it: bool,
) -> Attachment:
    """Attaches to `interface`, or updates in place the pinned attachment of an earlier daemon. `mode` and `egress` are
    the settings; `share_it`: the XDP hook is shared with other programs, through libxdp.

    Raises ForeignProgramError if another XDP program is there, DatapathError if the kernel refuses.
    """
    done = Attachment(interface.ifindex, interface.name, XdpMode.NONE, EgressHook.NONE, mtu=interface.mtu)
    if share_it:
        _join(loaded, sizes, pins, mode, done)
    else:
        _leave(interface.ifindex, pins, loaded.programs[XDP_PROGRAM])
    if done.shared is None:
        done._links["xdp"] = _attach_xdp(loaded, pins, interface, mode, done)
    if egress:
        try:
            attach_egress(loaded, pins, done)
        except OSError as error:
            done.notes.append(f"outgoing traffic of {interface.name} is not watched: {error.strerror}")
    else:  # an earlier daemon may have had another setting
        pins.drop_link("tcx", interface.ifindex)
        drop_filters(interface.ifindex, ALL_FILTERS)
    return done


def detach(done: Attachment, pins: Pins) -> None:
    detach_pinned(done.ifindex, pins, clsact=done.egress is EgressHook.CLSACT)
    done.release()


def detach_pinned(ifindex: int, pins: Pins, *, clsact: bool = True) -> None:
    """Ends an earlier daemon's attachment to an interface."""
    with contextlib.suppress(DatapathError):  # the mark stays
        _leave(ifindex, pins)
    pins.drop_link("xdp", ifindex)
    pins.drop_link("tcx", ifindex)
    if clsact:
        drop_filters(ifindex, ALL_FILTERS)


def detach_all(pin_dir: Path) -> None:
    """Ends every attachment pinned there, of a running trafficmond or not, in an emergency. Raises DatapathError if our
    program cannot be removed from a dispatcher: everything else is done then, and the maps stay pinned."""
    stays: list[DatapathError] = []
    for ifindex in shared(pin_dir):
        try:
            with _marks(pin_dir, ifindex) as maps:
                share.leave(ifindex, maps)
            drop_shared(pin_dir, ifindex)  # otherwise a running daemon would join again
        except DatapathError as error:
            stays.append(error)
    (end_links if stays else remove_pins)(pin_dir)
    for interface in list_interfaces():
        drop_filters(interface.ifindex, ALL_FILTERS)
    if stays:
        raise stays[0]


def _join(loaded: Loaded, sizes: Sizes, pins: Pins, mode: XdpModeSetting, done: Attachment) -> None:
    """Shares the hook; if that fails and no other program has it, attaches alone. Pins the mark before it begins."""
    config = loaded.maps["tm_config"]
    direct = pins.link("xdp", done.ifindex)  # an earlier daemon had the hook alone: that is kept until sharing works
    try:
        if not pins.is_shared(done.ifindex):
            pins.keep_shared(done.ifindex, config)
        with _marks(pins.directory, done.ifindex) as maps:
            done.shared = share.join(loaded, sizes, done.ifindex, _ATTEMPTS[mode], maps, direct)
    except DatapathError as error:
        if libbpf.xdp_id(done.ifindex) and not pins.has_link("xdp", done.ifindex):
            raise
        drop_shared(pins.directory, done.ifindex)
        done.notes.append(f"{done.name} is not shared with other XDP programs: {error}")
        return
    finally:
        if direct is not None:
            os.close(direct)
    pins.drop_link("xdp", done.ifindex)
    pins.keep_shared(done.ifindex, config)
    done.mode, done._config = done.shared.mode, config


def _leave(ifindex: int, pins: Pins, program: int | None = None) -> None:
    if pins.is_shared(ifindex):
        with _marks(pins.directory, ifindex) as maps:
            link = share.leave(ifindex, maps, program)
        if link is not None:
            pins.keep_link("xdp", ifindex, link)
            os.close(link)
        drop_shared(pins.directory, ifindex)


@contextmanager
def _marks(pin_dir: Path, ifindex: int) -> Iterator[list[int]]:
    maps = marks(pin_dir, ifindex)
    try:
        yield maps
    finally:
        for fd in maps:
            os.close(fd)


def _attach_xdp(loaded: Loaded, pins: Pins, interface: Interface, mode: XdpModeSetting, done: Attachment) -> int:
    program = loaded.programs[XDP_PROGRAM]
    kept = _take_over(pins, "xdp", interface.ifindex, program)
    if kept is not None:
        done.mode = interface.xdp_mode
        return kept
    refusals = []
    for attempt in _ATTEMPTS[mode]:
        try:
            fd = libbpf.link_create(program, interface.ifindex, libbpf.XDP, dispatcher.FLAGS[attempt])
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise _foreign(interface) from error
            refusals.append(f"{attempt} mode: {os.strerror(error.errno or 0)}{_why(error.errno, interface)}")
            continue
        done.mode = attempt
        done.notes += [f"{interface.name}: {refusal}; running in generic mode" for refusal in refusals]
        pins.keep_link("xdp", interface.ifindex, fd)
        return fd
    raise DatapathError(
        f"cannot attach to {interface.name}: {', '.join(refusals)}", hint='try xdp_mode = "auto", or trafficctl doctor'
    )


def _why(number: int | None, interface: Interface) -> str:
    if number == errno.EOPNOTSUPP:
        return " by this driver"
    if number in (errno.EINVAL, errno.ERANGE) and interface.mtu > MAX_XDP_MTU:
        return f" (MTU {interface.mtu} may be too large for it)"
    return ""


def _take_over(pins: Pins, kind: str, ifindex: int, program: int) -> int | None:
    fd = pins.link(kind, ifindex)
    if fd is None:
        return None
    try:
        libbpf.link_update(fd, program)
    except OSError:
        os.close(fd)
        pins.drop_link(kind, ifindex)
        return None
    return fd


def _foreign(interface: Interface) -> ForeignProgramError:
    name = libbpf.program_name(interface.xdp_prog_id) if interface.xdp_prog_id else ""
    what = f'"{name}" (id {interface.xdp_prog_id})' if name else f"(id {interface.xdp_prog_id or 'unknown'})"
    if name == XDP_PROGRAM:
        hint = "another trafficmond has attached it: stop that one, or if it has ended: trafficmond --detach"
    else:
        hint = (
            f"detach it (ip link set dev {interface.name} xdp off), leave {interface.name} out of `interfaces`, or run "
            'beside it: xdp_share = "libxdp" in an [[interface]]'
        )
    return ForeignProgramError(f"{interface.name} already has an XDP program {what}", hint=hint)


def attach_egress(loaded: Loaded, pins: Pins, done: Attachment) -> None:
    """Watches outgoing packets too, if the kernel has a hook for that. Raises OSError."""
    program, ifindex = loaded.programs["tm_tc"], done.ifindex
    fd = _take_over(pins, "tcx", ifindex, program)
    if fd is None:
        try:
            fd = libbpf.link_create(program, ifindex, libbpf.TC_EGRESS_TCX)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            drop_filters(ifindex, (*LOOKERS, *NAMERS))  # leftovers of a killed daemon
            put_filter(ifindex, JUDGE, program)  # before Linux 6.6
            done.egress = EgressHook.CLSACT
            return
        pins.keep_link("tcx", ifindex, fd)
    done._links["tcx"] = fd
    done.egress = EgressHook.TCX


@dataclass(frozen=True, slots=True)
class Filter:
    """A place for a program before Linux 6.6: its side of a clsact qdisc, its mark (handle and priority), its name."""

    parent: int
    mark: int
    name: str


INGRESS_PARENT, EGRESS_PARENT = 0xFFFFFFF2, 0xFFFFFFF3
JUDGE = Filter(EGRESS_PARENT, 0x746D, "trafficmon")
# Programs that read DNS (names_seen.py) come after it: they end with the daemon, unless that was killed.
LOOKERS = tuple(Filter(parent, 0x746E, "trafficmon-dns") for parent in (INGRESS_PARENT, EGRESS_PARENT))
# The program that notes processes (processes_seen.py) comes before it, so that it sees dropped packets as well.
NAMERS = (Filter(EGRESS_PARENT, 0x746C, "trafficmon-process"),)
ALL_FILTERS = (JUDGE, *LOOKERS, *NAMERS)
_ETH_P_ALL = 0x0003
_GETTFILTER = 46  # RTM_GETTFILTER
_FILTER = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info


def put_filter(ifindex: int, place: Filter, program: int) -> None:
    """Puts our filter on a clsact qdisc; replacing it is atomic for the packets. Raises OSError."""
    with contextlib.suppress(OSError):  # another program's clsact works as well
        with_library(lambda netlink: netlink.tc("add", "clsact", index=ifindex))
    given = {"fd": program, "name": place.name, "classid": 1, "direct_action": True}
    with_library(lambda netlink: netlink.tc("replace-filter", "bpf", **given, **_at(ifindex, place)))


def has_filter(ifindex: int, place: Filter) -> bool:
    """Whether our filter is there: whoever deletes the clsact qdisc, or moves the interface to another network
    namespace, removes the filters with it. A link of TCX stays."""
    try:
        found = [*dump(socket.NETLINK_ROUTE, _GETTFILTER, _FILTER.pack(0, ifindex, 0, place.parent, 0))]
    except OSError:
        return True  # it cannot be known
    return any(_FILTER.unpack_from(each)[2] == place.mark for each in found)


def drop_filters(ifindex: int, places: Iterable[Filter]) -> None:
    """Removes the existing ones of these filters."""

    def drop(netlink: Any) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        for place in places:
            with contextlib.suppress(NetlinkError):  # there is none
                netlink.tc("del-filter", "bpf", **_at(ifindex, place))

    with contextlib.suppress(OSError):
        with_library(drop)


def _at(ifindex: int, place: Filter) -> dict[str, int]:
    return {
        **{"index": ifindex, "parent": place.parent, "prio": place.mark, "handle": place.mark},
        "protocol": _ETH_P_ALL,
    }
