"""Rules that name services: what the programs make of each packet, against the rules' own words."""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections import Counter

import pytest
from judging import SCTP, Asked, Reference, random_packet, random_tables
from rig import Rig
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import TCP, UDP, frame, tcp, udp

from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table

PACKETS = int(os.environ.get("TRAFFICMON_JUDGED", "100000"))  # make judged: a million
pytestmark = [pytest.mark.root, pytest.mark.timeout(max(240, PACKETS // 400))]

BATCH = 10_000
SHOT = 2
OWN = {4: bytes([192, 0, 2, 200]), 6: socket.inet_pton(socket.AF_INET6, "2001:db8:ffff::200")}


@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_every_packet_is_judged_as_the_rules_say(loader: str) -> None:
    """500 rules nested four deep and deeper, both families and directions."""
    rng = random.Random(11)
    now = time.time()
    ended, lasting = now - 50, now + 10_000
    tables = random_tables(rng, 500, ended, lasting)
    policy = make_policy(Files(), default=Action.DROP, runtime=tables)
    ids = RuleIds().number(policy.rules, now).numbers
    with Rig(loader, capacity=65536) as rig:
        rig.datapath.clock.calibrate()
        compiled = compile_table(policy, ids, now - 100, rig.datapath.clock.to_jiffies)
        rig.datapath.tables.put(compiled.words)
        decided: Counter[int | None] = Counter()
        done = 0
        while done < (PACKETS if loader == "libbpf" else PACKETS // 4):
            for direction, program in ((Direction.INGRESS, "tm_xdp"), (Direction.EGRESS, "tm_tc")):
                reference = Reference(tables, str(direction), ended)
                packets = [random_packet(rng, tables) for _ in range(BATCH)]
                outward = direction is Direction.EGRESS
                frames = [each.frame(OWN[each.version], at, outward) for at, each in enumerate(packets, 1)]
                rig.forget()
                verdicts = rig.run(frames, program)
                words = _words(rig, outward)
                for at, (packet, verdict) in enumerate(zip(packets, verdicts, strict=True), 1):
                    number = reference.decides(packet)
                    decided[number] += 1
                    word = words.get(_key(packet, at)) or set()
                    _check(tables, ids.tolist(), number, direction, verdict == (SHOT if outward else 1), word, packet)
                done += BATCH
    assert len(decided) > 300, "few of the rules decide anything"
    assert sum(decided[at] for at, table in enumerate(tables) if "ports" in table) > done // 4


def _key(packet: Asked, at: int) -> tuple[int, ...]:
    """What tells a packet's record apart: its number for a source port, or what has that place."""
    if packet.fragment or packet.proto not in (TCP, UDP, SCTP):
        at = 0 if packet.fragment else packet.number or 0
    return packet.version, packet.address, packet.proto, at


def _words(rig: Rig, outward: bool) -> dict[tuple[int, ...], set[int]]:
    found: dict[tuple[int, ...], set[int]] = {}
    end = "dst" if outward else "src"
    for row in rig.datapath.read_ledger():
        version = int(row["family"])
        address = int(row[f"{end}_hi"]) << 64 | int(row[f"{end}_lo"])
        address = address & 0xFFFFFFFF if version == 4 else address
        key = version, address, int(row["proto"]), int(row["sport"])
        found.setdefault(key, set()).add(int(row["verdict"]))
    return found


def _check(
    tables: list[dict[str, object]],
    ids: list[int],
    number: int | None,
    direction: Direction,
    dropped: bool,
    words: set[int],
    packet: Asked,
) -> None:
    """The record that the packet was booked in says what the rules do, and so does the packet's fate."""
    action = tables[number]["action"] if number is not None else ("drop" if direction is Direction.INGRESS else "allow")
    rule = ids[number] if number is not None else 0
    reason = Reason.RULE if number is not None else Reason.DEFAULT
    if action == "limit":
        wanted = Action.DROP << 28 | Reason.LIMIT << 24 | rule if dropped else Action.ALLOW << 28 | reason << 24 | rule
    else:
        assert dropped == (action == "drop"), (packet, tables[number] if number is not None else "default", words)
        wanted = Action.parse(str(action)) << 28 | reason << 24 | rule
    assert wanted in words, (packet, number, hex(wanted), [hex(word) for word in words])


SERVER = """
[[rule]]
cidr = ["0.0.0.0/0", "::/0"]
action = "allow"
ports = ["tcp/443", "tcp/80", "icmp/8", "icmpv6/128"]
label = "web"

[[rule]]
cidr = "203.0.113.0/24"
action = "allow"
ports = ["tcp/22"]
label = "office"
"""
SETTINGS = """
[policy]
default = "drop"
[flows]
interval = "200ms"
"""


def test_a_web_server_with_ssh_for_some(lab: Lab) -> None:
    link = lab.links[0]
    office, stranger = "203.0.113.7", "198.51.100.7"
    with Daemon(lab, SETTINGS, rules={"10-server.toml": SERVER}) as daemon:
        sender = Sender(lab.outside, link.outside)
        ports = {port: Listener(lab.host, link.host_ip, port) for port in (443, 22, 53)}

        def heard(source: str) -> set[int]:
            sender.send([udp(source, link.host_ip, 1024, port) for port in ports])
            return {port for port, listener in ports.items() if listener.heard()}

        def dropped() -> set[tuple[str, str, int]]:
            found = re.findall(r"DROP .*-> (TCP|UDP) ([0-9.]+):1024 > [0-9.]+:([0-9]+) ", daemon.said())
            return {(proto, source, int(port)) for proto, source, port in found}

        assert heard(office) == heard(stranger) == set(), "UDP is named by no rule"
        asked = [(source, port) for source in (office, stranger) for port in (443, 22, 25)]
        sender.send([tcp(source, link.host_ip, 1024, port, 2) for source, port in asked])
        silent = {("TCP", office, 25), ("TCP", stranger, 25), ("TCP", stranger, 22)}
        silent |= {("UDP", source, port) for source in (office, stranger) for port in ports}
        daemon.wait(lambda: dropped() >= silent, "what is dropped in the log")
        assert dropped() == silent
        # By hand, beside the rules of the file, each for its own service.
        daemon.control("add-cidr", stranger, "--port", "udp/53", "--action", "allow")
        daemon.control("add-cidr", stranger, "--port", "udp/443", "--action", "allow")
        assert heard(stranger) == {443, 53}
        daemon.control("remove-cidr", stranger, "--port", "udp/53")
        assert heard(stranger) == {443}
        (row,) = [row for row in daemon.ask("rules") if row["source"] == "runtime"]
        assert (row["cidr"], row["ports"]) == (stranger, ["udp/443"])
        for service, action, label in (
            ("tcp/22", "drop", None),
            ("tcp/443", "allow", "web"),
            ("udp/443", "allow", None),
        ):
            told = daemon.ask("explain", stranger, service)
            (winner,) = [each for each in told["decisions"] if each["wins"]]
            assert (told["action"], winner["label"] if label else None) == (action, label)


@pytest.mark.parametrize("depth", [1, 8, 9, 150])
def test_extension_headers_hide_no_service_from_what_stops_it(lab: Lab, depth: int) -> None:
    """Linux follows any number of them."""
    stranger, link = "2001:db8:bad::7", lab.links[0]
    datagram = udp(stranger, link.host_ip6)[54:]
    options = b"".join(bytes((kind, 0, 1, 4, 0, 0, 0, 0)) for kind in [60] * (depth - 1) + [UDP])
    knock = [frame(stranger, link.host_ip6, 60, options + datagram)]
    with (
        Daemon(lab) as daemon,
        Listener(lab.host, link.host_ip6) as listener,
        Sender(lab.outside, link.outside) as sender,
    ):

        def passes() -> bool:
            sender.send(knock)
            return listener.heard()[stranger] == 1

        assert passes()
        daemon.control("ban", stranger, "--port", "udp/9")
        assert not passes()
        daemon.control("unban", stranger)
        daemon.control("add-cidr", stranger, "--port", "udp/9")
        assert not passes()
        daemon.control("add-cidr", stranger, "--port", "udp/9", "--limit", "1/s", "--burst", "1")
        assert [passes(), passes()] == [True, False]
        daemon.control("add-cidr", stranger, "--port", "udp/9", "--action", "allow")
        assert passes()
        daemon.control("add-cidr", "2001:db8::/32")
        assert passes() == (depth <= 8)
