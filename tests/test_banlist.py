"""What the kernel is told of bans that lie in one another, so that an address is free when its last ban has ended."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond import networks, services
from trafficmond.banlist import BanList, Key
from trafficmond.datapath.bans import KernelBan
from trafficmond.errors import DatapathError
from trafficmond.networks import Network
from trafficmond.services import Places
from trafficmond.store.records import Ban

NOW = 1000.0


class Trie:
    """The kernel's table: it looks at the longest prefix alone, and at its end."""

    def __init__(self, room: int = 100) -> None:
        self.entries: dict[Network, float | None] = {}
        self.services: dict[Network, Places] = {}
        self.room, self.sets = room, 31

    def put(self, ban: KernelBan) -> None:
        if ban.network not in self.entries and len(self.entries) == self.room:
            raise DatapathError("full")
        others = {places for network, places in self.services.items() if network != ban.network}
        if len({*others, ban.services} - {()}) > self.sets:
            raise DatapathError("too many sets")
        self.entries[ban.network], self.services[ban.network] = ban.expires, ban.services

    def remove(self, network: Network) -> bool:
        self.services.pop(network, None)
        return self.entries.pop(network, 0.0) != 0.0

    def __iter__(self) -> Iterator[KernelBan]:
        return iter([KernelBan(network, end, self.services[network]) for network, end in self.entries.items()])

    def drops(self, address: str, now: float, service: str = "tcp/1") -> bool:
        host = ipaddress.ip_address(address)
        covering = [network for network in self.entries if host in network]
        if not covering:
            return False
        narrowest = max(covering, key=lambda network: network.prefixlen)
        expires = self.entries[narrowest]
        return (expires is None or now < expires) and services.contains(
            self.services[narrowest], services.parse([service])
        )


def ban(cidr: str, expires: float | None, since: float = NOW, owner: str = "root", ports: str = "") -> Ban:
    return Ban(cidr, "root", "", since, expires, owner=owner, ports=ports)


def made(kernel: Trie, *bans: Ban) -> BanList:
    banlist = BanList(kernel, lambda _put, _gone: None)
    for each in bans:
        banlist.add(each)
    return banlist


def test_a_ban_once_forced_stays_so_until_it_is_lifted() -> None:
    kernel = Trie()
    banlist = made(kernel, replace(ban("192.0.2.1/32", NOW + 60), forced=True), ban("192.0.2.2/32", NOW + 60))
    banlist.add(ban("192.0.2.1/32", NOW + 90))
    one = ipaddress.ip_network("192.0.2.1/32")
    assert banlist.forced() == {one}
    restarted = BanList(kernel, lambda _put, _gone: None)
    restarted.restore(banlist.all(), NOW + 1)
    assert restarted.forced() == {one}
    restarted.lift([one])
    assert restarted.forced() == set()


def test_what_was_done_before_the_stored_bans_could_be_read_stays_done() -> None:
    """They are read before those changes are written, if the store is slow at the start."""
    one, two, three, four = (ipaddress.ip_network(f"192.0.2.{n}/32") for n in range(1, 5))
    stored = [ban(str(each), NOW + 600) for each in (one, two, three, four)]
    kernel = Trie()
    banlist = made(kernel, ban(str(one), NOW + 60), ban(str(two), NOW + 5), ban(str(three), NOW + 60))
    banlist.lift([one])
    banlist.expire(NOW + 10)
    banlist.restore(stored, NOW + 10)
    assert {each.cidr: each.expires for each in banlist.all()} == {str(three): NOW + 60, str(four): NOW + 600}
    assert {each.network for each in kernel} == {three, four}


CIDRS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.1.1.2/32", "10.2.0.0/16", "2001:db8::/32"]
OWNERS = ["root", "fail2ban-sshd"]
STEPS = st.lists(
    st.tuples(st.sampled_from(CIDRS), st.sampled_from(OWNERS), st.one_of(st.none(), st.integers(1, 20)), st.booleans()),
    max_size=12,
)


