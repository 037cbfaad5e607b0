"""Runs inside each kernel, as root, in a copy of the tree; writes one JSON object to standard output.

What the kernel has ("yes", a word, or "no: " and the reason) and what trafficmon does there ("ok", or what went wrong):
the live tests of tests/lab, shortened to what may differ between kernels.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lab")]

import sharing  # noqa: E402
from cgrouped import TREE, Services, waiting  # noqa: E402
from link_frames import PROVIDER, TAG, labelled, stacked, tagged  # noqa: E402
from tmlab import Daemon, DaemonFailed, Lab, LabError, Listener, Sender  # noqa: E402
from tmlab.packets import frame, tcp, udp, vxlan  # noqa: E402
from verified import verified  # noqa: E402
from wire import TUNNELS, UNKNOWN, Gauge, send_bulk  # noqa: E402

from trafficmond.datapath.attach import Attachment  # noqa: E402
from trafficmond.datapath.names_seen import Counts, NamesSeen  # noqa: E402
from trafficmond.errors import TrafficmonError  # noqa: E402

BAD, GOOD, BAD6, TRIED = "203.0.113.7", "198.51.100.7", "2001:db8:bad::7", "198.51.100.99"
LOADER = "bcc" if "trafficmon.loader=bcc" in Path("/proc/cmdline").read_text().split() else "libbpf"
SETTINGS = f"""\
loader = "{LOADER}"
on_stop = "keep"
[flows]
interval = "200ms"
capacity = 1024
[[log]]
format = "jsonl"
path = "{{home}}/traffic.jsonl"
"""
LINK_MODULES = {"8021q": "VLANs", "mpls_router": "MPLS", "pppoe": "PPPoE"}  # what each takes off
VLANS, VLAN, LABELS = {"802.1q": TAG, "802.1ad": PROVIDER}, 7, range(16, 20)
STACKS = 600  # of link headers
SOME = 300_000  # bytes, of which a machine that is not emulated would send more
SLOW = 240.0  # an emulated verifier, on a machine that does other work too
START = {"libbpf": SLOW, "bcc": 1000.0}


class Wrong(Exception):
    """Something came out otherwise than it must."""


def must(holds: bool, what: str, saw: object) -> None:
    """Raises Wrong unless it holds."""
    if not holds:
        raise Wrong(f"{what}; saw {saw}")


class Rig:
    """A lab with a daemon in it, an open port and strangers before it; a start takes seconds here, so all share one."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        self.lab, self.daemon, self.link = lab, daemon, lab.links[0]
        self.features: dict[str, str] = {}  # "yes", a word, or "no: " and the reason
        self.sender = Sender(lab.outside, self.link.outside)
        self._listeners = [Listener(lab.host, self.link.host_ip), Listener(lab.host, self.link.host_ip6)]

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call to the daemon."""
        with self.daemon.client() as client:
            return client.call(method, **parameters)

    def heard(self, source: str, packets: int = 5) -> int:
        """How many of `packets` from `source` reach the port."""
        target = self.link.host_ip6 if ":" in source else self.link.host_ip
        self.sender.send([udp(source, target, payload=b"hello")] * packets)
        return self.arrived()[source]

    def arrived(self) -> Counter[str]:
        """Packets at the port since the last time, by source."""
        time.sleep(0.3)
        return sum((listener.heard() for listener in self._listeners), start=Counter[str]())

    def accounting(self) -> dict[str, int]:
        """Packets of each account."""
        counts = self.daemon.status()["accounting"].items()
        by_name = ("malformed_by", "others")
        return {name: (count or {"packets": 0})["packets"] for name, count in counts if name not in by_name}


def features(on: Rig) -> None:
    """What the kernel offers and what of it the daemon came to use."""
    wanted = ("kernel BTF", "BPF JIT", "kernel options", "loader libbpf")
    doctor = on.daemon.control("-o", "json", "doctor", check=False, timeout=SLOW)
    found = on.features
    found |= {
        each["subject"]: "yes" if each["state"] == "ok" else f"no: {each['what']}"
        for each in json.loads(doctor.stdout)
        if each["subject"] in wanted
    }
    status = on.daemon.status()
    found["loader"] = status["loader"]
    found["XDP on veth"] = status["interfaces"][0]["mode"]
    found["egress by"] = "clsact" if _tc_filters(on) else "tcx"
    _verified(on)


def _verified(on: Rig, how: str = "") -> None:
    """How many instructions the verifier looked at, of each program."""
    for name, count in sorted(verified(on.daemon.pid).items()):
        on.features[f"verified in {name}{how}"] = f"{count:,}" if count else "no: told since Linux 5.16"


def _tc_filters(on: Rig) -> str:
    return str(on.lab.host.run("tc", "filter", "show", "dev", on.link.host, "egress").stdout)


def verdicts(on: Rig) -> None:
    """Rules of both families drop and let pass again."""
    must((on.heard(BAD), on.heard(BAD6)) == (5, 5), "all pass without rules", "fewer")
    on.ask("AddCidr", cidr="203.0.113.0/24", action="drop")
    on.ask("AddCidr", cidr="2001:db8:bad::/48", action="drop")
    heard = on.heard(BAD), on.heard(BAD6), on.heard(GOOD)
    must(heard == (0, 0, 5), "only the bad are dropped", heard)
    on.ask("RemoveCidr", cidr="203.0.113.0/24")
    must(on.heard(BAD) == 5, "passes again without the rule", "fewer")


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


def units(on: Rig) -> None:
    """What goes out is booked to the cgroup that sent it, to the packet; the kernel's own to the kernel."""
    outside, host = on.link.outside_ip, on.link.host_ip
    on.features["units"] = "yes" if TREE else "no: the kernel has no cgroup2"
    if not TREE:
        return
    with Services(on.lab) as services:
        services.run("one.service", "udp", outside, 6001, 3, timeout=SLOW)
        services.run("two.service", "udp", outside, 6002, 5, timeout=SLOW)
        with waiting(services, "web.service", "serve", host, 80, 1), on.lab.outside.entered():
            with socket.create_connection((host, 80), SLOW) as client:
                client.sendall(bytes(5000))
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            on.sender.send([tcp(outside, host, 7000, 81, 2)])  # SYN to where nobody waits: the kernel refuses it

        def of(port: int) -> list[tuple[str | None, int, int]]:
            rows = on.ask("Flows", port=port, group_by=["unit"])["rows"]
            return [(row["unit"], row["packets"], row["reply_packets"]) for row in rows]

        expected = {6001: [("one.service", 3, 0)], 6002: [("two.service", 5, 0)], 81: [("kernel", 1, 1)]}
        on.daemon.wait(lambda: of(81) and of(81)[0][2], "the refusal", SLOW)
        found = {port: of(port) for port in expected}
        must(found == expected, f"flows by unit as {expected}", found)
        must([row[0] for row in of(80)] == ["web.service"], "a connection that is the web server's", of(80))


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


