"""Checks of what is judged, in an emulated kernel: rules, services, shadows, link headers, tunnels, replies, bans."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

from every_packet import judge
from kernel_rig import BAD, BAD6, GOOD, LOADER, SETTINGS, SLOW, TRIED, Rig, must
from link_frames import PROVIDER, TAG, labelled, stacked, tagged
from tmlab import LabError, Listener
from tmlab.packets import tcp, udp
from wire import TUNNELS, UNKNOWN, Gauge, send_bulk

LINK_MODULES = {"8021q": "VLANs", "mpls_router": "MPLS", "pppoe": "PPPoE"}  # what each takes off
VLANS, VLAN, LABELS = {"802.1q": TAG, "802.1ad": PROVIDER}, 7, range(16, 20)
STACKS = 600  # of link headers
SOME = 300_000  # bytes, of which a machine that is not emulated would send more


def verdicts(on: Rig) -> None:
    """Rules of both families drop and let pass again."""
    must((on.heard(BAD), on.heard(BAD6)) == (5, 5), "all pass without rules", "fewer")
    on.ask("AddCidr", cidr="203.0.113.0/24", action="drop")
    on.ask("AddCidr", cidr="2001:db8:bad::/48", action="drop")
    heard = on.heard(BAD), on.heard(BAD6), on.heard(GOOD)
    must(heard == (0, 0, 5), "only the bad are dropped", heard)
    for cidr in ("203.0.113.0/24", "2001:db8:bad::/48"):
        on.ask("RemoveCidr", cidr=cidr)
    must((on.heard(BAD), on.heard(BAD6)) == (5, 5), "all pass again without the rules", "fewer")


def services(on: Rig) -> None:
    """A rule is for the services that it names; for others the next one decides, of both families."""
    for cidr, ports, action, expected in (
        ("203.0.113.0/24", ["udp/9", "icmp"], "drop", (0, 5)),
        ("2001:db8:bad::/48", ["tcp/9", "icmpv6/128"], "drop", (0, 5)),
        ("2001:db8::/32", ["udp/1-9"], "drop", (0, 0)),
        (BAD, ["udp/10-65535"], "allow", (0, 0)),
        (BAD, ["9"], "allow", (5, 0)),
    ):
        on.ask("AddCidr", cidr=cidr, ports=ports, action=action)
        heard = on.heard(BAD), on.heard(BAD6)
        must(heard == expected, f"{expected} heard with {action} {' '.join(ports)} on {cidr}", heard)
    for cidr in ("203.0.113.0/24", "2001:db8:bad::/48", "2001:db8::/32", BAD):
        on.ask("RemoveCidr", cidr=cidr)
    must((on.heard(BAD), on.heard(BAD6)) == (5, 5), "all pass without rules", "fewer")


def every_packet(_: Rig) -> None:
    """Random packets are judged as the words of random rules say."""
    judge(LOADER, 50_000)


def shadow(on: Rig) -> None:
    """A rule to drop that is in shadow drops nothing, and says what it would have dropped."""
    added = [
        on.ask("AddCidr", cidr=cidr, action="drop", shadow=True, ports=["udp/9"], label=f"shadow of {cidr}")["rule"]
        for cidr in ("203.0.113.0/24", "2001:db8:bad::/48")
    ]
    dropped = on.accounting()["dropped"]
    for source, packets in ((BAD, 4), (BAD6, 6)):
        must(on.heard(source, packets) == packets, "all pass under a rule in shadow", "fewer")
    on.sender.send([udp(BAD, on.link.host_ip, dport=10)] * 3)  # for another service: none of the rule's business

    def counted() -> list[tuple[int, int]]:
        rules = {rule["label"]: rule for rule in on.ask("Rules")["rules"]}
        found = [rules[rule["label"]] for rule in added]
        return [(rule["packets"], rule["would_drop"]["packets"]) for rule in found]

    on.daemon.wait(lambda: counted() == [(4, 4), (6, 6)], "4 and 6 packets booked both ways", SLOW)
    must(on.accounting()["dropped"] == dropped, "nothing dropped", on.accounting())
    for rule in added:
        on.ask("RemoveCidr", cidr=rule["cidr"])


def link_headers(on: Rig) -> None:
    """Behind headers that this kernel takes off, and hundreds of stacks: what reaches a socket was judged."""
    here, dice = (on.link.host_ip, on.link.host_ip6), random.Random(1)
    has = {module: Path("/sys/module", module).exists() for module in LINK_MODULES}
    for module, what in LINK_MODULES.items():
        on.features[f"takes off {what}"] = "yes" if has[module] else f"no: the kernel's package has no module {module}"
    knocks = [udp(stranger, address) for stranger, address in zip((BAD, BAD6), here, strict=True)]
    surely = list(knocks)
    vlans = VLANS if has["8021q"] else {}
    for protocol, tag in vlans.items():
        on.lab.host.ip(f"link add link {on.link.host} name v{protocol} up type vlan proto {protocol} id {VLAN}")
        surely += [tagged(knock, (tag, VLAN), (TAG, 0)) for knock in knocks]
    if has["mpls_router"]:
        on.lab.host.sysctl(mpls__platform_labels=LABELS[-1] + 1)
        with on.lab.host.entered():
            for folder in Path("/proc/sys/net/mpls/conf").iterdir():
                (folder / "input").write_text("1")
        for label in LABELS:
            on.lab.host.run("ip", "-f", "mpls", "route", "add", str(label), "dev", "lo")
        surely += [labelled(knock, *LABELS) for knock in knocks]
    frames = surely + [stacked(dice, knocks, [VLAN] * 3, LABELS) for _ in range(STACKS)]

    def heard(sent: list[bytes]) -> int:
        on.sender.send(sent)
        return on.arrived().total()

    try:
        must((got := heard(surely)) == len(surely), f"all {len(surely)} that the kernel takes headers off", got)
        before = on.accounting()["in_flows"]
        reached = heard(frames)
        must(reached > len(surely) + STACKS // 12, "some of the stacks to reach a socket", reached)
        on.daemon.wait(lambda: on.accounting()["in_flows"] >= before + reached, f"{reached} in flows", SLOW)
        on.daemon.configure(SETTINGS + '[policy]\ndefault = "drop"\n')
        on.ask("Reload")
        must((got := heard(frames)) == 0, "nothing to reach a socket under a default of drop", got)
    finally:
        for protocol in vlans:
            on.lab.host.ip(f"link del v{protocol}")
        on.daemon.configure(SETTINGS)
        on.ask("Reload")
    on.features["link stacks judged"] = f"{reached} of {len(frames)}"


def malformed(on: Rig) -> None:
    """Frames that lie about their lengths are counted, and nothing else happens."""
    before = on.accounting()["malformed"]
    on.sender.send([tcp(GOOD, on.link.host_ip, 1, 2, 2)[:40]] * 3)
    on.daemon.wait(lambda: on.accounting()["malformed"] == before + 3, "3 malformed", SLOW)


def established(on: Rig) -> None:
    """Under a default of drop, replies to what the host opened pass, and strangers do not."""
    on.daemon.configure(SETTINGS + '[policy]\ndefault = "drop"\n')
    on.ask("Reload")
    must(on.heard(GOOD) == 0, "a stranger dropped", "passed")
    with on.lab.host.entered():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking, Listener(on.lab.outside, on.link.outside_ip, 5353) as outside:
        asking.settimeout(5)
        asking.sendto(b"question", (on.link.outside_ip, 5353))
        time.sleep(0.3)
        must(outside.payloads() == [b"question"], "the question to arrive", "nothing")
        port = asking.getsockname()[1]
        on.sender.send([udp(on.link.outside_ip, on.link.host_ip, 5353, port, b"answer")])
        must(asking.recv(100) == b"answer", "the answer to pass", "another")
    on.daemon.configure(SETTINGS)
    on.ask("Reload")


def tunnels(on: Rig) -> None:
    """Super-packets that go out through a tunnel of each kind are booked as the far end receives them."""
    for namespace, name in ((on.lab.host, on.link.host), (on.lab.outside, on.link.outside)):
        namespace.run("ethtool", "-K", name, "rx", "on", "tx", "on", "sg", "on", "gso", "on", "tso", "off")
    gauge, wrong, handed_down = Gauge(on.lab, on.daemon), [], {}
    for kind in TUNNELS:
        try:
            with gauge.tunnel(kind) as there:
                wrong += gauge.difference(kind, lambda lab, to: send_bulk(lab, to, SOME), there[-1], SOME)
                handed_down[kind] = gauge.handed_down()
        except LabError as error:
            if UNKNOWN not in str(error):
                raise
    must(not wrong, "what is booked to be what is on the wire", wrong)
    whole = SOME // 1500  # there would be more than so many if each went out alone
    must(len(handed_down) > 4, "tunnels of five kinds and more", handed_down)
    must(max(handed_down.values()) < whole, f"super-packets, fewer than {whole} each", handed_down)


def ban_expiry(on: Rig) -> None:
    """A ban and a rule on probation end on time though the daemon is dead."""
    on.ask("AddCidr", cidr=TRIED, confirm_within_s=10)
    on.ask("Ban", cidr=GOOD, ttl_s=10)
    banned = time.monotonic()
    must(on.heard(GOOD) == on.heard(TRIED) == 0, "both dropped", "passed")
    on.daemon.kill()
    heard, killed = on.heard(GOOD) + on.heard(TRIED), time.monotonic() - banned
    must(heard == 0 and killed < 9, "both dropped without a daemon", f"{heard} passed after {killed:.1f} s")
    time.sleep(max(0.0, banned + 11.5 - time.monotonic()))
    must(on.heard(GOOD) == 5, "the ban to end without a daemon", "still dropped")
    must(on.heard(TRIED) == 5, "the probation to end without a daemon", "still dropped")
