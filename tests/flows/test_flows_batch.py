"""Columns and their helpers: addresses as text, whole rows moved, verdict words taken apart."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.flows.batch import DELTA, Batch, address_text, addresses, empty, put, split_address, take
from trafficmond.model import Action, Reason
from trafficmond.verdict import action_of, is_drop, verdict_word

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@given(st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), min_size=1, max_size=20))
def test_addresses_are_what_inet_ntop_says(
    given_addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    halves = [split_address(address.packed) for address in given_addresses]
    hi, lo = (np.array(column, dtype=np.uint64) for column in zip(*halves, strict=True))
    family = np.array([address.version for address in given_addresses], dtype=np.uint8)
    expected = [
        socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)
        for address in given_addresses
    ]
    assert addresses(hi, lo, family) == expected
    assert [address_text(h, l, a.version) for (h, l), a in zip(halves, given_addresses, strict=True)] == expected  # noqa: E741


def test_rows_are_moved_whole(deltas: Callable[..., Batch]) -> None:
    batch = deltas(*({"sport": port, "bytes": port * 7, "first": port / 3} for port in range(10)))
    picked = take(batch, np.array([7, 2, 2]))
    assert picked.dtype == DELTA
    assert (picked == batch[[7, 2, 2]]).all()
    target = empty(DELTA, 5)
    put(target, np.array([4, 0, 1]), picked)
    assert (target[[4, 0, 1]] == picked).all()
    assert (target[[2, 3]] == empty(DELTA, 2)).all()


def test_actions_of_verdict_words() -> None:
    words = np.array([verdict_word(action, Reason.LIST, 0xFFFFFF) for action in Action], dtype=np.uint32)
    assert action_of(words).tolist() == list(Action)
    assert is_drop(words).tolist() == [False, False, True, False]