@given(STEPS)
def test_the_kernel_drops_what_any_ban_covers_for_as_long_as_the_last_of_them_lasts(
    steps: list[tuple[str, str, int | None, bool]],
) -> None:
    kernel, told = Trie(), dict[tuple[str, str], float | None]()
    banlist = made(kernel)
    for cidr, owner, lasts, lift in steps:
        if lift:
            lifted, held = banlist.lift([ipaddress.ip_network(cidr)], owner)
            wide = ipaddress.ip_network(cidr)
            inside = {key for key in told if networks.within(ipaddress.ip_network(key[0]), wide)}
            assert {(each.cidr, each.owner) for each in lifted} == {key for key in inside if key[1] == owner}
            assert {(each.cidr, each.owner) for each in held} == {key for key in inside if key[1] != owner}
            told = {key: end for key, end in told.items() if key not in inside or key[1] != owner}
        else:
            told[cidr, owner] = None if lasts is None else NOW + lasts
            banlist.add(ban(cidr, told[cidr, owner], owner=owner))
    again = Trie()
    BanList(again, lambda _put, _gone: None).restore(banlist.all(), NOW)
    for late in (0, 5, 10, 15, 25):
        for forgotten in (False, True):
            if forgotten:
                banlist.expire(NOW + late)
            for address in ("10.9.9.9", "10.1.9.9", "10.1.1.9", "10.1.1.1", "10.1.1.2", "10.2.0.1", "2001:db8::1"):
                banned = any(
                    ipaddress.ip_address(address) in ipaddress.ip_network(cidr) and (end is None or NOW + late < end)
                    for (cidr, _), end in told.items()
                )
                assert kernel.drops(address, NOW + late) == banned, (address, late, kernel.entries)
                assert again.drops(address, NOW + late) == banned, "after a restart"
    assert len(banlist) == len(kernel.entries) == len({cidr for (cidr, _), end in told.items() if end is None})


PORTS = ["", "", "tcp/22", "tcp/443", "22", "tcp/20-30,udp/53", "udp", "icmp/8"]
ASKED = ["tcp/22", "tcp/443", "udp/22", "udp/53", "icmp/8", "gre"]


@given(STEPS, st.lists(st.sampled_from(PORTS), min_size=12, max_size=12))
def test_the_kernel_drops_the_services_that_any_ban_of_an_address_names(
    steps: list[tuple[str, str, int | None, bool]], ports: list[str]
) -> None:
    """As soon as it is told who has ended: until then the kernel knows of the last end alone."""
    kernel, told = Trie(), dict[tuple[str, str], tuple[float | None, str]]()
    banlist = made(kernel)
    for (cidr, owner, lasts, lift), named in zip(steps, ports, strict=False):
        if lift:
            lifted, _ = banlist.lift([ipaddress.ip_network(cidr)], owner)
            for each in lifted:
                del told[each.cidr, each.owner]
        else:
            told[cidr, owner] = None if lasts is None else NOW + lasts, named
            banlist.add(ban(cidr, told[cidr, owner][0], owner=owner, ports=named))
    again = Trie()
    BanList(again, lambda _put, _gone: None).restore(banlist.all(), NOW)
    for late in (0, 5, 15, 25):
        banlist.expire(NOW + late)
        for address in ("10.9.9.9", "10.1.1.9", "10.1.1.1", "10.2.0.1", "2001:db8::1"):
            for service in ASKED:
                banned = any(
                    ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
                    and (end is None or NOW + late < end)
                    and services.contains(services.parse(named.split(",")) if named else (), services.parse([service]))
                    for (cidr, _), (end, named) in told.items()
                )
                assert kernel.drops(address, NOW + late, service) == banned, (address, service, late, kernel.services)
                if late == 0:
                    assert again.drops(address, NOW, service) == banned, "after a restart"


def test_what_only_the_kernel_remembers_is_for_the_services_that_it_was_for() -> None:
    kernel = Trie()
    made(kernel, ban("192.0.2.1/32", NOW + 60, ports="tcp/65535,udp/0-20,gre,icmp"))
    restarted = BanList(kernel, lambda _put, _gone: None)
    # The kernel's own form: what touches is one, whatever it is of.
    kernel.services = {each: _touching(places) for each, places in kernel.services.items()}
    restarted.restore([], NOW)
    (known,) = restarted.all()
    assert (known.owner, set(known.ports.split(","))) == ("unknown", {"tcp/65535", "udp/0-20", "gre", "icmp"})


