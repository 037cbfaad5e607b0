"""What the kernel is told of bans that lie in one another, so that an address is free when its last ban has ended."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.banlist import BanList
from trafficmond.datapath.bans import KernelBan
from trafficmond.errors import DatapathError
from trafficmond.networks import Network
from trafficmond.store.records import Ban

NOW = 1000.0


class Trie:
    """The kernel's table: it looks at the longest prefix alone, and at its end."""

    def __init__(self, room: int = 100) -> None:
        self.entries: dict[Network, float | None] = {}
        self.room = room

    def put(self, ban: KernelBan) -> None:
        if ban.network not in self.entries and len(self.entries) == self.room:
            raise DatapathError("full")
        self.entries[ban.network] = ban.expires

    def remove(self, network: Network) -> bool:
        return self.entries.pop(network, 0.0) != 0.0

    def __iter__(self) -> Iterator[KernelBan]:
        return iter([KernelBan(network, expires) for network, expires in self.entries.items()])

    def drops(self, address: str, now: float) -> bool:
        host = ipaddress.ip_address(address)
        covering = [network for network in self.entries if host in network]
        if not covering:
            return False
        expires = self.entries[max(covering, key=lambda network: network.prefixlen)]
        return expires is None or now < expires


def ban(cidr: str, expires: float | None, since: float = NOW) -> Ban:
    return Ban(cidr, "root", "", since, expires)


def made(kernel: Trie, *bans: Ban) -> BanList:
    banlist = BanList(kernel, lambda: None)
    for each in bans:
        banlist.add(each)
    return banlist


def test_a_ban_once_forced_stays_so_until_it_is_lifted() -> None:
    kernel = Trie()
    banlist = made(kernel, replace(ban("192.0.2.1/32", NOW + 60), forced=True), ban("192.0.2.2/32", NOW + 60))
    banlist.add(ban("192.0.2.1/32", NOW + 90))
    one = ipaddress.ip_network("192.0.2.1/32")
    assert banlist.forced() == {one}
    restarted = BanList(kernel, lambda: None)
    restarted.restore(banlist.all(), NOW + 1)
    assert restarted.forced() == {one}
    restarted.lift(one)
    assert restarted.forced() == set()


CIDRS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.1.1.2/32", "10.2.0.0/16", "2001:db8::/32"]
STEPS = st.lists(
    st.tuples(st.sampled_from(CIDRS), st.one_of(st.none(), st.integers(1, 20)), st.booleans()), max_size=12
)


@given(STEPS)
def test_the_kernel_drops_what_any_ban_covers_for_as_long_as_the_last_of_them_lasts(
    steps: list[tuple[str, int | None, bool]],
) -> None:
    kernel, told = Trie(), dict[str, float | None]()
    banlist = made(kernel)
    for cidr, lasts, lift in steps:
        if lift:
            banlist.lift(ipaddress.ip_network(cidr))
            wide = ipaddress.ip_network(cidr)
            told = {
                each: end
                for each, end in told.items()
                if ipaddress.ip_network(each).version != wide.version or not ipaddress.ip_network(each).subnet_of(wide)  # type: ignore[arg-type]
            }
        else:
            told[cidr] = None if lasts is None else NOW + lasts
            banlist.add(ban(cidr, told[cidr]))
    again = Trie()
    BanList(again, lambda: None).restore(banlist.all(), NOW)
    for late in (0, 5, 10, 15, 25):
        for forgotten in (False, True):
            if forgotten:
                banlist.expire(NOW + late)
            for address in ("10.9.9.9", "10.1.9.9", "10.1.1.9", "10.1.1.1", "10.1.1.2", "10.2.0.1", "2001:db8::1"):
                banned = any(
                    ipaddress.ip_address(address) in ipaddress.ip_network(cidr) and (end is None or NOW + late < end)
                    for cidr, end in told.items()
                )
                assert kernel.drops(address, NOW + late) == banned, (address, late, kernel.entries)
                assert again.drops(address, NOW + late) == banned, "after a restart"


def test_what_only_the_kernel_remembers_is_taken_up() -> None:
    kernel = Trie()
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.1"), NOW + 60))
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.2"), NOW - 1))
    kernel.put(KernelBan(ipaddress.ip_network("192.0.2.3"), NOW + 60))
    banlist = BanList(kernel, lambda: None)
    banlist.restore([ban("192.0.2.3/32", NOW - 5)], NOW)  # ended, though the kernel's entry has another end
    assert [(each.cidr, each.by, each.expires) for each in banlist.all()] == [("192.0.2.1/32", "unknown", NOW + 60)]
    assert ipaddress.ip_network("192.0.2.3") not in kernel.entries


def test_a_full_table_changes_nothing() -> None:
    kernel = Trie(room=1)
    banlist = made(kernel, ban("192.0.2.1/32", NOW + 60))
    with pytest.raises(DatapathError):
        banlist.add(ban("192.0.2.2/32", NOW + 60))
    assert [each.cidr for each in banlist.all()] == ["192.0.2.1/32"]
    assert banlist.add(ban("192.0.2.1/32", NOW + 99, since=NOW + 9)).since == NOW


def test_the_bans_of_an_address_are_told_the_narrowest_first() -> None:
    banlist = made(Trie(), *(ban(cidr, None) for cidr in CIDRS))
    assert [each.cidr for each in banlist.covering("10.1.1.1")] == CIDRS[3::-1]
    assert banlist.covering("192.0.2.1") == []
    assert len(banlist) == len(CIDRS)
