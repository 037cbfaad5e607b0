"""Is each watched interface fit for XDP?"""

from __future__ import annotations

from collections.abc import Iterator

from trafficctl.doctor import nic
from trafficctl.doctor.finding import FAIL, OK, WARN, Finding
from trafficctl.doctor.host import Host
from trafficctl.doctor.nic import Nic
from trafficmond.config.checks import DEFAULT_ROUTE
from trafficmond.datapath.attach import MAX_XDP_MTU
from trafficmond.datapath.attachments import MAX_WATCHED
from trafficmond.datapath.interfaces import Selection, list_interfaces
from trafficmond.datapath.loader import XDP_PROGRAM
from trafficmond.errors import DatapathError


def examine(host: Host) -> Iterator[Finding]:
    """Every interface that the settings name."""
    try:
        present, selection = list_interfaces(), Selection.now(host.settings.interfaces)
    except DatapathError as error:
        yield Finding("interfaces", FAIL, str(error.args[0]), error.hint)
        return
    for pattern in host.settings.interfaces:
        if not Selection((pattern,), selection.routes).chosen(present):
            what = "no default route" if pattern == DEFAULT_ROUTE else f"no interface matches {pattern}"
            advice = f"set interfaces; there are {', '.join(each.name for each in present)}"
            yield Finding("interfaces", WARN, f"{what} now; one that appears will be attached", advice)
    wanted = selection.chosen(present)
    if len(wanted) > MAX_WATCHED:
        what = f"{len(wanted)} interfaces are chosen, {MAX_WATCHED} are the most: the others are not watched"
        yield Finding("interfaces", FAIL, what, "name fewer in `interfaces`")
    for each in nic.read(wanted):
        yield from judge(each, host.settings.xdp_mode)


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
    if each.xdp_program == XDP_PROGRAM:
        told = (
            " (slower)"
            if each.xdp_mode == "generic"
            else f" (until it is not, an MTU above {MAX_XDP_MTU} may be refused)"
        )
        yield Finding(name, OK, f"trafficmon is attached, {each.xdp_mode}{told}")
    elif not each.xdp_program:
        what = "an XDP program is attached; whose is not known"
        yield Finding(name, WARN, what, "run as root: sudo trafficctl doctor")
    else:
        what = f"another XDP program is attached: {each.xdp_program} ({each.xdp_mode})"
        advice = f"detach it (ip link set dev {each.name} xdp off) or leave this interface out of interfaces"
        yield Finding(name, FAIL, what, advice)


def _native(each: Nic, name: str, fallback: str) -> Iterator[Finding]:
    if each.native_xdp is False:
        what = f"its driver ({each.driver or 'virtual'}) has no native XDP: generic mode, several times slower a packet"
        yield Finding(name, fallback, what, 'use another card, or set xdp_mode = "skb" to silence this')
        return
    if each.native_xdp:
        yield Finding(name, OK, "its driver has native XDP")
    if each.mtu > MAX_XDP_MTU:
        what = f"MTU {each.mtu}: many drivers refuse native XDP above {MAX_XDP_MTU}"
        advice = f"lower it if status shows generic mode: ip link set {each.name} mtu {MAX_XDP_MTU}"
        yield Finding(name, fallback, what, advice)
    if each.lro:
        what = "large receive offload is on: many drivers refuse native XDP with it"
        yield Finding(name, fallback, what, f"turn it off: ethtool -K {each.name} lro off")
