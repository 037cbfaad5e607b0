"""Frames with stacks of link headers before an IP packet, and frames of other protocols."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from tmlab.packets import MACS, udp

TAG, PROVIDER, MPLS = 0x8100, 0x88A8, 0x8847
# ARP, LLDP, EAPOL, LACP, MACsec, PPPoE, PTP, batman-adv, Cisco's and the old QinQ's tag, an unknown one; STP by length.
NOT_IP = (0x0806, 0x88CC, 0x888E, 0x8809, 0x88E5, 0x8864, 0x88F7, 0x4305, 0x8909, 0x9100, 0x1234, 0x0026)


def tagged(inside: bytes, *tags: tuple[int, int]) -> bytes:
    """An Ethernet frame with (EtherType, TCI) pairs put before its own type."""
    return inside[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + inside[12:]


def labelled(inside: bytes, *labels: int) -> bytes:
    """An Ethernet frame around an IP packet, with MPLS labels (RFC 3032) between them."""
    last = len(labels) - 1
    words = [struct.pack("!I", label << 12 | (at == last) << 8 | 64) for at, label in enumerate(labels)]
    return inside[:12] + struct.pack("!H", MPLS) + b"".join(words) + inside[14:]


def stacked(
    dice: random.Random, inside: Sequence[bytes], vlans: Sequence[int] = (), labels: Sequence[int] = range(16, 1 << 20)
) -> bytes:
    """One of `inside` behind up to 40 link headers, mostly such as the host takes off by itself.

    `vlans`: numbers that it has interfaces for. `labels`: those to choose from.
    """
    frame = dice.choice(inside)
    if dice.random() < 0.15:
        frame = labelled(frame, *(dice.choice(labels) for _ in range(dice.randint(1, 20))))
    if dice.random() < 0.1:
        frame = MACS + struct.pack("!H", dice.choice(NOT_IP)) + frame[12:]
    depth = dice.choice((0, 1, 2, 3, 4, 8, dice.randint(1, 40)))
    numbers = (0, 0, 0, 0xE000, 0x1000, dice.randrange(1 << 16), *vlans)
    return tagged(frame, *((dice.choice((TAG, TAG, PROVIDER)), dice.choice(numbers)) for _ in range(depth)))


def not_ip(ethertype: int) -> bytes:
    """A frame of another protocol, as long as the shortest."""
    return udp("203.0.113.7", "10.99.0.1")[:12] + struct.pack("!H", ethertype) + bytes(46)
