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
from trafficmond.detect.base import Observation, address, strongest, table_counters
from trafficmond.detect.dials import ACK, RST, SYN, TCP, Kind, Outcome
from trafficmond.detect.windows import NOWHERE, Grouped, Table, decay, estimate, mark_new, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_REFUSED_WEIGHT = 0.25  # a reset costs the victim little, and clients of a stopped service collect many
_RETRANSMISSIONS = 6  # of one opening: tcp_syn_retries of Linux (ip-sysctl); more of the same tuple is a flood's
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
        rows, weight, completed = self._openings(seen)
        if not len(rows):
            return []
        port = np.concatenate([rows["dport"].astype(np.int64), np.full(len(rows), -1)])
        victims = Grouped(mix(np.tile(rows["victim"], 2), port))
        source, weight, completed = np.tile(rows["source"], 2), np.tile(weight, 2), np.tile(completed, 2)
        slots = self._victims.watch(victims.keys, victims.sum(weight), seen.now, np.inf)
        here = np.flatnonzero(slots != NOWHERE)
        decay(self._victims.rows, slots[here], seen.now, self._settings.window, ("unfinished", "completed"))
        idle = here[self._victims.rows["unfinished"][slots[here]] < 1]
        self._begin(slots[idle], source[victims.first[idle]])

        slot = slots[victims.of]
        kept = np.flatnonzero((slot != NOWHERE) & ((weight > 0) | completed))
        slot, source, weight = slot[kept], source[kept], weight[kept]
        mark_new(self._victims.rows["map"], slot, source)
        same = self._victims.rows["source"][slot] == source
        for field, amount in (
            ("unfinished", weight),
            ("total", weight),
            ("completed", completed[kept]),
            ("from_source", weight * same),
        ):
            self._victims.add(field, slot, amount)
        return self._threats(rows, port, victims, slots, seen.now)

    def _begin(self, slots: Column, sources: Column) -> None:
        """A quiet victim's story starts again."""
        rows = self._victims.rows
        for field in ("total", "from_source"):
            rows[field][slots] = 0
        rows["map"][slots] = 0
        rows["source"][slots] = sources

    def _openings(self, seen: Observation) -> tuple[Batch, Column, Column]:
        """(rows, weight, completed) of judged openings, and of tuples that are opened over and over."""
        dials = seen.dials[seen.dials["kind"] == Kind.SYN]
        flows = seen.flows
        stuck = (flows["proto"] == TCP) & (flows["first_flags"] & (SYN | ACK) == SYN) & ~flows["new"]
        stuck &= (flows["tcp_flags"] & (ACK | RST) == 0) & (flows["d_packets"] > _RETRANSMISSIONS)
        again = np.flatnonzero(stuck)
        rows = np.zeros(len(dials) + len(again), _OPENING)
        for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "family", "dport"):
            rows[name] = np.concatenate([dials[name], flows[name][again]])
        rows["source"] = np.concatenate([dials["src"], seen.src[again] if len(again) else dials["src"][:0]])
        rows["victim"] = np.concatenate([dials["dst"], seen.dst[again] if len(again) else dials["dst"][:0]])
        sent = dials["packets"].astype(np.float64)
        weight = np.where(sent > _RETRANSMISSIONS, sent, 1.0)
        weight[dials["outcome"] == Outcome.REFUSED] *= _REFUSED_WEIGHT
        completed = dials["outcome"] == Outcome.ANSWERED
        weight[completed] = 0
        return (
            rows,
            np.concatenate([weight, flows["d_packets"][again].astype(np.float64)]),
            np.concatenate([completed, np.zeros(len(again), bool)]),
        )

    def _threats(self, rows: Batch, port: Column, victims: Grouped, slots: Column, now: float) -> list[Threat]:
        settings = self._settings
        states = self._victims.rows[np.maximum(slots, 0)]
        unfinished, completed = states["unfinished"], states["completed"]
        any_port = port[victims.first] < 0
        over = unfinished >= np.where(any_port, _ANY_PORT_FACTOR, 1) * settings.unfinished
        over &= completed < settings.completed_share * (unfinished + completed)
        over &= ~any_port | (estimate(states["map"]) >= _ANY_PORT_SOURCES)
        threats = []
        # Ports first: the victim as a whole only where no port of it stands out.
        weight = np.where(any_port, 0, states["total"])
        named: set[str] = set()
        for group in strongest(over & (slots != NOWHERE), weight):
            state, one = states[group], rows[victims.first[group] % len(rows)]
            sources = int(estimate(state["map"]))
            single = bool(state["from_source"] >= _ONE_SOURCE * state["total"])
            src = address(one, "src") if single else None
            dst = address(one, "dst")
            if any_port[group] and dst in named:
                continue
            named.add(dst)
            where = "many ports" if any_port[group] else f"port {one['dport']}"
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
                    f"in {settings.window:.0f} s from {src or f'{sources} or more sources'}",
                    evidence={
                        "unit": "openings",
                        "unfinished": int(state["unfinished"]),
                        "completed": int(state["completed"]),
                        "sources": sources,
                        "ports": [] if any_port[group] else [int(one["dport"])],
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._victims)


_OPENING = np.dtype(
    [
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("source", "u8"),
        ("victim", "u8"),
        ("dport", "u2"),
        ("family", "u1"),
    ]
)
