"""What was attached stays attached: whatever happens to routes, names, pins and daemons, a banned source is dropped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tmlab import Daemon, Lab, Listener, Namespace, Sender
from tmlab.daemon import remove_pins
from tmlab.packets import udp

from trafficmond import abi

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BAD, GOOD = "203.0.113.7", "198.51.100.7"
SETTINGS = 'on_stop = "keep"\n[flows]\ncapacity = 1024\ninterval = "200ms"\n'
_ports = itertools.count(1024)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(links=2) as made:
        made.host.ip(f"route add default via {made.links[0].outside_ip}")
        yield made


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """As shipped, with a ban in force."""
    with Daemon(lab, SETTINGS, interfaces=["default-route"]) as made:
        made.control("ban", BAD)
        assert dropped(lab)
        yield made


def dropped(lab: Lab, number: int = 0) -> bool:
    """Whether the banned source, and it alone, gets nothing through a link."""
    link = lab.links[number]
    with Listener(lab.host, link.host_ip) as listener, Sender(lab.outside, link.outside) as sender:
        sender.send([udp(source, link.host_ip, next(_ports)) for source in (BAD, GOOD)])
        heard = listener.heard()
    assert heard[GOOD] == 1
    return heard[BAD] == 0


def add(lab: Lab, name: bytes) -> None:
    lab.host.run("ip", "link", "add", name.decode(errors="surrogateescape"), "type", "veth")


def watched(status: dict[str, Any]) -> set[str]:
    return {each["name"] for each in status["interfaces"] if each["mode"] in ("native", "generic")}


def test_a_default_route_that_goes_takes_the_filter_off_nothing(lab: Lab, daemon: Daemon) -> None:
    link, other = lab.links
    lab.host.ip("route del default")
    lab.host.ip(f"route add default via {other.outside_ip}")
    status = daemon.wait_status(lambda s: watched(s) == {link.host, other.host}, "both to be watched")
    assert status["unwatched"] == []
    lab.host.ip("route del default", f"addr del {other.host_ip}/24 dev {other.host}")
    lab.host.ip(f"addr add {other.host_ip}/24 dev {other.host}", f"link set {link.host} down")
    lab.host.ip(f"link set {link.host} name renamed0", "link set renamed0 up")
    daemon.wait_status(lambda s: watched(s) == {"renamed0", other.host}, "its new name")
    assert dropped(lab)
    assert dropped(lab, 1)
    # The next daemon goes on with what the last one left, a kill included.
    daemon.kill()
    assert dropped(lab)
    daemon.start()
    assert watched(daemon.status()) == {"renamed0", other.host}
    assert dropped(lab)
    # Nor does a setting with more in it change that; one without default-route does, and says so.
    daemon._interfaces = ["default-route", "nosuch*"]
    daemon.configure(SETTINGS)
    daemon.control("reload")
    assert watched(daemon.status()) == {"renamed0", other.host}
    daemon._interfaces = [other.host]
    daemon.configure(SETTINGS)
    said = daemon.control("reload").stdout + daemon.said()
    assert "no longer watching renamed0: the setting `interfaces` no longer selects it" in said
    assert watched(daemon.status()) == {other.host}
    assert not dropped(lab)
    assert dropped(lab, 1)


def test_a_setting_that_was_changed_while_no_daemon_ran_holds(lab: Lab) -> None:
    link, other = lab.links
    with Daemon(lab, SETTINGS, interfaces=["default-route", other.host]) as daemon:
        assert watched(daemon.status()) == {link.host, other.host}
        daemon.stop()
        lab.host.ip("route del default")
        daemon._interfaces = ["default-route"]
        daemon.configure(SETTINGS)
        daemon.start()
        assert watched(daemon.status()) == {link.host}, "chosen by the default route, which the setting still has"


def test_below_a_bridge_that_is_watched(lab: Lab) -> None:
    """The kernel attaches no XDP program below an interface that has one."""
    jumbo = "mtu 9000 type veth peer name"
    lab.host.ip("link add br0 type bridge", f"link add v0 {jumbo} w0 mtu 9000", f"link add v1 {jumbo} w1 mtu 9000")
    lab.host.ip("link set v0 master br0", "link set v1 master br0", *(f"link set {n} up" for n in ("br0", "v0", "w0")))
    with Daemon(lab, SETTINGS, interfaces=["br0", "v0"]) as daemon:
        assert watched(daemon.status()) == {"br0", "v0"}, "though the bridge has the lower number"
        assert "v0: native mode: " in " ".join(daemon.status()["warnings"]), "whose mode it is"
        for name in ("w0", "v0"):
            lab.host.ip(f"link set {name} mtu 1500")
        daemon._interfaces.append("v1")
        daemon.configure(SETTINGS)
        daemon.control("reload")
        status = daemon.status()
        assert watched(status) == {"br0", "v0"}, "it is not detached for a mode that the kernel would refuse"
        assert status["unwatched"][0].startswith("v1 is not watched: br0, which is on top of v1, has an XDP program")


def test_nothing_watched_is_the_first_line(lab: Lab) -> None:
    lab.host.ip("route del default")
    with Daemon(lab, SETTINGS, interfaces=["default-route"]) as daemon:
        first = daemon.control("status").stdout.splitlines()[0]
        assert first.startswith("NOT WATCHED: no interface is watched, nothing is filtered or counted: there is no def")
        assert daemon.said().count("no interface is watched") == 1
        assert "trafficmon_watched_interfaces 0" in daemon.control("metrics").stdout
        lab.host.ip(f"route add default via {lab.links[0].outside_ip}")
        daemon.wait_status(lambda s: watched(s) and not s["unwatched"], "the interface of the new route")
        assert daemon.control("status").stdout.startswith("trafficmond ")
        lab.host.ip(f"link del {lab.links[0].host}")
        status = daemon.wait_status(lambda s: s["unwatched"], "its loss")
        assert "no interface is watched" in status["warnings"][0]
        gone = f"no longer watching {lab.links[0].host}: it was removed"
        daemon.wait(lambda: gone in daemon.said(), "the log")


def test_more_than_can_be_watched_are_said_first(lab: Lab) -> None:
    many = [line for n in range(36) for line in (f"link add v{n} type veth peer name w{n}",)]
    lab.host.ip(*many)
    with Daemon(lab, SETTINGS, interfaces=["tmlab0", "v*", "w*"]) as daemon:
        first = daemon.control("status", "--width", "300", check=False).stdout.splitlines()
        status = daemon.status()
        assert len(watched(status)) == 62
        (text,) = status["unwatched"]
        assert text.startswith("11 interfaces are not watched, nothing is filtered or counted on them: ")
        assert "at most 62 interfaces can be watched" in text
        assert not first or first[0].startswith("NOT WATCHED: 11 interfaces")
        assert "trafficmon_unwatched_interfaces 11" in daemon.control("metrics").stdout


def test_numbers_that_share_a_place_in_the_kernels_map(lab: Lab) -> None:
    """65,536 apart. Counted as one, and a tun's frames read as Ethernet, its filter was open."""
    near, far, apart = lab.links[0].host, "tmlabfar", abi.IFINDEX_SLOTS
    number = lab.host.link(near)["ifindex"]
    lab.host.ip(f"link add index {number + apart} name {far} type veth", f"link set {far} up")
    with Daemon(lab, interfaces=["tmlab*"]) as daemon:
        status = daemon.status()
        assert near in watched(status)
        assert far not in watched(status)
        assert f"{far} is not watched: cannot attach to {far}: its index {number + apart} shares" in str(status)
        lab.host.ip(f"link del {far}", f"link add name {far} type veth", f"link set {far} up")
        daemon.wait_status(lambda now: far in watched(now) and not now["unwatched"], "another number")


