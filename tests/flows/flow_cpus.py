"""Connections from one port to one port as the kernel's ledger tells them: two CPUs, a clock of ticks, readings at any
moment. What begins another record is bpf/opening.h's rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from flow_rows import Row, make
from flow_talk import ACK, BACK, RST, SYN, SYN_ACK, THERE

from trafficmond.flows.batch import DELTA, Batch

FIN = 0x01
TICK_S = 0.004
_GAPS = (2e-5, 2e-5, 5e-5, 2e-4, 1e-3)  # between two packets of a connection


@dataclass
class Packet:
    """`mark` tells openings apart: of a SYN its own number, else the one it acknowledges."""

    at: float
    back: bool
    flags: int
    mark: int
    payload: bool = False


@dataclass
class Record:
    """Of one direction."""

    opened: Packet
    tick: float
    last: float = 0.0
    flags: int = 0
    packets: int = 0
    spoke: int = 0
    taken: int = 0
    taken_spoke: int = 0

    def other(self, packet: Packet) -> bool:
        """Whether a packet is of another connection (tm_opens_another)."""
        handshake, was = packet.flags & SYN_ACK, self.opened.flags & SYN_ACK
        if packet.flags & (FIN | RST):
            return False
        if self.flags & RST or (self.flags & FIN and packet.payload):
            return True
        if not handshake & SYN:
            return False
        if self.flags & FIN or (handshake == was and packet.mark != self.opened.mark):
            return True
        return bool(self.flags & ACK) if handshake == SYN else self.spoke > 0 or not self.flags & SYN


@dataclass
class Cpu:
    """Its part of the ledger."""

    slots: dict[bool, Record] = field(default_factory=dict)
    ring: list[Record] = field(default_factory=list)

    def book(self, packet: Packet) -> None:
        tick = (packet.at // TICK_S + 0.5) * TICK_S
        record = self.slots.get(packet.back)
        if record is None or record.other(packet):
            self.ring += [record] if record else []
            record = self.slots[packet.back] = Record(packet, tick)
        record.last = tick
        record.flags |= packet.flags
        record.packets += 1
        record.spoke += packet.payload

    def read(self) -> Iterator[Row]:
        for record in (*self.ring, *self.slots.values()):
            if record.packets > record.taken:
                yield {
                    **(BACK if record.opened.back else THERE),
                    **{"first": record.tick, "last": record.last, "new": not record.taken},
                    **{"tcp_flags": record.flags, "first_flags": record.opened.flags},
                    **{"packets": record.packets - record.taken, "payload_packets": record.spoke - record.taken_spoke},
                }
            record.taken, record.taken_spoke = record.packets, record.spoke
        self.ring.clear()


def connections(dice: random.Random, count: int, end: int, pause: float, at: float) -> Iterator[Packet]:
    """`count` of them, one after the other: greeted, asked and answered, ended by FIN or RST."""
    for number in range(count):
        mine, theirs = 1000 * number + 1, 1000 * number + 7
        talk = [(False, SYN, mine), (True, SYN_ACK, mine), (False, ACK, theirs), (True, ACK, mine, True)]
        talk += [(False, ACK, theirs + 5, True), (True, ACK, mine + 5, True), (False, ACK | end, theirs + 9)]
        talk += [(True, ACK | FIN, mine + 6), (False, ACK, theirs + 10)] if end == FIN else []
        for words in talk:
            yield Packet(at, *words)  # type: ignore[arg-type]
            at += dice.choice(_GAPS)
        at += pause * dice.uniform(0.9, 1.1)


def told(dice: random.Random, packets: list[Packet], moves: float) -> Iterator[tuple[Batch, float]]:
    """The batches of readings, a second apart or right among a connection's packets, and when each was. `moves`: how
    often the next packet comes to the other CPU."""
    cpus, cpu = (Cpu(), Cpu()), 0
    due = packets[0].at + dice.random()
    for packet in packets:
        if packet.at > due or dice.random() < 0.02:
            yield make(DELTA, [row for each in cpus for row in each.read()]), packet.at
            due = packet.at + 1
        cpu ^= dice.random() < moves
        cpus[cpu].book(packet)
    yield make(DELTA, [row for each in cpus for row in each.read()]), packets[-1].at + 1
