"""Rules that name services: what the programs make of each packet, against the rules' own words."""

from __future__ import annotations

import os
import re

import every_packet
import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import UDP, frame, tcp, udp

PACKETS = int(os.environ.get("TRAFFICMON_JUDGED", "100000"))  # make judged: a million
pytestmark = [pytest.mark.root, pytest.mark.timeout(max(240, PACKETS // 400))]


@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_every_packet_is_judged_as_the_rules_say(loader: str) -> None:
    every_packet.judge(loader, PACKETS if loader == "libbpf" else PACKETS // 4)


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
