"""Which interfaces are watched while they come, go and change, and what stays pinned between two daemons."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stack import ipv4_received
from tmlab import Daemon, Flood, Lab, Listener, Sender
from tmlab.daemon import BPFFS, PYTHON, ROOT
from tmlab.packets import udp

from trafficmond.datapath import libbpf, share
from trafficmond.datapath.attach import detach_all
from trafficmond.datapath.pins import shared
from trafficmond.errors import DatapathError

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SETTINGS = """
on_stop = "keep"
[flows]
interval = "200ms"
capacity = 4096
"""
BAD = "203.0.113.7"
Modes = dict[str, str]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(links=2) as made:
        yield made


def modes(status: dict[str, Any]) -> Modes:
    """How each watched interface is watched."""
    return {each["name"]: each["mode"] for each in status["interfaces"] if each["mode"] in ("native", "generic")}


def watched(daemon: Daemon, *names: str) -> dict[str, Any]:
    return daemon.wait_status(lambda s: set(modes(s)) == set(names), f"{', '.join(names) or 'nothing'} watched")


def program(lab: Lab, name: str) -> str | None:
    """Name of the XDP program on an interface."""
    xdp = lab.host.link(name).get("xdp")
    return str(xdp["prog"]["name"]) if xdp else None


def add(lab: Lab, name: str, number: int = 0) -> None:
    """One more interface for the host."""
    index = f"index {number} " if number else ""
    lab.host.ip(f"link add {name} {index}type veth peer name peer-{name}", f"link set {name} up")


# ---- which interfaces ----


def test_globs_and_regexes_follow_what_comes_goes_and_is_renamed(lab: Lab) -> None:
    add(lab, "wan9")
    with Daemon(lab, SETTINGS, interfaces=["tmlab?", r"/wan\\d+/", "nosuch*"]) as daemon:
        watched(daemon, "tmlab0", "tmlab1", "wan9")
        assert program(lab, "lo") is None
        add(lab, "wan10")
        add(lab, "lan0")
        watched(daemon, "tmlab0", "tmlab1", "wan9", "wan10")
        # Renamed within the pattern it stays attached; out of it, it stays as well; into it, it is taken up.
        sender = Sender(lab.outside, lab.links[1].outside)
        sender.send([udp(BAD, lab.links[1].host_ip)] * 3)
        lab.host.ip("link set tmlab1 down", "link set tmlab1 name tmlab7", "link set tmlab7 up")
        status = watched(daemon, "tmlab0", "tmlab7", "wan9", "wan10")
        (renamed,) = (each for each in status["interfaces"] if each["name"] == "tmlab7")
        assert renamed["packets"] >= 3, "a new name is no new interface: its counts go on"
        lab.host.ip("link set wan10 down", "link set wan10 name lan10")
        watched(daemon, "tmlab0", "tmlab7", "wan9", "lan10")
        lab.host.ip("link set lan0 down", "link set lan0 name wan0")
        watched(daemon, "tmlab0", "tmlab7", "wan9", "lan10", "wan0")
        lab.host.ip("link delete wan9")
        watched(daemon, "tmlab0", "tmlab7", "lan10", "wan0")


def test_a_new_interface_with_the_number_of_an_old_one_is_no_old_one(lab: Lab) -> None:
    """The two changes reach the daemon together: the number alone would look as if nothing had happened."""
    with Daemon(lab, SETTINGS, interfaces=["tmlab0", "odd0"]) as daemon:
        add(lab, "odd0", 77)
        watched(daemon, "tmlab0", "odd0")
        lab.host.ip("link delete odd0", "link add odd0 index 77 type veth peer name peer-odd0", "link set odd0 up")
        daemon.wait(lambda: program(lab, "odd0") == "tm_xdp", "the new odd0 to be attached")
        watched(daemon, "tmlab0", "odd0")


def test_an_mtu_that_native_mode_refuses_is_named_and_its_change_noticed(lab: Lab) -> None:
    for namespace, name in ((lab.host, "tmlab1"), (lab.outside, "tmlabx1")):
        namespace.ip(f"link set {name} mtu 9000")
    with Daemon(lab, SETTINGS, interfaces=["tmlab*"]) as daemon:
        status = watched(daemon, "tmlab0", "tmlab1")
        assert modes(status) == {"tmlab0": "native", "tmlab1": "generic"}
        assert "MTU 9000" in str(status["warnings"])
    with Daemon(lab, 'xdp_mode = "native"\n' + SETTINGS, interfaces=["tmlab*"]) as daemon:
        status = watched(daemon, "tmlab0")
        (refused,) = (each for each in status["interfaces"] if each["name"] == "tmlab1")
        assert "MTU 9000" in refused["mode"]
        lab.host.ip("link set tmlab1 mtu 1500")
        daemon.wait_status(lambda s: "MTU 9000" not in str(s["interfaces"]), "the change to be noticed")
        lab.outside.ip("link set tmlabx1 mtu 1500")  # the other end counts too, and nobody tells of it
        assert modes(watched(daemon, "tmlab0", "tmlab1")) == {"tmlab0": "native", "tmlab1": "native"}


def test_an_interface_becomes_native_when_its_mtu_allows_it_and_drops_continue(lab: Lab) -> None:
    for namespace, name in ((lab.host, "tmlab1"), (lab.outside, "tmlabx1")):
        namespace.ip(f"link set {name} mtu 9000")
    with Daemon(lab, SETTINGS, interfaces=["tmlab*"]) as daemon:
        assert modes(watched(daemon, "tmlab0", "tmlab1"))["tmlab1"] == "generic"
        before = {each["name"]: each["ifindex"] for each in daemon.status()["interfaces"]}
        lab.outside.ip("link set tmlabx1 mtu 1500")
        lab.host.ip("link set tmlab1 mtu 1500")
        status = daemon.wait_status(lambda s: modes(s).get("tmlab1") == "native", "native mode")
        assert {each["name"]: each["ifindex"] for each in status["interfaces"]} == before
        assert "MTU" not in str(status["warnings"])
        assert program(lab, "tmlab1") == "tm_xdp"
        lab.host.ip("link set tmlab1 mtu 1400")  # and stays so
        assert modes(watched(daemon, "tmlab0", "tmlab1")) == {"tmlab0": "native", "tmlab1": "native"}


def test_what_the_settings_no_longer_name_is_released(lab: Lab) -> None:
    with Daemon(lab, SETTINGS, interfaces=["tmlab0", "tmlab1"]) as daemon:
        watched(daemon, "tmlab0", "tmlab1")
        daemon._interfaces = ["tmlab0"]
        daemon.configure(SETTINGS)
        watched(daemon, "tmlab0")
        assert program(lab, "tmlab1") is None
        daemon._interfaces = ["tmlab0", "tmlab1"]
        daemon.configure(SETTINGS)
        watched(daemon, "tmlab0", "tmlab1")
        # The same while nobody is there to notice.
        daemon.kill()
        daemon._interfaces = ["tmlab0"]
        daemon.configure(SETTINGS)
        daemon.start()
        watched(daemon, "tmlab0")
        assert program(lab, "tmlab1") is None
        assert program(lab, "tmlab0") == "tm_xdp"


# ---- one daemon, one set of pins ----


def test_a_second_daemon_on_the_same_pins_is_refused(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as first:
        second = Daemon(lab, SETTINGS, interfaces=["tmlab1"])
        try:
            text = second.config.read_text().replace(str(second.pins), str(first.pins))
            second.config.write_text(text)
            assert second.launch().wait(20) == 1
            assert f"another trafficmond runs with the pins in {first.pins}" in second.said()
            assert "Traceback" not in second.said()
        finally:
            second.remove()
        assert first.status()["pid"] == first.pid
        # With pins of its own it may run beside, on other interfaces; on the same it is told whose they are.
        with Daemon(lab, SETTINGS, interfaces=["tmlab1"]) as beside:
            watched(beside, "tmlab1")
        third = Daemon(lab, SETTINGS)
        try:
            assert third.launch().wait(20) == 1
            assert "another trafficmond has attached it" in third.said()
        finally:
            third.remove()
        assert program(lab, "tmlab0") == "tm_xdp"


def test_a_killed_daemons_pins_are_free_at_once(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon:
        for _ in range(3):
            daemon.kill()
            daemon.start()
            assert modes(daemon.status()) == {"tmlab0": "native"}


# ---- from one layout to the next ----


class Traffic:
    """A flood whose sources are all dropped, and a host that must not see any of it."""

    def __init__(self, lab: Lab, daemon: Daemon, sources: str = "198.18.0.0/20") -> None:
        daemon.control("add-cidr", "198.18.0.0/15", "--save")
        self.flood = Flood(lab, lab.links[0], sources)
        self.lab = lab
        self.before = ipv4_received(lab)
        self.flood.start(pause_s=0.02)

    def end(self) -> int:
        """Packets sent, of which none got past the filter."""
        sent = self.flood.stop()
        assert ipv4_received(self.lab) == self.before, "the filter had a gap"
        return sent

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.flood.__exit__(None, None, None)


def test_pins_of_another_layout_are_replaced_in_place(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon, Traffic(lab, daemon) as traffic:
        daemon.kill()
        # What an earlier version left: the programs attached, its maps under a name that means nothing today.
        (maps,) = daemon.pins.glob("maps-*")
        stale = daemon.pins / "maps-00000000"
        stale.mkdir()
        for path in maps.iterdir():
            path.rename(stale / path.name)
        maps.rmdir()
        before = ids(lab)
        daemon.start()
        daemon.wait(lambda: list(daemon.pins.glob("maps-*")) == [maps], "the stale maps forgotten")
        assert ids(lab) != before, "the new program is in place of the old one"
        traffic.end()
        status = daemon.status()
        assert "another layout" in (status["loader_reason"] or "")
        assert status["accounting"]["pending"]["packets"] == 0
        daemon.kill()
        daemon.start()
        assert "another layout" not in (daemon.status()["loader_reason"] or "")


@pytest.mark.parametrize("structs", ["f76c4ebb", "883c5102"])
def test_what_an_earlier_version_counted_and_banned_is_carried_over(structs: str) -> None:
    with Lab(quiet=True) as lab, Daemon(lab, SETTINGS) as daemon:
        with Traffic(lab, daemon) as traffic:
            daemon.control("ban", BAD)
            time.sleep(0.3)
            daemon.stop()  # what it had read is stored; what comes now, only the old ledger has
            (maps,) = daemon.pins.glob("maps-*")
            bans = libbpf.map_info(libbpf.open_pin(str(maps / "tm_bans"))).id
            stale = daemon.pins / maps.name.replace(maps.name.split("-")[1], structs)
            stale.mkdir()
            for path in maps.iterdir():
                path.rename(stale / path.name)
            (stale / "tm_ban_services").unlink()  # came later
            maps.rmdir()
            daemon.start()
            daemon.wait(lambda: list(daemon.pins.glob("maps-*")) == [maps], "the earlier ledger forgotten")
            assert libbpf.map_info(libbpf.open_pin(str(maps / "tm_bans"))).id == bans
            sent = traffic.end()
        accounting = daemon.wait_status(
            lambda s: s["accounting"]["seen"]["packets"] == s["accounting"]["dropped"]["packets"] == sent,
            f"{sent} packets seen, by the earlier ledger and the new",
        )["accounting"]
        time.sleep(0.5)  # a reading, which may find some of the unattributed to have been read before
        status = daemon.status()
        assert "another layout" not in (status["loader_reason"] or "")
        accounting = status["accounting"]
        in_flows = accounting["in_flows"]["packets"]
        assert in_flows + accounting["unattributed"]["packets"] == sent
        daemon.stop()
        assert daemon.sql("SELECT sum(packets), sum(bytes) FROM flows") == [(in_flows, in_flows * 60)]


def ids(lab: Lab) -> int:
    return int(lab.host.link("tmlab0")["xdp"]["prog"]["id"])


def test_rubbish_among_the_pins_stands_in_nobodys_way(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon, Traffic(lab, daemon) as traffic:
        for turn in range(2):
            daemon.kill()
            (maps,) = daemon.pins.glob("maps-*")
            if turn == 0:  # half of the maps are gone
                (maps / "tm_rings").unlink()
            else:  # one is another map altogether
                (maps / "tm_rings").unlink()
                libbpf.pin(libbpf.create_array("odd", 16, 1, libbpf.F_MMAPABLE), str(maps / "tm_rings"))
            daemon.start()
            watched(daemon, "tmlab0")
        traffic.end()


@pytest.mark.parametrize("capacity", [1024, 65536])
@pytest.mark.parametrize("sources", ["198.18.0.0/24", "198.18.0.0/20"])
def test_another_capacity_loses_nothing_that_the_old_ledger_held(sources: str, capacity: int) -> None:
    with Lab(quiet=True) as lab, Daemon(lab, SETTINGS) as daemon:
        with Traffic(lab, daemon, sources) as traffic:
            time.sleep(0.3)
            daemon.stop()  # what it had read is stored; what comes now, only the old ledger has
            daemon.configure(SETTINGS.replace("4096", str(capacity)))
            daemon.start()
            assert daemon.status()["ledger"]["slots"] % capacity == 0
            daemon.wait(lambda: len(list(daemon.pins.glob("maps-*"))) == 1, "the old ledger forgotten")
            sent = traffic.end()
        accounting = daemon.wait_status(
            lambda s: s["accounting"]["seen"]["packets"] == s["accounting"]["dropped"]["packets"] == sent,
            f"{sent} packets seen, by the old ledger and the new",
        )["accounting"]
        time.sleep(0.5)  # a reading, which may find some of the unattributed to have been read before
        accounting = daemon.status()["accounting"]
        in_flows = accounting["in_flows"]["packets"]
        assert in_flows + accounting["unattributed"]["packets"] == sent
        daemon.stop()
        assert daemon.sql("SELECT sum(packets), sum(bytes) FROM flows") == [(in_flows, in_flows * 60)]


def test_bans_and_replies_outlive_another_capacity(lab: Lab) -> None:
    link = lab.links[0]
    settings = '[policy]\ndefault = "drop"\n' + SETTINGS.replace('on_stop = "keep"\n', "")
    with Daemon(lab, 'on_stop = "keep"\n' + settings) as daemon:
        with lab.host.entered():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asking.bind((link.host_ip, 5000))  # not connected: no one could learn of it from the socket
        with asking, Listener(lab.outside, link.outside_ip) as answering, Sender(lab.outside, link.outside) as sender:
            asking.settimeout(3)
            asking.sendto(b"?", (link.outside_ip, 9))
            assert answering.payloads() == [b"?"]
            daemon.kill()
            daemon.configure('on_stop = "keep"\n' + settings.replace("4096", "8192"))
            daemon.start()
            sender.send([udp(link.outside_ip, link.host_ip, 9, 5000, b"!")])
            assert asking.recv(9) == b"!"


# ---- the emergency exit ----


def test_the_emergency_exit_works_on_a_running_daemon_too(lab: Lab) -> None:
    with Daemon(lab, SETTINGS, interfaces=["tmlab*"]) as daemon:
        watched(daemon, "tmlab0", "tmlab1")
        detach = ["env", f"PYTHONPATH={ROOT}", PYTHON, "-m", "trafficmond", "-c", str(daemon.config), "--detach"]
        assert lab.host.run(*detach).returncode == 0
        assert (program(lab, "tmlab0"), program(lab, "tmlab1")) == (None, None)
        # It stays off, whatever else happens to interfaces, until somebody starts the daemon again.
        add(lab, "tmlab5")
        status = daemon.wait_status(lambda s: "tmlab0" not in modes(s), "tmlab0 given up")
        assert "detached" in str(status["interfaces"])
        assert (program(lab, "tmlab0"), program(lab, "tmlab1")) == (None, None)
        assert daemon.stop() == 0
        daemon.start()
        watched(daemon, "tmlab0", "tmlab1", "tmlab5")
        daemon.kill()
        assert lab.host.run(*detach).returncode == 0
        assert program(lab, "tmlab0") is None
        assert not list((BPFFS / daemon.pins.name).iterdir())
        assert lab.host.run(*detach).returncode == 0, "with nothing there it is no error"


def test_the_emergency_exit_ends_what_it_can(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(ifindex: int, _: object) -> None:
        if ifindex == 9:
            raise DatapathError("refused")

    monkeypatch.setattr(share, "leave", refused)
    with Daemon(lab, SETTINGS, interfaces=["tmlab*"]) as daemon:
        watched(daemon, "tmlab0", "tmlab1")
        daemon.kill()
        pins = BPFFS / daemon.pins.name
        (config,) = pins.glob("maps-*/tm_config")
        (pins / "shared").mkdir(exist_ok=True)
        mark = libbpf.open_pin(str(config))
        for ifindex in (8, 9):
            libbpf.pin(mark, str(pins / "shared" / str(ifindex)))
        os.close(mark)
        with lab.host.entered(), pytest.raises(DatapathError, match="refused"):
            detach_all(pins)
        assert (program(lab, "tmlab0"), program(lab, "tmlab1")) == (None, None)
        assert config.exists(), "what identifies the program stays"
        assert shared(pins) == [9]