def test_names_that_are_no_utf_8_are_names(lab: Lab) -> None:
    odd = [b"x\xff\xfe", b"y\x1b[31m"]
    for name in odd:
        add(lab, name)
    with Daemon(lab, SETTINGS, interfaces=["default-route", "x*", "/y.*/"]) as daemon:
        names = {"tmlab0", r"x\xff\xfe", r"y\x1b[31m"}
        assert watched(daemon.status()) == names
        late = b"x\xc3\x28"
        add(lab, late)
        daemon.wait_status(lambda s: watched(s) == names | {r"x\xc3("}, "one more to be watched")
        lab.host.run("ip", "link", "del", late.decode(errors="surrogateescape"))
        daemon.wait_status(lambda s: watched(s) == names, "its end")
        assert r"x\xff\xfe" in daemon.control("status").stdout
        assert r'interface="x\\xff\\xfe"' in daemon.control("metrics").stdout
        assert "Traceback" not in daemon.said()


def test_pins_that_were_removed_are_said_and_no_reason_to_leave_an_interface_open(lab: Lab, daemon: Daemon) -> None:
    remove_pins(daemon.pins / "links")
    for each in daemon.pins.iterdir():
        remove_pins(each)
    status = daemon.wait_status(lambda s: "have been removed" in str(s["warnings"]), "a word in status")
    assert status["unwatched"] == []
    assert str(daemon.pins) in str(status["warnings"])
    daemon.wait(lambda: "have been removed" in daemon.said(), "a word in the journal", 8)
    assert dropped(lab)
    link = lab.links[0]
    lab.host.ip(f"link del {link.host}")
    lab.connect(link)
    lab.host.ip(f"route add default via {link.outside_ip}")
    daemon.wait(lambda: dropped(lab), "the new interface to be filtered")
    assert watched(daemon.status()) == {link.host}
    daemon.stop()
    daemon.start()
    assert "have been removed" not in str(daemon.status()["warnings"])
    assert dropped(lab)


@pytest.fixture
def elsewhere(lab: Lab) -> Iterator[Namespace]:
    """A network namespace in which no interface has the number of another one."""
    third = Namespace(f"{lab.name}-third")
    lab.host.run("ip", "netns", "add", third.name)
    yield third
    lab.host.run("ip", "netns", "del", third.name)


def test_one_that_is_moved_to_another_namespace_is_said_and_watched_again(lab: Lab, elsewhere: Namespace) -> None:
    link, other = lab.links
    with Daemon(lab, SETTINGS, interfaces=[link.host, other.host, "new*"]) as daemon:
        daemon.control("ban", BAD)
        index = lab.host.link(other.host)["ifindex"]
        lab.host.ip(f"link set {other.host} netns {elsewhere}")
        status = daemon.wait_status(lambda s: watched(s) == {link.host}, "the other to be missed")
        assert status["warnings"][0].startswith(f"{other.host}: it was moved to another network namespace")
        elsewhere.ip(f"link set {other.host} netns {lab.host}")
        status = daemon.wait_status(lambda s: watched(s) == {link.host, other.host}, "it to be back")
        assert status["unwatched"] == []
        lab.host.ip(f"addr add {other.host_ip}/24 dev {other.host}", f"link set {other.host} up")
        assert dropped(lab, 1)
        lab.host.ip(f"link set {other.host} netns {elsewhere}")
        daemon.wait_status(lambda s: watched(s) == {link.host}, "it to be missed again")
        lab.host.ip(f"link add new0 index {index} type veth peer name new1")
        status = daemon.wait_status(lambda s: {"new0", "new1"} <= watched(s), "another one with its number")
        assert f"{other.host} does not exist" in status["unwatched"][0]
