"""The addresses that are ours.

Ours are private addresses, those of this host, and the networks that the settings name; in a capture also the address,
or the IPv6 link, that nearly every packet goes to or comes from, since it was taken there. Only a host of ours can be a
beacon or send data out; clients from outside are not judged by their rhythm.
"""

from collections.abc import Iterable

import numpy as np

from trafficmond.detect.windows import Columns, Grouped
from trafficmond.flows.batch import Batch, Column, address_text, split_address
from trafficmond.networks import Network, parse

_SIDE_SHARE = 0.9
_SIDE_PACKETS = 20


class Prefixes:
    """A set of prefixes, matched against columns of addresses."""

    def __init__(self, prefixes: Iterable[Network] = ()) -> None:
        self._ranges: dict[Network, tuple[int, np.uint64, np.uint64, np.uint64, np.uint64]] = {}
        self.set(prefixes)

    def set(self, prefixes: Iterable[Network]) -> None:
        self._ranges.clear()
        for prefix in prefixes:
            self.add(prefix)

    def add(self, prefix: Network) -> None:
        hi, lo = split_address(prefix.network_address.packed)
        mask = (1 << 128) - (1 << (prefix.max_prefixlen - prefix.prefixlen))
        words = (hi, lo, mask >> 64, mask & (1 << 64) - 1)
        base_hi, base_lo, hi_mask, lo_mask = (np.uint64(word) for word in words)
        self._ranges[prefix] = (prefix.version, base_hi, base_lo, hi_mask, lo_mask)

    def holds(self, hi: Column, lo: Column, family: Column) -> Column:
        """A mask of addresses in one of the prefixes."""
        found: Column = np.zeros(len(lo), bool)
        for version, base_hi, base_lo, hi_mask, lo_mask in self._ranges.values():
            found |= (family == version) & (hi & hi_mask == base_hi) & (lo & lo_mask == base_lo)
        return found

    def has(self, address: str) -> bool:
        """Whether one of the prefixes holds an IPv6 address."""
        words = (*split_address(parse(address).network_address.packed), 6)
        return bool(self.holds(*(np.array([word], np.uint64) for word in words))[0])

    def side(self, rows: Columns, side: str) -> Column:
        """A mask of rows with their `side` ("src", "dst") address in one of the prefixes."""
        return self.holds(rows[f"{side}_hi"], rows[f"{side}_lo"], rows["family"])


class Ours(Prefixes):
    """The prefixes that are ours besides private space, which always is."""

    def holds(self, hi: Column, lo: Column, family: Column) -> Column:
        return is_private(hi, lo, family) | super().holds(hi, lo, family)


def capture_sides(rows: Batch) -> list[Network]:
    """The address, in IPv6 the network of 64 bits (a link has one: RFC 4291), that nine in ten of the packets of DELTA
    rows have on a side, of each family that has one."""
    return [side for family in (4, 6) if (side := _capture_side(rows[rows["family"] == family], family)) is not None]


def _capture_side(rows: Batch, family: int) -> Network | None:
    packets = rows["packets"].astype(np.float64)
    total = packets.sum()
    if total < _SIDE_PACKETS:
        return None
    hi, lo = (np.concatenate([rows[f"{side}_{word}"] for side in ("src", "dst")]) for word in ("hi", "lo"))
    by = Grouped(hi if family == 6 else lo)
    over = np.flatnonzero(by.sum(np.tile(packets, 2)) >= _SIDE_SHARE * total)
    if len(over) != 1:
        return None  # with only two hosts, it is unknown which of them made the capture
    at = by.first[over[0]]
    private = is_private(hi, lo, np.full(len(hi), family))
    if packets[private[: len(rows)] | private[len(rows) :]].sum() > 0.5 * total:
        return None  # one of our private hosts, or a stranger among them
    return parse(f"{address_text(int(hi[at]), int(lo[at]) if family == 4 else 0, family)}/{32 if family == 4 else 64}")


def is_private(hi: Column, lo: Column, family: Column) -> Column:
    """A mask of addresses outside of the public Internet: RFC 1918, 6598, 3927, 4193, 4291, loopback, multicast."""
    low = np.asarray(lo) & np.uint64(0xFFFFFFFF)
    top = low >> np.uint64(24)
    v4: Column = (top == 10) | (top == 127) | (top == 0) | (top >= 224)
    v4 |= (low >> np.uint64(20) == 0xAC1) | (low >> np.uint64(16) == 0xC0A8) | (low >> np.uint64(16) == 0xA9FE)
    v4 |= low >> np.uint64(22) == 0x64 << 2 | 1
    if bool(np.all(np.asarray(family) == 4)):
        return v4
    high = np.asarray(hi)
    v6 = (high >> np.uint64(57) == 0x7E) | (high >> np.uint64(54) == 0x3FA) | (high >> np.uint64(56) == 0xFF)
    v6 |= (high == 0) & (np.asarray(lo) <= np.uint64(1))
    return np.where(np.asarray(family) == 4, v4, v6)
