"""What goes out: super-packets counted as the segments that the far end's interface sees, by tcx and by clsact."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from tmlab import Daemon, Flood, Lab, LabError, Listener, Namespace
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import checksum, udp, vxlan
from wire import BULK, TUNNELS, UNKNOWN, Gauge, minus, send_bulk

from trafficmond import abi

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SETTINGS = """
on_stop = "keep"
[flows]
interval = "200ms"
capacity = 4096
"""
TAG = ROOT / "build" / "tests" / "tag.bpf.o"
UDP_SEGMENT = 103  # linux/udp.h
# The daemon as it is, where the kernel has no tcx: there the creation of the link is refused with EINVAL.
WITHOUT_TCX = """
import errno, sys
from trafficmond.datapath import libbpf
create = libbpf.link_create
def refuse(program, ifindex, attach_type, flags=0):
    if attach_type in (libbpf.TC_INGRESS_TCX, libbpf.TC_EGRESS_TCX):
        raise OSError(errno.EINVAL, "Invalid argument")
    return create(program, ifindex, attach_type, flags)
libbpf.link_create = refuse
from trafficmond.__main__ import main
sys.exit(main())
"""


class Wire(Gauge):
    """A link whose sender hands over super-packets that the device below cuts up, so that single ones arrive."""

    def __init__(self, lab: Lab, how: str) -> None:
        self.how, link = how, lab.links[0]
        lab.host.run("ethtool", "-K", link.host, "tso", "off", "tx-udp-segmentation", "off", "txvlan", "off")
        lab.outside.run("ethtool", "-K", link.outside, "gro", "off")
        super().__init__(lab, self.another(lab))

    def another(self, lab: Lab, settings: str = SETTINGS) -> Daemon:
        """A daemon on a kernel with or without tcx."""
        if self.how == "tcx":
            return Daemon(lab, settings)
        instead = f'shift 3; exec {PYTHON} -c "$WITHOUT_TCX" "$@"'  # of python3 -m trafficmond
        return Daemon(lab, settings, prefix=["sh", "-c", instead, "sh"], environment={"WITHOUT_TCX": WITHOUT_TCX})

    def filters(self) -> int:
        """How many of our clsact filters hang on the host's end."""
        shown = self.lab.host.run("tc", "filter", "show", "dev", self.link.host, "egress").stdout
        return shown.count("trafficmon direct-action")

    def links(self) -> int:
        return len(list((self.daemon.pins / "links").glob("tcx-*")))


