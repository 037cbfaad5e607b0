"""Bans on a live wire: at once, on time, over kills, restarts and reboots, and never by accident on a lifeline."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from typing import Any

import door
import pytest
from tmlab import Daemon, Lab
from tmlab.daemon import remove_pins

from trafficmond import abi
from trafficmond.datapath import libbpf
from trafficmond.errors import ControlError

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BAD, NEIGHBOUR, GOOD = "203.0.113.7", "203.0.113.8", "198.51.100.7"
BAD6, NEIGHBOUR6 = "2001:db8:bad::7", "2001:db8:bad::8"
SETTINGS = 'on_stop = "keep"\n[policy]\nallowlist = ["198.51.100.0/24"]\n' + door.LOGGED


class Wire(door.Wire):
    """The same door, and the daemon that guards it."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        super().__init__(lab)
        self.daemon = daemon

    def through(self, *sources: str) -> list[bool]:
        """Whether a packet from each of them reaches the port."""
        return list(self.passes(*sources).values())

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return door.ask(self.daemon, method, **parameters)

    def banned(self) -> set[str]:
        return {ban["cidr"] for ban in self.ask("Bans")["bans"]}

    def ends(self, source: str, at: float) -> float:
        """When `source` is heard again, watched from a second before `at` (epoch seconds)."""
        while time.time() < at + 3:
            if self.through(source) == [True]:
                return time.time()
        return time.time()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Lab() as lab:
        lab.host.ip(f"route add default via {lab.links[0].outside_ip}")
        with Daemon(lab, SETTINGS) as daemon:
            yield Wire(lab, daemon)


def test_a_ban_acts_at_once_and_an_unban_too(wire: Wire) -> None:
    assert wire.through(BAD, BAD6, GOOD) == [True, True, True]
    wire.daemon.control("ban", BAD, "--ttl", "1h", "--reason", "knocks on every door")
    wire.daemon.control("ban", BAD6)
    assert wire.through(BAD, BAD6, NEIGHBOUR, NEIGHBOUR6) == [False, False, True, True]
    listed = {ban["cidr"]: ban for ban in wire.daemon.ask("bans")}
    assert set(listed) == {f"{BAD}/32", f"{BAD6}/128"}
    assert listed[f"{BAD}/32"]["reason"] == "knocks on every door"
    assert wire.daemon.ask("explain", BAD)["reason"] == "ban"
    wire.daemon.control("unban", BAD)
    assert wire.through(BAD, BAD6) == [True, False]
    gone = wire.daemon.control("unban", BAD, check=False)
    assert gone.returncode == 1
    assert "no ban lies within" in gone.stderr
    wire.daemon.stop()
    assert wire.daemon.sql(f"SELECT sum(packets) FROM flows WHERE action = 'drop' AND src_ip = '{BAD}'") == [(1,)]


def test_a_ban_for_some_services_leaves_the_others_and_outlives_a_reboot(wire: Wire) -> None:
    """Two owners', of which one ends."""
    daemon = wire.daemon
    port = "9"
    daemon.control("ban", BAD, "--port", f"udp/{port}", "--ttl", "1h", "--owner", "fail2ban-one")
    daemon.control("ban", NEIGHBOUR, "--port", "ssh,http", "--ttl", "1h", "--owner", "fail2ban-two")
    daemon.control("ban", BAD6, "--port", "0:65535")
    daemon.control("ban", NEIGHBOUR6, "--port", f"tcp/{port}")
    others = [False, True, False, True]
    assert wire.through(BAD, NEIGHBOUR, BAD6, NEIGHBOUR6) == others
    daemon.control("ban", NEIGHBOUR, "--port", f"{port}", "--ttl", "1s", "--owner", "fail2ban-one")
    assert wire.through(NEIGHBOUR) == [False]
    daemon.wait(lambda: wire.through(NEIGHBOUR) == [True], "what the other owner does not name is free again")
    for end in (daemon.kill, daemon.stop, lambda: (daemon.stop(), remove_pins(daemon.pins))):
        end()
        daemon.start()
        assert wire.through(BAD, NEIGHBOUR, BAD6, NEIGHBOUR6) == others
    listed = {(ban["cidr"], ban["owner"]): ban["ports"] for ban in daemon.ask("bans")}
    assert listed[f"{NEIGHBOUR}/32", "fail2ban-two"] == ["tcp/22", "tcp/80"]
    told = daemon.ask("explain", BAD, f"udp/{port}")
    assert (told["reason"], daemon.ask("explain", BAD, "tcp/1")["reason"]) == ("ban", "default")


