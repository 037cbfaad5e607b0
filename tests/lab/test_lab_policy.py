"""Who comes before whom, rates, rules that end by themselves, and rules for what goes out."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from door import LOGGED, Wire, ask
from tmlab import Daemon, Lab, Link, Listener, bpf
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


# ---- precedence ----

ORDER = """
[[rule]]
cidr = ["10.0.0.0/8", "fd99::/16"]
action = "drop"
[[rule]]
cidr = ["198.51.0.0/16", "203.0.0.0/16", "2001:db8::/32"]
action = "drop"
[[rule]]
cidr = ["203.0.113.0/24", "2001:db8:900d::/48"]
action = "allow"
[[rule]]
cidr = ["203.0.113.7", "2001:db8:900d::7"]
action = "drop"
[[rule]]
cidr = "192.0.2.0/24"
action = "allow"
"""
LISTS = '[[list]]\npath = "{home}/list.txt"\naction = "drop"\n'


def test_guard_then_allowlist_then_ban_then_longest_prefix_then_default(lab: Lab) -> None:
    link = lab.links[0]
    lab.host.ip(f"route add default via {link.outside_ip}", f"route add default via {link.outside_ip6}")
    settings = '[policy]\nallowlist = ["198.51.100.0/24", "2001:db8:a110::/48"]\n' + LOGGED + LISTS
    daemon = Daemon(lab, settings, rules={"order.toml": ORDER})
    (daemon.home / "list.txt").write_text("192.0.2.0/24\n100.64.0.0/10\n")
    expected = {
        link.outside_ip: True,  # the guard: a gateway, in a rule's and a ban's prefix
        link.outside_ip6: True,
        "10.99.0.3": False,
        "198.51.100.7": True,  # the allowlist, in a rule's and a ban's prefix
        "2001:db8:a110::7": True,
        "198.51.101.7": False,
        "203.0.112.7": False,  # /16
        "203.0.113.8": True,  # /24
        "203.0.113.7": False,  # /32
        "2001:db8:900d::8": True,
        "2001:db8:900d::7": False,
        "2001:db8:bad::7": False,
        "192.0.2.7": True,  # a rule beats a list on the same prefix
        "100.64.0.7": False,
        "233.252.0.7": False,  # multicast is no source: the kernel drops that by itself
        "8.8.8.8": True,  # the default
        "2a00::8": True,
    }
    with daemon:
        wire = Wire(lab)
        assert wire.passes(*expected) == expected
        ask(daemon, "Ban", cidr="198.51.0.0/16", ttl_s=3600.0)
        ask(daemon, "Ban", cidr="203.0.113.8", ttl_s=3600.0)  # over a rule that allows it, by a longer prefix than its
        ask(daemon, "Ban", cidr="192.0.0.0/16", ttl_s=3600.0)  # ... and by a shorter one
        ask(daemon, "Ban", cidr="2001:db8:900d::/64", ttl_s=3600.0)
        ask(daemon, "Ban", cidr="10.99.0.0/16", ttl_s=3600.0, force=True)
        banned = expected | dict.fromkeys(("203.0.113.8", "192.0.2.7", "2001:db8:900d::8", link.outside_ip), False)
        assert wire.passes(*expected) == banned
        for source, passes in banned.items():
            explained = ask(daemon, "Explain", address=source)
            assert (explained["action"] != "drop") == (passes or source == "233.252.0.7"), explained


# ---- rates ----

LIMITS = """
[[rule]]
cidr = ["203.0.113.0/24", "2001:db8:bad::/48"]
action = "limit"
limit = "100/s"
burst = 20
label = "slowly"
"""


def test_a_rate_holds_for_each_source(lab: Lab) -> None:
    with Daemon(lab, LOGGED, rules={"limits.toml": LIMITS}) as daemon:
        wire = Wire(lab)
        sources = ("203.0.113.7", "203.0.113.8", "2001:db8:bad::7")
        began = time.monotonic()
        wire.sender.send([udp(source, wire.target(source)) for source in sources for _ in range(60)])
        at_once = wire.heard()
        most = 20 + 100 * (time.monotonic() - began) + 1
        assert all(20 <= at_once[source] <= most for source in sources), (at_once, most)
        # Three times the rate for two seconds, by one source; the other two rest and get their bursts again.
        passed, sent, began = 0, 0, time.monotonic()
        empty = udp(sources[0], wire.link.host_ip)
        while (elapsed := time.monotonic() - began) < 2:
            due = int(300 * elapsed) - sent
            wire.sender.send([empty] * due)
            sent += due
            passed += wire.heard()[sources[0]]
        assert passed == pytest.approx(100 * elapsed, rel=0.1), f"{passed} of {sent} in {elapsed:.2f} s"
        wire.sender.send([udp(source, wire.target(source)) for source in sources for _ in range(60)])
        again = wire.heard()
        assert all(20 <= again[source] <= 60 for source in sources[1:]), again
        assert again[sources[0]] < 20
        daemon.stop()
        records = [json.loads(line) for line in (daemon.home / "traffic.jsonl").read_text().splitlines()]
        over = [record for record in records if record["src_ip"] in sources and record["action"] == "DROP"]
        assert {(record["reason"], record["rule"]) for record in over} == {("limit", "slowly")}
        dropped = daemon.sql("SELECT sum(packets) FROM flows WHERE action = 'drop' AND rule = 'slowly'")[0][0]
        assert dropped == 60 * 6 + sent - passed - sum(at_once.values()) - sum(again.values())


TWO_CPUS = """
[[rule]]
cidr = "203.0.113.0/24"
action = "limit"
limit = "1000/s"
burst = 2000
"""


def test_a_rate_holds_where_two_cpus_serve_one_source(lab: Lab) -> None:
    """Both look at the clock, and at the bucket, in the same moment, a million times."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    link = lab.links[0]
    with Daemon(lab, LOGGED, rules={"limits.toml": TWO_CPUS}) as daemon:
        found = lab.host.link(link.host)
        program, frame = bpf.program_by_id(found["xdp"]["prog"]["id"]), udp("203.0.113.7", link.host_ip)
        until = time.monotonic() + 3

        def serve(cpu: int) -> int:
            os.sched_setaffinity(0, {cpu})  # this thread
            ran = 0
            with lab.host.entered():
                while time.monotonic() < until:
                    bpf.run(program, frame, 10_000, ingress_ifindex=int(found["ifindex"]))
                    ran += 10_000
            return ran

        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            ran = sum(pool.map(serve, cpus))
        may = 2000 + 1000 * (time.monotonic() - began)
        dropped = daemon.status()["accounting"]["dropped"]["packets"]
        os.close(program)
    assert ran > 200_000
    assert 0.9 * may < ran - dropped <= 1.02 * may, f"{ran - dropped} of {ran} passed, {may:.0f} may"