def _touching(places: Places) -> Places:
    result: list[tuple[int, int]] = []
    for first, last in sorted(places):
        if result and result[-1][1] + 1 == first:
            result[-1] = result[-1][0], last
        else:
            result.append((first, last))
    return tuple(result)


def test_more_sets_of_services_than_the_kernel_holds_are_refused_whole() -> None:
    kernel = Trie()
    kernel.sets = 3
    banlist = made(kernel, *(ban(f"192.0.2.{number}/32", NOW + 60, ports=f"tcp/{number}") for number in (1, 2, 3)))
    banlist.add(ban("192.0.2.9/32", NOW + 60, ports="tcp/3"))
    before = dict(kernel.services), banlist.all()
    with pytest.raises(DatapathError, match="too many sets"):
        banlist.add(ban("192.0.2.9/32", NOW + 60, owner="other", ports="tcp/4"))
    kernel.sets = 4
    with pytest.raises(DatapathError, match="too many sets"):
        banlist.add(ban("192.0.2.0/24", NOW + 60, ports="tcp/9"))  # with what the others within have
    assert (kernel.services, banlist.all()) == before
    assert banlist.waiting == 0


def test_what_is_left_of_several_waits_for_room_and_is_less_then() -> None:
    kernel = Trie()
    kernel.sets = 2
    banlist = made(
        kernel,
        ban("192.0.2.1/32", NOW + 60, ports="tcp/1"),
        ban("192.0.2.1/32", NOW + 10, owner="other", ports="tcp/2"),
        ban("192.0.2.2/32", NOW + 60, ports="tcp/1,tcp/2"),
        ban("192.0.2.3/32", NOW + 20, ports="tcp/3"),
    )
    banlist.expire(NOW + 15)
    assert banlist.waiting == 1
    assert kernel.drops("192.0.2.1", NOW + 15, "tcp/1"), "no ban is forgotten meanwhile"
    banlist.expire(NOW + 25)
    assert (banlist.waiting, kernel.drops("192.0.2.1", NOW + 25, "tcp/2")) == (0, False)
    assert kernel.drops("192.0.2.1", NOW + 25, "tcp/1")


@given(STEPS, st.lists(st.integers(0, 30), max_size=6))
def test_the_store_gets_every_change_and_nothing_else(
    steps: list[tuple[str, str, int | None, bool]], lates: list[int]
) -> None:
    stored: dict[tuple[str, str], Ban] = {}

    def changed(put: Sequence[Ban], gone: Sequence[Key]) -> None:
        for key in gone:
            del stored[key]
        stored.update({(each.cidr, each.owner): each for each in put})

    banlist = BanList(Trie(), changed)
    for at, (cidr, owner, lasts, lift) in enumerate(steps):
        if lift:
            banlist.lift([ipaddress.ip_network(cidr)], owner)
        else:
            banlist.add(ban(cidr, None if lasts is None else NOW + lasts, owner=owner))
        if at < len(lates):
            banlist.expire(NOW + lates[at])
        assert sorted(stored.values(), key=str) == sorted(banlist.all(), key=str)


def test_the_end_of_one_jails_ban_leaves_the_others() -> None:
    kernel = Trie()
    banlist = made(kernel, ban("203.0.113.9/32", NOW + 600, owner="fail2ban-sshd"))
    banlist.add(ban("203.0.113.9/32", NOW + 604800, owner="fail2ban-recidive"))
    banlist.add(ban("203.0.113.9/32", NOW + 600, owner="fail2ban-sshd"))
    host = ipaddress.ip_network("203.0.113.9")
    assert kernel.entries == {host: NOW + 604800}
    lifted, held = banlist.lift([host], "fail2ban-sshd")
    assert [each.owner for each in lifted] == ["fail2ban-sshd"]
    assert [each.owner for each in held] == ["fail2ban-recidive"]
    assert kernel.entries == {host: NOW + 604800}
    assert banlist.lift([host], "alice") == ([], held)
    assert banlist.lift([host]) == (held, [])
    assert kernel.entries == {}