def test_networks_are_banned_by_longest_prefix_and_end_one_by_one(wire: Wire) -> None:
    wire.ask("Ban", cidr="203.0.113.0/24", ttl_s=3600.0)
    wire.ask("Ban", cidr="2001:db8:bad::/64", ttl_s=3600.0)
    assert wire.through(BAD, NEIGHBOUR, BAD6, NEIGHBOUR6, "203.0.114.7") == [False, False, False, False, True]
    # A narrow ban inside that ends earlier, its own entry still there, must not open a hole in the wide one.
    wire.ask("Ban", cidr=BAD, ttl_s=1.0)
    wire.ask("Ban", cidr=BAD6, ttl_s=1.0)
    time.sleep(1.2)
    assert wire.through(BAD, BAD6) == [False, False]
    wire.daemon.wait(lambda: wire.banned() == {"203.0.113.0/24", "2001:db8:bad::/64"}, "the narrow bans' ends")
    assert wire.through(BAD, BAD6) == [False, False]
    # And a wide one that comes later, or goes first, leaves the narrow one its own end.
    wire.ask("Ban", cidr=BAD, ttl_s=3600.0)
    wire.ask("Ban", cidr="203.0.113.0/24", ttl_s=0.5)
    time.sleep(0.7)
    assert wire.through(BAD, NEIGHBOUR) == [False, True]
    lifted = wire.ask("Unban", cidr="0.0.0.0/0")["lifted"]
    assert f"{BAD}/32" in {ban["cidr"] for ban in lifted}
    assert wire.through(BAD, NEIGHBOUR, BAD6) == [True, True, False]


def test_a_ban_ends_on_time_with_the_daemon_dead(wire: Wire) -> None:
    at = wire.ask("Ban", cidr=BAD, ttl_s=3.0)["ban"]["expires"]
    wire.ask("Ban", cidr=BAD6, ttl_s=3600.0)
    wire.daemon.kill()
    assert wire.through(BAD, BAD6) == [False, False]
    assert wire.ends(BAD, at) == pytest.approx(at, abs=0.3)
    assert wire.through(BAD6) == [False]


def test_bans_survive_a_kill_a_restart_and_a_reboot(wire: Wire) -> None:
    daemon = wire.daemon
    at = wire.ask("Ban", cidr=BAD, ttl_s=3600.0, reason="for an hour")["ban"]["expires"]
    wire.ask("Ban", cidr="2001:db8:bad::/64", ttl_s=3600.0)
    wire.ask("Ban", cidr=NEIGHBOUR, ttl_s=0.5)
    for end in (daemon.kill, daemon.stop):
        end()
        daemon.start()
        assert wire.through(BAD, BAD6, GOOD) == [False, False, True]
    daemon.stop()
    remove_pins(daemon.pins)  # what a reboot leaves of them
    assert wire.through(BAD) == [True]
    daemon.start()
    assert wire.through(BAD, BAD6, NEIGHBOUR) == [False, False, True]
    again = {ban["cidr"]: ban for ban in wire.ask("Bans")["bans"]}
    assert set(again) == {f"{BAD}/32", "2001:db8:bad::/64"}
    assert (again[f"{BAD}/32"]["expires"], again[f"{BAD}/32"]["reason"]) == (at, "for an hour")


def test_a_ban_that_only_the_kernel_remembers_is_listed_and_can_be_lifted(wire: Wire) -> None:
    """A daemon killed between the kernel's table and its own must not leave a ban that nobody can see."""
    daemon = wire.daemon
    daemon.kill()
    put(daemon, BAD, time.monotonic() + 3600)
    daemon.start()
    assert wire.banned() == {f"{BAD}/32"}
    assert wire.through(BAD) == [False]
    wire.ask("Unban", cidr=BAD)
    assert wire.through(BAD) == [True]


def test_a_ban_of_one_family_is_none_of_the_other(wire: Wire) -> None:
    """The table holds IPv4 as a part of IPv6."""
    wire.ask("Ban", cidr="::/0", ttl_s=3600.0, force=True)
    wire.ask("Ban", cidr="::/8", ttl_s=3600.0, force=True)
    wire.ask("Ban", cidr="::fffe:0:0/95", ttl_s=3600.0)
    assert wire.through(BAD, GOOD, BAD6) == [True, True, False]
    wire.ask("Ban", cidr="0.0.0.0/0", ttl_s=3600.0, force=True)
    assert wire.through(BAD, BAD6) == [False, False]
    wire.ask("Unban", cidr="0.0.0.0/0")
    assert wire.through(BAD, GOOD, BAD6) == [True, True, False]
    wire.daemon.kill()
    wire.daemon.start()
    assert wire.banned() == {"::/0", "::/8", "::fffe:0:0/95"}
    assert wire.through(BAD, BAD6) == [True, False]
    wire.ask("Ban", cidr=f"::ffff:{BAD}", ttl_s=3600.0)
    assert wire.through(BAD, NEIGHBOUR) == [False, True]
    wire.ask("Unban", cidr=BAD)
    wire.ask("Unban", cidr="::/0")
    assert wire.through(BAD, NEIGHBOUR, BAD6) == [True, True, True]