# ---- rules that end ----


def test_a_rule_that_ends_gives_way_to_the_one_around_it_with_the_daemon_dead(lab: Lab) -> None:
    with Daemon(lab, 'on_stop = "keep"\n' + LOGGED) as daemon:
        wire = Wire(lab)
        ask(daemon, "AddCidr", cidr="203.0.0.0/16", action="drop")
        ask(daemon, "AddCidr", cidr="2001:db8::/32", action="drop")
        expires = time.time() + 3
        for cidr in ("203.0.113.0/24", "2001:db8:bad::/48"):
            ask(daemon, "AddCidr", cidr=cidr, action="allow", ttl_s=expires - time.time())
        ask(daemon, "AddCidr", cidr="203.0.113.7", action="drop", ttl_s=1.0)  # ends first, inside the one that allows
        daemon.kill()
        sources = ("203.0.113.7", "203.0.113.8", "2001:db8:bad::7")
        assert wire.passes(*sources) == dict(zip(sources, (False, True, True), strict=True))
        while not wire.passes(sources[0])[sources[0]]:
            assert time.time() < expires, "the narrow rule did not end"
        while wire.passes(sources[1])[sources[1]]:
            assert time.time() < expires + 1, "the rule did not end"
        assert time.time() == pytest.approx(expires, abs=0.4)
        assert wire.passes(*sources) == dict.fromkeys(sources, False)


# ---- going out ----


def test_rules_of_egress_drop_by_destination(lab: Lab, ends: list[tuple[str, str]]) -> None:
    link = lab.links[0]
    with Daemon(lab, LOGGED) as daemon:
        for _, there in ends:
            lab.host.run("ping", "-c", "1", "-W", "2", there)
            ask(daemon, "AddCidr", cidr=there, action="drop", direction="egress")
            # (a direct send to a dropped destination fails at once: ENOBUFS or EPERM, so ping says "1" or "2")
            assert lab.host.run("ping", "-c", "1", "-W", "0.5", there, check=False).returncode != 0
        assert heard_outside(lab, link) == 0
        for _, there in ends:
            ask(daemon, "RemoveCidr", cidr=there)
            lab.host.run("ping", "-c", "1", "-W", "2", there)
        assert daemon.status()["interfaces"][0]["dropped_packets"] >= 2


def heard_outside(lab: Lab, link: Link) -> int:
    """Datagrams that get from the host to the outside's port 9."""
    with Listener(lab.outside, link.outside_ip) as listener:
        with lab.host.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender, contextlib.suppress(OSError):
            sender.sendto(b"out", (link.outside_ip, 9))
        return listener.heard().total()
