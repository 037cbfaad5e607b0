"""Examines whether each selected interface supports XDP."""

from collections.abc import Iterator

from trafficctl.doctor import nic
from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host
from trafficctl.doctor.nic import Nic
from trafficmond.config.checks import DEFAULT_ROUTE
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.datapath import libxdp, share
from trafficmond.datapath.attach import MAX_XDP_MTU
from trafficmond.datapath.attachments import MAX_WATCHED
from trafficmond.datapath.dispatcher import DISPATCHER
from trafficmond.datapath.interfaces import Selection, list_interfaces
from trafficmond.datapath.loader import XDP_PROGRAM
from trafficmond.errors import DatapathError
from trafficmond.part_options import shared_interfaces


def examine(host: Host) -> Iterator[Finding]:
    try:
        present, selection = list_interfaces(), Selection.now(host.settings.interfaces)
    except DatapathError as error:
        yield Finding("interfaces", FAIL, str(error.args[0]), error.hint)
        return
    for pattern in host.settings.interfaces:
        if not Selection((pattern,), selection.routes).chosen(present):
            what = "no default route" if pattern == DEFAULT_ROUTE else f"no interface matches {pattern}"
            advice = f"set interfaces; this host has {', '.join(each.name for each in present)}"
            yield Finding("interfaces", WARN, f"{what} at the moment; one that appears will be watched", advice)
    wanted = selection.chosen(present)
    if len(wanted) > MAX_WATCHED:
        what = f"{len(wanted)} interfaces are selected, but at most {MAX_WATCHED} can be watched: the others are not"
        yield Finding("interfaces", FAIL, what, "select fewer interfaces with the setting `interfaces`")
    shared = [each.name for each in Selection(shared_interfaces(host.settings)).chosen(wanted)]
    if shared:
        yield from _sharing(host.settings)
    for each in nic.read(wanted):
        yield from judge(each, host.settings.xdp_mode, each.name in shared)


def _sharing(settings: Settings) -> Iterator[Finding]:
    try:
        libxdp.library()
    except DatapathError as error:
        yield Finding("xdp_share", FAIL, str(error.args[0]), error.hint)
        return
    yield Finding("xdp_share", OK, "libxdp is installed")
    if settings.source == CONFIG_FILE and not share.SOCKET.exists():
        what = "the service cannot join other XDP programs: trafficmon-share.socket is not running"
        yield Finding("xdp_share", FAIL, what, "systemctl enable --now trafficmon-share.socket")


def judge(each: Nic, mode: str, shared: bool = False) -> Iterator[Finding]:
    """Findings about one interface; `mode` is the setting xdp_mode, `shared` whether xdp_share is set."""
    name = f"interface {each.name}"
    fallback = FAIL if mode == "native" else WARN
    state = "" if each.up else ", down"
    yield Finding(name, OK, f"{each.driver or 'virtual'}, MTU {each.mtu}{state}")
    yield from _program(each, name, shared)
    if mode != "skb":
        yield from _native(each, name, fallback)
    if each.rx_vlan_offload and each.driver == "veth":
        advice = "to record VLAN IDs: ethtool -K PEER txvlan off, at the other end of the pair"
        yield Finding(name, OK, "gets VLAN tags beside the packet, not in it: flows have no VLAN ID", advice)
    elif each.rx_vlan_offload:
        advice = f"to record VLAN IDs: ethtool -K {each.name} rxvlan off"
        yield Finding(name, OK, "removes VLAN tags in hardware, before XDP: flows have no VLAN ID", advice)


def _program(each: Nic, name: str, shared: bool) -> Iterator[Finding]:
    if each.xdp_mode is None:
        return
    if XDP_PROGRAM in (program.partition(" ")[2] for program in each.xdp_chain):
        what = f"trafficmon is attached, {each.xdp_mode}, shared through libxdp: {', '.join(each.xdp_chain)}"
        yield Finding(name, OK, what)
    elif each.xdp_program == DISPATCHER and shared:
        what = f"a dispatcher of libxdp is attached, which trafficmon joins: {', '.join(each.xdp_chain)}"
        yield Finding(name, OK, what)
    elif each.xdp_program == XDP_PROGRAM:
        refuses = f"while it is attached, the driver may refuse an MTU above {MAX_XDP_MTU}"
        remark = "slower" if each.xdp_mode == "generic" else refuses
        yield Finding(name, OK, f"trafficmon is attached, {each.xdp_mode} ({remark})")
    elif not each.xdp_program:
        what = "an XDP program is attached; its owner is unknown"
        yield Finding(name, WARN, what, "run as root: sudo trafficctl doctor")
    else:
        what = f"another XDP program is attached: {each.xdp_program} ({each.xdp_mode})"
        advice = (
            f"detach it (ip link set dev {each.name} xdp off), leave it out of `interfaces`, or run beside it: "
            'xdp_share = "libxdp" in an [[interface]]'
        )
        yield Finding(name, FAIL, what, advice)


def _native(each: Nic, name: str, fallback: str) -> Iterator[Finding]:
    if each.native_xdp is False:
        what = f"its driver ({each.driver or 'virtual'}) has no native XDP; generic mode takes several times more CPU"
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
