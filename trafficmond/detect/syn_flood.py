"""Openings that nobody finishes pile up at one victim.

Told by the victim, since sources are forged: within some seconds more TCP openings stay unfinished than a default
backlog holds, and far more than are completed. The attacker is named only if one source sends nearly all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address, crowd, strongest, table_counters
from trafficmond.detect.dials import ACK, RST, SYN, TCP, Kind, Outcome
from trafficmond.detect.windows import NOWHERE, Grouped, Table, decay, estimate, mark, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_REFUSED_WEIGHT = 0.25  # a reset costs the victim little, and clients of a stopped service collect many
_RETRANSMISSIONS = 6  # of one opening: tcp_syn_retries of Linux (ip-sysctl); more of the same tuple is a flood's
_ANY_PORT = -1
_ANY_PORT_FACTOR = 8  # a flood over random ports must be so much larger, and of many sources
_ANY_PORT_SOURCES = 64
_ONE_SOURCE = 0.9


@dataclass(frozen=True)
class Settings:
    """[detect.syn_flood]"""

    enabled: bool = setting(True, help="Look for SYN floods.")
    unfinished: int = setting(256, min=16, max=1 << 20, help="Unfinished openings at one port of one host in a window.")
    window: float = duration("10s", min="1s", max="5m", help="How long openings are remembered (they fade out).")
    completed_share: float = setting(0.25, min=0.0, max=1.0, help="A port that completes more of its openings copes.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Victims watched at once; 0.4 kB each.")


class SynFlood:
    """See the module."""

    name: ClassVar[str] = "syn_flood"
    technique: ClassVar[str] = "T1499.001"
    identity: ClassVar[tuple[str, ...]] = ("dst_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 300.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [("at", "f8"), ("unfinished", "f8"), ("completed", "f8"), ("total", "f8")]
        source = [("source", "u8"), ("from_source", "f8"), ("map", "u1", 256)]
        self._victims = Table([*fields, *source], settings.capacity, credit_s=5.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        rows = _openings(seen)
        if not len(rows):
            return []
        threats = self._judge(rows, rows["dport"].astype(np.int64), seen.now)
        named = {threat.dst_ip for threat in threats}
        # The victim as a whole only where no port of it stands out.
        spread = self._judge(rows, np.full(len(rows), _ANY_PORT), seen.now)
        return threats + [threat for threat in spread if threat.dst_ip not in named]

    def _judge(self, rows: Batch, port: Column, now: float) -> list[Threat]:
        """Add the openings up by victim and port; the threats that makes."""
        victims = Grouped(mix(rows["victim"], port))
        slots = self._victims.watch(victims.keys, victims.sum(rows["weight"]), now, np.inf)
        states, here = self._victims.rows, np.flatnonzero(slots != NOWHERE)
        decay(states, slots[here], now, self._settings.window, ("unfinished", "completed"))
        idle = here[states["unfinished"][slots[here]] < 1]
        for field in ("total", "from_source"):
            states[field][slots[idle]] = 0
        states["map"][slots[idle]] = 0
        states["source"][slots[idle]] = rows["source"][victims.first[idle]]

        slot = slots[victims.of]
        kept = np.flatnonzero(slot != NOWHERE)
        slot, weight, source = slot[kept], rows["weight"][kept], rows["source"][kept]
        blamed = weight > 0
        mark(states["map"], slot[blamed], source[blamed])
        for field, amount in (
            ("unfinished", weight),
            ("total", weight),
            ("completed", ~blamed),
            ("from_source", weight * (states["source"][slot] == source)),
        ):
            self._victims.add(field, slot, amount)
        return self._threats(rows, port, victims, slots, now)

    def _threats(self, rows: Batch, port: Column, victims: Grouped, slots: Column, now: float) -> list[Threat]:
        settings, states = self._settings, self._victims.rows
        any_port = bool(port[0] == _ANY_PORT)
        unfinished, completed = states["unfinished"][slots], states["completed"][slots]
        over = (slots != NOWHERE) & (unfinished >= (_ANY_PORT_FACTOR if any_port else 1) * settings.unfinished)
        over &= completed < settings.completed_share * (unfinished + completed)
        threats = []
        for group in strongest(over, unfinished):
            state, one = states[slots[group]], rows[victims.first[group]]
            sources = int(estimate(state["map"]))
            if any_port and sources < _ANY_PORT_SOURCES:
                continue
            single = bool(state["from_source"] >= _ONE_SOURCE * state["total"])
            src = address(one, "src") if single else None
            dst = address(one, "dst")
            where = "many ports" if any_port else f"port {one['dport']}"
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.CRITICAL if state["unfinished"] >= 16 * settings.unfinished else Severity.HIGH,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(state["since"]),
                    last_seen=now,
                    count=int(state["total"]),
                    summary=f"openings at {where} of {dst} stay unfinished: {state['unfinished']:.0f} "
                    f"in {settings.window:.0f} s from {src or crowd(sources, state['map'])}",
                    evidence={
                        "unit": "openings",
                        "unfinished": int(state["unfinished"]),
                        "completed": int(state["completed"]),
                        "sources": sources,
                        "ports": [] if any_port else [int(one["dport"])],
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._victims)


def _openings(seen: Observation) -> Batch:
    """_OPENING for each opening judged, and for each tuple that is opened over and over."""
    dials = seen.dials.take(seen.dials["kind"] == Kind.SYN)
    flows = seen.flows
    stuck = (flows["d_packets"] > _RETRANSMISSIONS) & (flows["proto"] == TCP)
    stuck &= (flows["first_flags"] & (SYN | ACK) == SYN) & (flows["tcp_flags"] & (ACK | RST) == 0) & ~flows["new"]
    again = np.flatnonzero(stuck)
    rows, begun = np.zeros(len(dials) + len(again), _OPENING), slice(len(dials))
    for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "family", "dport"):
        rows[name] = np.concatenate([dials[name], flows[name][again]])
    for name, ours, theirs in (("source", "src", seen.src), ("victim", "dst", seen.dst)):
        rows[name] = np.concatenate([dials[ours], theirs[again]])
    rows["weight"] = np.concatenate([dials["packets"], flows["d_packets"][again]])
    rows["weight"][begun][dials["packets"] <= _RETRANSMISSIONS] = 1.0
    rows["weight"][begun][dials["outcome"] == Outcome.REFUSED] *= _REFUSED_WEIGHT
    rows["weight"][begun][dials["outcome"] == Outcome.ANSWERED] = 0.0
    return rows


_OPENING = np.dtype(
    [
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("source", "u8"),
        ("victim", "u8"),
        ("weight", "f8"),  # 0: completed
        ("dport", "u2"),
        ("family", "u1"),
    ]
)