@pytest.fixture(params=["tcx", "clsact"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with Lab(offloads=True) as lab:
        made = Wire(lab, str(request.param))
        with made.daemon:
            assert (made.filters(), made.links()) == ((0, 1) if made.how == "tcx" else (1, 0))
            yield made


def send_segmented_udp(lab: Lab, there: str, datagram: bytes = bytes(1200), port: int = 9) -> None:
    """50 datagrams in one call (UDP_SEGMENT of udp(7))."""
    with lab.host.entered():
        sender = socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(datagram))
        sender.sendto(datagram * 50, (there, port))


def send_segmented_tunnel(lab: Lab, there: str) -> None:
    """What a tunnel program sends: 50 whole packets of VXLAN in one call, which are cut up between them."""
    inside = vxlan(there, there, 42, udp("10.42.0.1", "10.42.0.2", payload=bytes(1150)))
    send_segmented_udp(lab, there, inside[42:], 4789)


def forward_uncounted(lab: Lab, there: str) -> None:
    """A super-packet as a guest hands it over, through a tun: how many segments it is, nobody has counted yet."""
    lab.host.sysctl(ipv4__ip_forward=1)
    with lab.host.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tmlabt", 0x0001 | 0x1000 | 0x4000))
    try:
        lab.host.ip("link set tmlabt up", "addr add 10.98.0.1/24 dev tmlabt")
        payload = bytes(6000)
        segment = struct.pack("!HHIIBBHHH", 4000, 9, 1, 0, 5 << 4, 16, 65535, 0, 0)
        src, dst = socket.inet_aton("10.98.0.2"), socket.inet_aton(there)
        pseudo = src + dst + struct.pack("!HH", 6, len(segment) + len(payload))
        partial = ~checksum(pseudo) & 0xFFFF
        segment = segment[:16] + struct.pack("!H", partial) + segment[18:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 1, 0x4000, 64, 6, 0) + src + dst
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        needs_checksum, gso_tcp4 = 1, 1
        virtio = struct.pack("<BBHHHH", needs_checksum, gso_tcp4, 40, 1448, 20, 16)
        os.write(tun, virtio + head + segment + payload)
        time.sleep(0.2)
    finally:
        os.close(tun)


def test_super_packets_are_booked_as_the_wire_shows_them(wire: Wire) -> None:
    lab, link = wire.lab, wire.link
    lab.host.run("ping", "-c", "1", link.outside_ip)
    wrong = []
    for what, send, there, least in (
        ("TCP", send_bulk, link.outside_ip, BULK),
        ("TCP over IPv6", send_bulk, link.outside_ip6, BULK),
        ("UDP", send_segmented_udp, link.outside_ip, 60_000),
        ("UDP over IPv6", send_segmented_udp, link.outside_ip6, 60_000),
        ("a guest's", forward_uncounted, link.outside_ip, 6000 + 5 * 54),
    ):
        wrong += wire.difference(what, send, there, least)
    assert wrong == []
    assert wire.longest() > 1518, "no super-packet was seen: nothing was proven"
    wire.daemon.stop()
    (sums,) = wire.daemon.sql(
        f"SELECT sum(packets), sum(bytes) FROM flows WHERE dst_ip = '{link.outside_ip}' AND dst_port = 5001"
    )
    assert sums[1] > BULK * 1514 / 1448
    assert sums[1] / sums[0] <= 1514


@pytest.mark.parametrize("wire", ["clsact"], indirect=True)  # as is what tags the packets; tcx comes before it
def test_super_packets_of_a_vlan_carry_a_tag_each(wire: Wire) -> None:
    """The tag still travels beside the buffer when the data path sees it, once, and is on the wire in each segment."""
    lab, link = wire.lab, wire.link
    lab.host.run("ping", "-c", "1", link.outside_ip)
    lab.host.run("tc", "filter", "add", "dev", link.host, "egress", "prio", "1", "bpf", "da", "obj", TAG, "sec", "tc")
    assert wire.difference("UDP in a VLAN", send_segmented_udp, link.outside_ip, 50 * (14 + 4 + 20 + 8 + 1200)) == []
    slots = wire.pinned("tm_sets", abi.FLOW)
    assert int(slots["packets"][(slots["key"]["vlan"] == 5) & (slots["key"]["dport"] == 9)].sum()) == 50


def super_packets(wire: Wire, kind: str) -> list[str]:
    """Sends some through a tunnel of this kind, and finds no difference; where to."""
    try:
        with wire.tunnel(kind) as there:
            wrong = wire.difference("UDP", send_segmented_udp, there[0], 60_000)
            for address in there:
                wrong += wire.difference(f"TCP to {address}", send_bulk, address, BULK)
            if kind == "vxlan":
                wrong += wire.difference("whole packets", send_segmented_tunnel, wire.link.outside_ip, 50 * 1200)
    except LabError as error:
        if UNKNOWN not in str(error):
            raise
        pytest.skip(f"this kernel has no {kind} devices; those that make test-kernels boots have")
    assert wrong == []
    assert wire.longest() > 1518, "no super-packet was seen: nothing was proven"
    return there


@pytest.mark.parametrize("kind", TUNNELS)
def test_super_packets_in_a_tunnel_repeat_both_headers(wire: Wire, kind: str) -> None:
    """The tunnel hands down super-packets of its own; below they are cut up, with what is around them on each."""
    super_packets(wire, kind)


def test_super_packets_that_are_looked_into_are_no_others(wire: Wire) -> None:
    wire.daemon.stop()
    wire.daemon.configure(SETTINGS.replace("[flows]\n", "[flows]\nlook_inside = true\n"))
    wire.daemon.start()
    wire.daemon.wait(lambda: len(list(wire.daemon.pins.glob("maps-*"))) == 1, "the old ledger to be taken over")
    there = super_packets(wire, "vxlan")
    wire.daemon.stop()
    rows = wire.daemon.sql(
        "SELECT vni, inner_dst_ip, inner_dst_port, sum(bytes) > 5e6 FROM flows "
        "WHERE tunnel = 'vxlan' AND inner_protocol = 'TCP' AND direction = 'egress' GROUP BY 1, 2, 3 ORDER BY 1, 2"
    )
    assert rows == [(42, address, 5001, 1) for address in there]


def test_a_rule_of_egress_drops_and_a_restart_takes_over(wire: Wire) -> None:
    lab, daemon, link = wire.lab, wire.daemon, wire.link

    def gets_out() -> int:
        with Listener(lab.outside, link.outside_ip) as listener:
            for _ in range(3):
                lab.host.run(
                    PYTHON, "-c",
                    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                    f"s.sendto(b'out', ('{link.outside_ip}', 9))",
                    check=False,
                )  # fmt: skip
            return listener.heard().total()

    assert gets_out() == 3
    daemon.control("add-cidr", link.outside_ip, "--action", "drop", "--direction", "egress", "--save")
    assert gets_out() == 0
    before = wire.booked()
    for end in (daemon.kill, daemon.stop):
        end()
        assert gets_out() == 0, "the egress filter went with the daemon"
        daemon.start()
        assert (wire.filters(), wire.links()) == ((0, 1) if wire.how == "tcx" else (1, 0))
        assert gets_out() == 0
    assert minus(wire.booked(), before)[0] >= 12, "what was dropped on its way out was counted all the time"
    daemon.control("remove-cidr", link.outside_ip, "--save")
    assert gets_out() == 3


@pytest.mark.parametrize("wire", ["clsact"], indirect=True)  # a link of tcx cannot be removed by others
def test_a_filter_that_others_remove_is_put_back(wire: Wire) -> None:
    lab, daemon, link = wire.lab, wire.daemon, wire.link
    daemon.stop()
    daemon.configure(SETTINGS.replace("[flows]\n", "[flows]\ndns_names = true\n"))
    daemon.start()
    daemon.control("add-cidr", link.outside_ip, "--action", "drop", "--direction", "egress")

    def names() -> int:
        return lab.host.run("tc", "filter", "show", "dev", link.host, "egress").stdout.count("trafficmon-dns direct")

    def back(what: str) -> None:
        daemon.wait(lambda: (wire.filters(), names()) == (1, 1), f"the filters to be back after {what}")

    def removed() -> int:
        return daemon.said().count("the filter of its outgoing traffic was removed")

    back("the start")
    lab.host.run("tc", "qdisc", "del", "dev", link.host, "clsact")
    back("their qdisc was deleted")
    assert lab.host.run("ping", "-c", "1", "-W", "0.2", link.outside_ip, check=False).returncode != 0
    lab.host.run("tc", "filter", "del", "dev", link.host, "egress", "prio", str(0x746D))
    back("one was deleted alone")
    daemon.wait(lambda: removed() == 2, "both to be said")
    elsewhere = Namespace(f"{lab.name}-third")  # no interface there has the number of this one
    lab.host.run("ip", "netns", "add", elsewhere.name)
    try:
        lab.host.ip(f"link set {link.host} netns {elsewhere}")
        daemon.wait_status(lambda s: "another network namespace" in str(s["warnings"]), "the move to be said")
        elsewhere.ip(f"link set {link.host} netns {lab.host}")
        back("their interface was in another network namespace")
    finally:
        lab.host.run("ip", "netns", "del", elsewhere.name)
    assert removed() == 3


def test_a_stop_that_detaches_leaves_nothing(wire: Wire) -> None:
    daemon = wire.daemon
    daemon.configure(SETTINGS.replace("keep", "detach"))
    daemon.kill()
    daemon.start()
    daemon.stop()
    assert wire.filters() == 0
    assert not list(daemon.pins.iterdir())
    # And the emergency exit ends what a killed daemon left.
    daemon.start()
    daemon.kill()
    wire.lab.host.run("env", f"PYTHONPATH={ROOT}", PYTHON, "-m", "trafficmond", "-c", daemon.config, "--detach")
    assert wire.filters() == 0
    assert not list(daemon.pins.iterdir())


def test_egress_can_be_off(wire: Wire) -> None:
    daemon = wire.daemon
    daemon.stop()
    daemon.configure("egress = false\n" + SETTINGS)
    daemon.start()
    assert (wire.filters(), wire.links()) == (0, 0), "what the last daemon attached to egress is let go"
    before = wire.booked()
    wire.lab.host.run("ping", "-c", "2", "-i", "0.1", wire.link.outside_ip)
    assert wire.booked() == before


def test_both_ways_at_once_are_counted_without_loss(wire: Wire) -> None:
    """A flood comes in while a transfer goes out: each direction's account is its own."""
    with Flood(wire.lab, wire.link, "198.18.0.0/20") as flood:
        before = wire.received(), wire.booked()
        flood.start(pause_s=0.01)
        send_bulk(wire.lab, wire.link.outside_ip)
        sent = flood.stop()
        time.sleep(0.3)
        assert minus(wire.booked(), before[1]) == minus(wire.received(), before[0])
        status = wire.daemon.wait_status(
            lambda s: s["accounting"]["seen"]["packets"] >= sent + wire.booked()[0], "all packets"
        )
        assert status["accounting"]["pending"]["packets"] == 0
