"""Runs inside each kernel, as root, in a copy of the tree; writes one JSON object to standard output.

What the kernel has ("yes", a word, or "no: " and the reason) and what trafficmon does there ("ok", or what went wrong):
the live tests of tests/lab, shortened to what may differ between kernels.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lab")]

from tmlab import Daemon, DaemonFailed, Lab, LabError, Listener, Sender  # noqa: E402
from tmlab.packets import frame, tcp, udp, vxlan  # noqa: E402
from wire import TUNNELS, UNKNOWN, Gauge, send_bulk  # noqa: E402

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
        time.sleep(0.3)
        return sum(listener.heard()[source] for listener in self._listeners)

    def accounting(self) -> dict[str, int]:
        """Packets of each account."""
        counts = self.daemon.status()["accounting"].items()
        by_name = ("malformed_by", "others")
        return {name: (count or {"packets": 0})["packets"] for name, count in counts if name not in by_name}


def features(on: Rig) -> dict[str, str]:
    """What the kernel offers and what of it the daemon came to use."""
    wanted = ("kernel BTF", "BPF JIT", "kernel options", "loader libbpf")
    doctor = on.daemon.control("-o", "json", "doctor", check=False, timeout=SLOW)
    found = {
        each["subject"]: "yes" if each["state"] == "ok" else f"no: {each['what']}"
        for each in json.loads(doctor.stdout)
        if each["subject"] in wanted
    }
    status = on.daemon.status()
    found["loader"] = status["loader"]
    found["XDP on veth"] = status["interfaces"][0]["mode"]
    found["egress by"] = "clsact" if _tc_filters(on) else "tcx"
    return found


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


def look_inside(on: Rig) -> None:
    """With the setting on, what tunnels carry has columns of its own."""
    on.daemon.configure(SETTINGS.replace("[flows]\n", "[flows]\nlook_inside = true\n"))
    on.daemon.start(SLOW)
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
    ledger,
    restart,
    established,
    tunnels,
    ban_expiry,
    look_inside,
    detach,
)


STARTING = {egress, restart, look_inside}  # a daemon, which with bcc compiles


def attempt(check: Callable[[Rig], None], on: Rig) -> str:
    """ "ok", or what went wrong; the whole of it goes to the console."""
    began = time.monotonic()
    try:
        check(on)
    except (Wrong, LabError, DaemonFailed, TrafficmonError, OSError, LookupError, ValueError) as error:
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
            checks["attach"] = attempt(lambda on: found.update(features(on)), on)
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