def egress(on: Rig) -> None:
    """What the host answers is the other half of the same flow."""
    on.lab.outside.run("ping", "-q", "-c", "5", "-i", "0.2", on.link.host_ip, timeout=SLOW)
    on.daemon.stop(SLOW)
    rows = on.daemon.sql("SELECT sum(packets), sum(reply_packets) FROM flows WHERE protocol = 'ICMP'")
    on.daemon.start(SLOW)
    must(rows == [(5, 5)], "5 packets and 5 replies", rows)


def ledger(on: Rig) -> None:
    """4,000 flows of one packet in 1,024 slots: what is evicted is counted, the accounts add up to the packet."""
    before = on.accounting()
    frames = [udp(f"198.18.{n >> 8}.{n & 255}", on.link.host_ip, payload=bytes(n % 64)) for n in range(4000)]
    sent = on.sender.send(frames).packets
    on.daemon.wait(lambda: on.accounting()["seen"] >= before["seen"] + sent, f"{sent} packets more", SLOW)
    after = on.accounting()
    must(after["seen"] - before["seen"] <= sent + 50, f"{sent} packets and a few of the neighbours' own", after)
    parts = sum(after.get(name, 0) for name in ("in_flows", "unattributed", "not_ip", "malformed", "pending"))
    must(parts == after["seen"], "the accounts to add up to what was seen", after)


def restart(on: Rig) -> None:
    """Over a stop, a kill and two starts the filter stays, and every packet is counted."""
    on.ask("AddCidr", cidr="203.0.113.0/24", action="drop", save=True)
    before, sent = on.accounting()["seen"], 0
    for end in (on.daemon.stop, on.daemon.kill):
        for step in (end, lambda: on.daemon.start(SLOW)):
            step()
            must(on.heard(BAD, 50) == 0, "what is dropped stays dropped", "some passed")
            sent += 50
    counted = on.accounting()["seen"] - before
    must(sent <= counted <= sent + 100, f"{sent} packets counted and a few of the neighbours' own", counted)


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
    few = SOME // 1500 // 2  # of them would be whole packets
    must(len(handed_down) > 4 and max(handed_down.values()) < few, f"fewer than {few} super-packets each", handed_down)


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