@pytest.mark.parametrize("what", ["ban", "rule"])
def test_lifelines_are_taken_only_by_force(wire: Wire, what: str) -> None:
    def take(address: str, *, force: bool) -> None:
        if what == "ban":
            wire.ask("Ban", cidr=address, ttl_s=3600.0, force=force)
        else:
            wire.ask("AddCidr", cidr=address, action="drop", force=force)

    own, gateway = wire.link.host_ip, wire.link.outside_ip
    for address, why in (
        (own, "own address"),
        ("10.99.0.0/16", "own address|default gateway"),
        (gateway, "default gateway"),
        (GOOD, "allowlist"),
    ):
        with pytest.raises(ControlError, match=why):
            take(address, force=False)
    assert wire.through(GOOD, gateway) == [True, True]
    take(GOOD, force=True)
    take(gateway, force=True)
    assert wire.through(GOOD, gateway, "198.51.100.8") == [False, False, True]
    # What was taken by force is given back with the ban or the rule.
    for address in (GOOD, gateway):
        wire.ask("Unban", cidr=address) if what == "ban" else wire.ask("RemoveCidr", cidr=address)
    assert wire.through(GOOD, gateway) == [True, True]
    with pytest.raises(ControlError, match="default gateway"):
        take(gateway, force=False)


def test_force_lasts_as_long_as_its_ban_over_restarts_and_reboots_too(wire: Wire) -> None:
    daemon, gateway = wire.daemon, wire.link.outside_ip
    at = wire.ask("Ban", cidr=gateway, ttl_s=15.0, force=True)["ban"]["expires"]
    wire.ask("Ban", cidr=GOOD, ttl_s=3600.0, force=True)
    for end in (daemon.stop, daemon.kill, lambda: (daemon.stop(), remove_pins(daemon.pins))):
        end()
        daemon.start()
        assert wire.through(GOOD, gateway, "198.51.100.8") == [False, False, True]
    assert {ban["cidr"] for ban in wire.ask("Bans")["bans"] if ban["forced"]} == {f"{GOOD}/32", f"{gateway}/32"}
    assert wire.ends(gateway, at) == pytest.approx(at, abs=0.3)
    deadline = time.monotonic() + 10  # ended bans are tidied up every few seconds
    while wire.ask("Explain", address=gateway)["reason"] != "guard":
        assert time.monotonic() < deadline, "the guard did not get back what the ban had taken"
        time.sleep(0.2)
    assert wire.ask("Explain", address=GOOD)["reason"] == "ban"


def test_a_full_table_is_a_clear_error_and_nothing_else(wire: Wire) -> None:
    daemon = wire.daemon
    wire.ask("Ban", cidr=BAD, ttl_s=3600.0)
    first = int(ipaddress.ip_address("100.64.0.0"))
    for number in range(65_536 - 1):
        put(daemon, str(ipaddress.ip_address(first + number)), 0)
    with pytest.raises(ControlError, match=r"cannot ban 203\.0\.113\.8/32: .*65,536.*") as error:
        wire.ask("Ban", cidr=NEIGHBOUR, ttl_s=3600.0)
    assert "unban" in str(error.value.hint)
    assert wire.banned() == {f"{BAD}/32"}
    assert wire.through(BAD, NEIGHBOUR) == [False, True]
    wire.ask("Ban", cidr=BAD, ttl_s=7200.0)  # one that is there can be prolonged
    wire.ask("Unban", cidr=BAD)
    wire.ask("Ban", cidr=NEIGHBOUR, ttl_s=3600.0)
    assert wire.through(BAD, NEIGHBOUR) == [True, False]


def put(daemon: Daemon, address: str, ends: float) -> None:
    """An entry of the kernel's ban table, past the daemon; `ends` on CLOCK_MONOTONIC, 0: never."""
    maps = next(daemon.pins.glob("maps-*"))
    fd = libbpf.open_pin(str(maps / "tm_bans"))
    try:
        key = (128).to_bytes(4, "little") + b"\0" * 10 + b"\xff\xff" + ipaddress.ip_address(address).packed
        verdict = abi.DROP << abi.ACTION_SHIFT | abi.BY_BAN << abi.REASON_SHIFT
        libbpf.update(fd, key, (1 << 62 if ends else 0).to_bytes(8, "little") + verdict.to_bytes(8, "little"))
    finally:
        os.close(fd)
