"""One host calls another at regular intervals, as implants do.

Counted are dials, bursts merged to one beat; regular is a low variation of the gaps between beats, with requests
alike in size (RITA, activecm: dispersion of intervals and of sizes, from 20 connections on). Programs of the house
call each other so as well, so inside a private network it is only worth a note; clocks, names and announcements
are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address, is_private, strongest, table_counters
from trafficmond.detect.dials import Kind, Outcome
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, Table, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_RING = 32  # beats remembered of each
_BURST_S = 1.0
_NEVER = members(53, 67, 68, 123, 137, 138, 161, 162, 427, 514, 546, 547, 853, 1900, 3702, 5353, 5355, 5351)
_ALIKE = 0.25  # variation coefficient of the requests' sizes


@dataclass(frozen=True)
class Settings:
    """[detect.beacon]"""

    enabled: bool = setting(True, help="Look for beacons.")
    beats: int = setting(20, min=5, max=_RING, help="Beats before regularity is judged.")
    variation: float = setting(0.25, min=0.0, max=1.0, help="Most variation of the gaps (standard deviation by mean).")
    shortest: float = duration("1500ms", min="1s", max="1h", help="A mean gap below this is a conversation.")
    longest: float = duration("2h", min="1m", max="1d", help="Silence after which the count starts again.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 0.4 kB each.")


class Beacon:
    """See the module."""

    name: ClassVar[str] = "beacon"
    technique: ClassVar[str] = "T1071"
    identity: ClassVar[tuple[str, ...]] = ("src_ip", "dst_ip")
    yields_to: ClassVar[tuple[str, ...]] = ("port_scan", "host_sweep", "brute_force")
    quiet_s: ClassVar[float] = 21600.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [
            ("port", "u2"),
            ("beats", "i8"),
            ("last", "f8"),
            ("dials", "f8"),
            ("sent", "f8"),
            ("sent2", "f8"),
            ("times", "f8", _RING),
        ]
        self._services = Table(fields, settings.capacity, credit_s=300.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        dials = seen.dials
        wanted = (dials["kind"] == Kind.SYN) | (dials["kind"] == Kind.DATAGRAM)
        wanted &= ~_NEVER[dials["dport"]] & (dials["sport"] != dials["dport"])
        wanted &= dials["outcome"] == Outcome.ANSWERED
        dials = dials.take(wanted)
        if not len(dials):
            return []
        services = Grouped(mix(dials["src"], dials["dst"], dials["proto"], dials["dport"]))
        slots = self._services.watch(services.keys, services.sum(np.ones(len(dials))), seen.now, np.inf)
        slot = slots[services.of]
        in_time = np.argsort(dials["at"])
        in_time = in_time[slot[in_time] != NOWHERE]
        self._count(dials.take(in_time), slot[in_time])
        return self._threats(dials, services, slots, seen.now)

    def _count(self, dials: Columns, slot: Column) -> None:
        """Note the beats, in order of time, one of each service a round."""
        rows = self._services.rows
        sent = dials["payload_bytes"].astype(np.float64)
        for field, amount in (("dials", np.ones(len(dials))), ("sent", sent), ("sent2", sent * sent)):
            self._services.add(field, slot, amount)
        at, port, calls = dials["at"], dials["sport"], dials["kind"] == Kind.SYN
        while len(at):
            # Dials within a burst of the last beat fall away, and so do datagrams from the port of the last one: a
            # session kept alive, not a call. Of the rest, each service's earliest is its next beat.
            apart = (np.abs(at - rows["last"][slot]) >= _BURST_S) & (calls | (port != rows["port"][slot]))
            slot, at, port, calls = slot[apart], at[apart], port[apart], calls[apart]
            one, earliest = np.unique(slot, return_index=True)
            beat = at[earliest]
            stale = np.abs(beat - rows["last"][one]) > self._settings.longest
            rows["beats"][one[stale]] = 0
            rows["times"][one, rows["beats"][one] % _RING] = beat
            rows["beats"][one] += 1
            rows["last"][one] = beat
            rows["port"][one] = port[earliest]

    def _threats(self, dials: Columns, services: Grouped, slots: Column, now: float) -> list[Threat]:
        settings = self._settings
        beats = self._services.rows["beats"][slots]
        ripe = np.flatnonzero((beats >= settings.beats) & (slots != NOWHERE))
        states = self._services.rows[slots[ripe]]
        gaps, variation = _gaps(states)
        dialled = np.maximum(states["dials"], 1)
        mean = states["sent"] / dialled
        spread = np.sqrt(np.maximum(states["sent2"] / dialled - mean * mean, 0))
        regular = (variation <= settings.variation) & (gaps >= settings.shortest) & (spread <= _ALIKE * mean)
        threats = []
        for which in strongest(regular, states["beats"]):
            state, one = states[which], dials.rows(services.first[ripe[which]])
            src, dst, gap = address(one, "src"), address(one, "dst"), float(gaps[which])
            inside = bool(is_private(one["dst_hi"], one["dst_lo"], one["family"]))
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.LOW if inside else Severity.MEDIUM,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(state["since"]),
                    last_seen=now,
                    count=int(state["beats"]),
                    summary=f"{src} calls port {one['dport']} of {dst} every {gap:.1f} s",
                    evidence={
                        "unit": "beats",
                        "ports": [int(one["dport"])],
                        "mean_gap_s": round(gap, 2),
                        "variation": round(float(variation[which]), 3),
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._services)


def _gaps(states: Batch) -> tuple[Column, Column]:
    """(mean, variation coefficient) of the gaps between the beats remembered in each full enough row."""
    if not len(states):
        return np.zeros(0), np.zeros(0)
    count = np.minimum(states["beats"], _RING)
    beyond = np.arange(_RING) >= count[:, None]
    times = np.sort(np.where(beyond, np.inf, states["times"]), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(times, axis=1)
    valid = ~beyond[:, 1:]
    gaps = np.where(valid, gaps, 0.0)
    number = np.maximum(count - 1, 1)
    mean = gaps.sum(axis=1) / number
    deviation = np.sqrt((np.where(valid, gaps - mean[:, None], 0.0) ** 2).sum(axis=1) / number)
    return mean, deviation / np.maximum(mean, 1e-9)