def test_bans_that_nobody_owns_anybody_may_lift() -> None:
    banlist = made(Trie(), ban("203.0.113.9/32", None, owner="unknown"))
    lifted, held = banlist.lift([ipaddress.ip_network("203.0.113.0/24")], "alice")
    assert (len(lifted), held, len(banlist)) == (1, [], 0)


def test_bans_that_are_prolonged_for_ever_take_no_more_room() -> None:
    banlist = made(Trie())
    for number in range(10_000):
        banlist.add(ban("203.0.113.9/32", NOW + 100 + number))
    assert len(banlist._ends) < 200
    assert banlist.expire(NOW + 10_098) == []
    assert len(banlist.expire(NOW + 10_099)) == 1


@pytest.mark.parametrize("jump", [-31_536_000.0, 31_536_000.0])
def test_a_stepped_clock_ends_no_ban_and_prolongs_none(jump: float) -> None:
    kernel = Trie()
    banlist = made(kernel, ban("203.0.113.9/32", NOW + 20), ban("203.0.113.10/32", None))
    banlist.shift(jump)
    assert banlist.expire(NOW + jump + 19) == []
    assert [each.cidr for each in banlist.expire(NOW + jump + 20)] == ["203.0.113.9/32"]
    # And over a restart: the kernel goes by its own clock, so the end it tells has moved with the step.
    stored = [ban("203.0.113.9/32", NOW + 20), ban("203.0.113.8/32", NOW + 50)]
    kernel = Trie()
    for each in stored:
        kernel.put(KernelBan(ipaddress.ip_network(each.cidr), (each.expires or 0) + jump))
    again = BanList(kernel, lambda _put, _gone: None)
    again.restore(stored, NOW + jump + 5)
    assert {each.cidr: each.expires for each in again.all()} == {
        each.cidr: (each.expires or 0) + jump for each in stored
    }


def test_after_a_reboot_with_a_clock_behind_a_ban_lasts_no_longer_than_it_was_made_for() -> None:
    banlist = BanList(Trie(), lambda _put, _gone: None)
    banlist.restore([ban("203.0.113.9/32", NOW + 60)], 0.0)
    (restored,) = banlist.all()
    assert (restored.since, restored.expires) == (0.0, 60.0)


def test_too_many_owners_of_one_prefix_are_refused() -> None:
    banlist = made(Trie(), *(ban("203.0.113.9/32", None, owner=f"jail{number}") for number in range(64)))
    with pytest.raises(DatapathError, match="64 owners"):
        banlist.add(ban("203.0.113.9/32", None, owner="one-more"))
    banlist.add(ban("203.0.113.9/32", NOW + 5, owner="jail7"))


def test_what_only_the_kernel_remembers_is_taken_up() -> None:
    kernel = Trie()
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.1"), NOW + 60))
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.2"), NOW - 1))
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.3"), NOW + 60))
    banlist = BanList(kernel, lambda _put, _gone: None)
    banlist.restore([ban("192.0.2.3/32", NOW + 60)], NOW)
    found = sorted((each.cidr, each.by, each.owner, each.expires) for each in banlist.all())
    assert found == [("192.0.2.1/32", "unknown", "unknown", NOW + 60), ("192.0.2.3/32", "root", "root", NOW + 60)]


def test_a_full_table_changes_nothing() -> None:
    kernel = Trie(room=1)
    banlist = made(kernel, ban("192.0.2.1/32", NOW + 60))
    with pytest.raises(DatapathError):
        banlist.add(ban("192.0.2.2/32", NOW + 60))
    assert [each.cidr for each in banlist.all()] == ["192.0.2.1/32"]
    assert banlist.add(ban("192.0.2.1/32", NOW + 99, since=NOW + 9)).since == NOW


def test_the_bans_of_an_address_are_reported_the_narrowest_first() -> None:
    banlist = made(Trie(), *(ban(cidr, None) for cidr in CIDRS))
    assert [each.cidr for each in banlist.covering("10.1.1.1")] == CIDRS[3::-1]
    assert banlist.covering("192.0.2.1") == []
    assert len(banlist) == len(CIDRS)
