"""Is each watched interface fit for XDP?"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

from trafficctl.doctor import nic
from trafficctl.doctor.finding import FAIL, OK, WARN, Finding
from trafficctl.doctor.host import Host
from trafficctl.doctor.nic import Nic
from trafficmond.config.settings import DEFAULT_ROUTE

OWN_PROGRAM = "tm_xdp"
# A page less XDP headroom and skb_shared_info: what one buffer holds. Drivers with multi-buffer XDP take more.
_ONE_BUFFER_MTU = 3498


def examine(host: Host) -> Iterator[Finding]:
    """Every interface that the settings name."""
    present, default = nic.names(), nic.default_route_interfaces()
    for pattern in host.settings.interfaces:
        if not list(matching([pattern], present, default)):
            what = "no default route" if pattern == DEFAULT_ROUTE else f"no interface matches {pattern}"
            advice = f"set interfaces; there are {', '.join(present)}"
            yield Finding("interfaces", WARN, f"{what} now; one that appears will be attached", advice)
    for each in nic.read(matching(host.settings.interfaces, present, default)):
        yield from judge(each, host.settings.xdp_mode)


def matching(patterns: Iterable[str], present: list[str], default: list[str]) -> Iterator[str]:
    """The interfaces that the settings mean: names, globs, /regexes/ or default-route; lo only by its name."""
    wanted = list(patterns)
    for name in present:
        for pattern in wanted:
            if pattern == DEFAULT_ROUTE:
                hit = name in default
            elif pattern.startswith("/"):
                hit = name != "lo" and re.search(pattern[1:-1], name) is not None
            else:
                hit = name == pattern or (name != "lo" and fnmatch.fnmatchcase(name, pattern))
            if hit:
                yield name
                break


def judge(each: Nic, mode: str) -> Iterator[Finding]:
    """What may trouble XDP on one interface, `mode` being the setting xdp_mode."""
    name = f"interface {each.name}"
    fallback = FAIL if mode == "native" else WARN
    state = "" if each.up else ", down"
    yield Finding(name, OK, f"{each.driver or 'virtual'}, MTU {each.mtu}{state}")
    yield from _program(each, name)
    if mode != "skb":
        yield from _native(each, name, fallback)
    if each.rx_vlan_offload:
        advice = f"to see VLAN ids: ethtool -K {each.name} rxvlan off"
        yield Finding(name, OK, "takes VLAN tags off in hardware, before XDP: flows have no VLAN id", advice)


def _program(each: Nic, name: str) -> Iterator[Finding]:
    if each.xdp_mode is None:
        return
    if each.xdp_program == OWN_PROGRAM:
        slow = " (slower)" if each.xdp_mode == "generic" else ""
        yield Finding(name, OK, f"trafficmon is attached, {each.xdp_mode}{slow}")
    elif not each.xdp_program:
        what = "an XDP program is attached; whose cannot be told"
        yield Finding(name, WARN, what, "run as root: sudo trafficctl doctor")
    else:
        what = f"another XDP program is attached: {each.xdp_program} ({each.xdp_mode})"
        advice = f"detach it (ip link set dev {each.name} xdp off) or leave this interface out of interfaces"
        yield Finding(name, FAIL, what, advice)


def _native(each: Nic, name: str, fallback: str) -> Iterator[Finding]:
    if each.native_xdp is False:
        what = f"its driver ({each.driver or 'virtual'}) has no native XDP: generic mode, several times slower a packet"
        yield Finding(name, fallback, what, 'use another card, or set xdp_mode = "skb" and be at peace')
        return
    if each.native_xdp:
        yield Finding(name, OK, "its driver has native XDP")
    if each.mtu > _ONE_BUFFER_MTU:
        what = f"MTU {each.mtu}: many drivers refuse native XDP above {_ONE_BUFFER_MTU}"
        yield Finding(name, fallback, what, f"lower it if status shows generic mode: ip link set {each.name} mtu 3498")
    if each.lro:
        what = "large receive offload is on: many drivers refuse native XDP with it"
        yield Finding(name, fallback, what, f"turn it off: ethtool -K {each.name} lro off")