def names_asked_for(on: Rig) -> None:
    """An answer of DNS to a question that went out names its address, another does not; nothing stays attached."""
    question = b"\3www\7example\0\0\1\0\1"
    answer = b"\0\7\x81\x80\0\1\0\1\0\0\0\0" + question + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(GOOD)
    link, filters = on.link, _tc_filters(on)
    with on.lab.host.entered(), contextlib.closing(NamesSeen(LOADER, on.daemon.pins)) as seen:
        ifindex = socket.if_nametoindex(link.host)
        attached = Attachment(ifindex, link.host, "native", "")
        seen.follow({ifindex: attached})
        must(not attached.notes, "attached", attached.notes)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind((link.host_ip, 5353))
            asking.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0" + question, (link.outside_ip, 53))
            for port in (5354, 5353):
                on.sender.send([udp(link.outside_ip, link.host_ip, 53, port, payload=answer)])
            rows: list[tuple[bytes, bytes]] = []
            deadline = time.monotonic() + SLOW
            while not rows and time.monotonic() < deadline:
                rows += [(bytes(row["address"])[12:], bytes(row["name"])) for row in seen.take()]
        must(rows == [(socket.inet_aton(GOOD), b"www.example")], "one name", rows)
        must(seen.counts() == Counts(answers=2, unasked=1), "two answers", seen.counts())
        seen.follow({})
    must(_tc_filters(on) == filters, "the filters as before", _tc_filters(on))


def look_inside(on: Rig) -> None:
    """With the setting on, what tunnels carry has columns of its own."""
    on.daemon.configure(SETTINGS.replace("[flows]\n", "[flows]\nlook_inside = true\n"))
    on.daemon.start(SLOW)
    _verified(on, ", looking inside")
    near, far = on.link.outside_ip, on.link.host_ip
    inside = udp("10.1.0.1", "10.1.0.2", 5000, 53, b"question")
    gre = [frame(near, far, 47, b"\x20\0\x65\x58\0\0\0\x07" + inside)] * 2
    on.sender.send([vxlan(near, far, 42, inside)] * 3 + gre)
    on.daemon.stop(SLOW)
    rows = on.daemon.sql(
        "SELECT tunnel, vni, inner_src_ip, inner_dst_ip, inner_src_port, inner_dst_port, inner_protocol, sum(packets) "
        "FROM flows WHERE tunnel IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
    )
    inner = ("10.1.0.1", "10.1.0.2", 5000, 53, "UDP")
    must(rows == [("gre", 7, *inner, 2), ("vxlan", 42, *inner, 3)], "what two tunnels carry", rows)


def beside(on: Rig) -> None:
    """Beside xdp-filter in a libxdp dispatcher, over restarts, an upgrade, and out of it again."""
    must(not sharing.lacking(), "xdp-tools in the image", sharing.lacking())
    shared = sharing.Sharing(on.lab, on.daemon, on.sender, SETTINGS, SLOW)
    refused = sharing.refused(shared)
    on.features["beside xdp-filter"] = f"no: {refused}" if refused else "yes"
    if refused:
        must("this kernel refuses trafficmon's program in a dispatcher" in refused, "the kernel as the reason", refused)
        shared.through("a restart", shared.start)
        return
    sharing.joined(shared)
    sharing.left(shared)


def detach(on: Rig) -> None:
    """The emergency exit, the daemon being dead, leaves nothing attached."""
    command = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "trafficmond", "-c", on.daemon.config, "--detach")
    on.lab.host.run(*command, timeout=SLOW)
    must("xdp" not in on.lab.host.link(on.link.host), "no XDP program", "one")
    must(not _tc_filters(on), "no TC program", _tc_filters(on))


CHECKS: tuple[Callable[[Rig], None], ...] = (
    services,
    verdicts,
    malformed,
    egress,
    units,
    shadow,
    link_headers,
    ledger,
    restart,
    established,
    tunnels,
    names_asked_for,
    ban_expiry,
    look_inside,
    detach,
    beside,
)


STARTING = {egress, restart, look_inside, beside}  # a daemon, which with bcc compiles


def attempt(check: Callable[[Rig], None], on: Rig) -> str:
    """ "ok", or what went wrong; the whole of it goes to the console."""
    began = time.monotonic()
    try:
        check(on)
    except (Wrong, LabError, AssertionError, TrafficmonError, OSError, LookupError, ValueError) as error:
        said = f"daemon: {on.daemon.process and on.daemon.process.poll()}\n{on.daemon.said()[-3000:]}"
        print(f"{check.__name__}: {type(error).__name__}: {error}\n{said}", file=sys.stderr, flush=True)
        return f"no: {check.__name__}: {next(iter(str(error).splitlines()), repr(error))}"
    print(f"{check.__name__}: ok, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return "ok"


def main() -> None:
    found: dict[str, str] = {}
    checks: dict[str, str] = {}
    with Lab() as lab:
        daemon = Daemon(lab, SETTINGS, environment={"PYTHONFAULTHANDLER": "1"})
        try:
            daemon.start(START[LOADER])
            on = Rig(lab, daemon)
            found = on.features
            checks["attach"] = attempt(features, on)
            checks |= {
                check.__name__.replace("_", " "): attempt(check, on)
                for check in CHECKS
                if LOADER == "libbpf" or check not in STARTING
            }
        except DaemonFailed as failure:
            print(failure, file=sys.stderr, flush=True)
            checks["attach"] = f"no: {str(failure).strip().splitlines()[-1]}"
        finally:
            daemon.remove()
    json.dump({"release": os.uname().release, "features": found, "checks": checks}, sys.stdout)


if __name__ == "__main__":
    main()
